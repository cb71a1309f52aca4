"""User-data as a disk, and names made from marks: what can be looked at without libvirt."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kubeup_core import Context, InvalidSpec, Mark
from kubeup_libvirt import LibvirtConfig, LibvirtOverrides, build, marks, seed
from kubeup_libvirt.config import overrides

MARK = Mark(installation="i", cluster="", cluster_name="a.b c", kind="Volume", maker="m", keep=True)


def test_a_seed_has_its_label_its_size_and_its_files(tmp_path: Path) -> None:
    text = b"#cloud-config\n" + b"# a line\n" * 1000
    image = seed.seed("box", "id-0", text, "52:54:00:00:00:01", ("10.0.0.5/24", "10.0.0.1"))
    assert len(image) % seed.SECTOR == 0
    assert text in image
    file = tmp_path / "seed.iso"
    file.write_bytes(image)
    said = subprocess.run(
        [shutil.which("blkid", path="/sbin:/usr/sbin"), "-o", "export", str(file)], capture_output=True, text=True
    )
    assert "LABEL=cidata" in said.stdout
    assert "TYPE=iso9660" in said.stdout
    card = json.loads(image[image.index(b'{"version"') :].split(b"\0")[0])["ethernets"]["primary"]
    assert card["addresses"] == ["10.0.0.5/24"]
    assert card["match"] == {"macaddress": "52:54:00:00:00:01"}


def test_the_name_of_a_volume_is_its_mark_whatever_is_in_it() -> None:
    name = marks.volume_name(MARK, marks.DATA)
    found = marks.of_volume(name)
    assert found is not None
    assert found[0].same(MARK)
    assert found[0].cluster_name == "a.b c"
    assert found[1] == marks.DATA
    assert marks.of_volume("kubeup.something.qcow2") is None
    assert marks.of_volume("debian.qcow2") is None


@pytest.mark.parametrize("field", [{"uri": "qemu"}, {"acceleration": "fast"}, {"nothing": 1}, {"cpuMode": "a b"}])
def test_a_config_that_cannot_be_meant_is_refused(field: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        LibvirtConfig.model_validate(field)


def test_overrides_that_cannot_be_meant_name_their_field_and_those_that_there_are() -> None:
    problems = overrides({"addresses": "some", "disc": 1})
    assert isinstance(problems, list)
    assert {p.path for p in problems} == {"spec.overrides.libvirt.addresses", "spec.overrides.libvirt.disc"}
    assert "cmdline" in problems[0].remedy


def test_without_libvirt_python_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libvirt", None)
    for module in [name for name in sys.modules if name.startswith("kubeup_libvirt.")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(InvalidSpec, match="libvirt-python is not installed") as caught:
        build(LibvirtConfig(), Context(installation="i"))
    assert "libvirt-dev" in caught.value.remedy


def test_the_example_is_valid() -> None:
    from kubeup_core.kinds import KINDS

    kinds = {kind.kind: kind for kind in KINDS}
    text = Path(__file__).parents[3].joinpath("docs/examples/libvirt.yaml").read_text()
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        kinds[document["kind"]].model.model_validate(document)
    provider = next(d for d in documents if d["kind"] == "Provider")
    assert LibvirtConfig.model_validate(provider["spec"]["config"]).pool == "default"
    assert LibvirtOverrides.model_validate({})

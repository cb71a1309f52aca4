"""The repository's own promises: what every distribution looks like, who may import what, and what must not be committed.

Fails when the docs lag behind the code: each kind, command, hook, error and example stands somewhere a person finds it.
"""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
MEMBERS = sorted(
    p.parent
    for p in [*ROOT.glob("*/pyproject.toml"), *ROOT.glob("providers/*/pyproject.toml"), *ROOT.glob("plugins/*/pyproject.toml")]
)
SOURCES = sorted(f for m in MEMBERS for f in (m / "src").rglob("*.py"))
CORE = [f for f in SOURCES if (ROOT / "core") in f.parents]


def committed() -> list[Path]:
    """Files that git knows or would take."""
    out = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    return [ROOT / name for name in out.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def project(member: Path) -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((member / "pyproject.toml").read_text())["project"]
    return found


def relative(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("member", MEMBERS, ids=relative)
def test_a_member_is_small_named_and_packaged_as_a_stranger_would(member: Path) -> None:
    text = (member / "pyproject.toml").read_text().splitlines()
    assert 12 <= len([line for line in text if line.strip()]) <= 22
    name = str(project(member)["name"])
    package = member / "src" / name.replace("-", "_")
    assert package.is_dir()
    assert (package / "py.typed").exists()
    assert len((member / "README.md").read_text().splitlines()) >= 8, "a README is a map of about ten lines"


def test_all_members_have_one_version() -> None:
    root = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {str(project(m)["version"]) for m in MEMBERS} == {root}


def test_every_dependency_is_pinned_in_the_constraints_by_name_and_version_only() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9_.+!-]+", line) for line in lines)
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    for member in MEMBERS:
        for wanted in project(member)["dependencies"]:  # type: ignore[attr-defined]
            name = re.split(r"[<>=\[ ;]", wanted)[0].lower().replace("_", "-")
            assert name in pinned or name.startswith("kubeup"), f"{name} of {relative(member)} has no line in constraints.txt"


@pytest.mark.parametrize("source", SOURCES, ids=relative)
def test_a_module_opens_by_saying_what_it_does(source: Path) -> None:
    tree = ast.parse(source.read_text())
    assert not tree.body or ast.get_docstring(tree), f"{relative(source)} has no docstring"


def test_nothing_in_the_core_or_a_provider_sleeps() -> None:
    replaces = ROOT / "core/src/kubeup_core/testing/contracts/waiting.py"  # it catches suppliers that sleep
    for source in [f for f in SOURCES if (ROOT / "kubeup") not in f.parents and f != replaces]:
        for node in ast.walk(ast.parse(source.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time":
                assert node.attr != "sleep", f"{relative(source)}:{node.lineno}: the core's clock does the waiting"


def test_sqlite_is_imported_in_one_place_of_the_core() -> None:
    importing = {f.name for f in CORE if re.search(r"^\s*import sqlite3|^\s*from sqlite3", f.read_text(), re.MULTILINE)}
    assert importing <= {"sqlite.py"}


def test_the_core_does_not_know_which_provider_it_talks_to() -> None:
    types = {"sim", "docker", "libvirt", "aws", "gce"}
    harness = ROOT / "core/src/kubeup_core/testing/harness.py"  # what drives the simulator on purpose
    for file in [f for f in CORE if f != harness]:
        tree = ast.parse(file.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node.value in types and id(node) not in docstrings:
                pytest.fail(
                    f"{relative(file)}:{node.lineno}: the core names the provider type {node.value!r}; change the contract"
                )


def test_layers_hold() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_nothing_that_belongs_to_one_machine_is_committed() -> None:
    index = re.compile(
        r"index-url *=|^deb(-src)? .*https?://|https?://[^ \"]*/simple/|\"resolved\": *\"https?://", re.MULTILINE
    )
    home = str(ROOT.parent) + "/"
    for file in committed():
        if file == Path(__file__).resolve():
            continue
        assert file.name not in ("uv.lock", "poetry.lock"), f"{relative(file)} records download addresses"
        data = file.read_bytes()
        assert b"\0" not in data[:8192], f"{relative(file)} is binary"
        text = data.decode()
        assert home not in text or home == "/tmp/", f"{relative(file)} holds a path of this machine"
        assert not index.search(text), f"{relative(file)} names a package index"
        assert "PRIVATE KEY-----\n" not in text, f"{relative(file)} holds a private key"


CLOUDS = re.compile(
    r"(?<![a-z])(aws|ec2|ebs|gce|gcp|google|azure|boto3?|botocore|amazon|libvirt|qemu|hetzner|openstack)(?![a-z])", re.I
)


@pytest.mark.parametrize(
    "source", [f for f in SOURCES if ROOT / "core" in f.parents or ROOT / "kubeup" in f.parents], ids=relative
)
def test_the_core_and_the_command_know_no_cloud_by_name(source: Path) -> None:
    """Names, strings and imports; docstrings may give a cloud as the source of a fact or as an example."""
    tree = ast.parse(source.read_text())
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]
    prose = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)}
    words = [
        *(n.id for n in ast.walk(tree) if isinstance(n, ast.Name)),
        *(n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)),
        *(n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)),
        *(a.name for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) for a in n.names),
        *(n.name for n in nodes if not isinstance(n, ast.Module)),
        *(str(n.value) for n in ast.walk(tree) if isinstance(n, ast.Constant) and id(n) not in prose),
    ]
    assert [word for word in words if CLOUDS.search(word)] == []


def test_examples_are_yaml_of_kinds_that_exist() -> None:
    from kubeup_core.kinds import KINDS

    known = {k.kind for k in KINDS}
    for file in sorted((ROOT / "docs" / "examples").glob("*.yaml")):
        for document in yaml.safe_load_all(file.read_text()):
            assert document["kind"] in known, relative(file)


def docs() -> str:
    return "\n".join(f.read_text() for f in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))])


def test_every_kind_command_error_and_exit_code_is_documented() -> None:
    from kubeup.main import COMMANDS
    from kubeup_core import errors
    from kubeup_core.kinds import KINDS

    text = docs()
    missing = [k.kind for k in KINDS if f"`{k.kind}`" not in text and f"## {k.kind}" not in text]
    missing += [c for c in COMMANDS if f"kubeup {c}" not in text]
    missing += [e for e in errors.__all__ if f"`{e}" not in text]
    assert not missing, f"not in the docs: {missing}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not target.startswith("mailto:"):
                assert (page.parent / target).exists(), f"{relative(page)} links to {target}"


def test_the_reference_pages_are_what_the_code_says() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "reference" / "generate.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

"""Virtual machines beyond the contract: what is made, how it goes, addresses, firmware, what somebody did behind our back."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from kubeup_core import (
    InvalidSpec,
    Member,
    NetworkSpec,
    NoCapacity,
    NotFound,
    NotReady,
    Outcome,
    Phase,
    Scope,
    Taken,
    VolumeSpec,
)
from kubeup_core.user_data import render


@pytest.fixture
def at(place):
    """A connection of the test's own."""
    import libvirt

    connection = libvirt.open(place.hypervisor.uri)
    yield connection
    connection.close()


def seen(place):
    return place.machines.observe(Scope(installation=place.installation))


def delete(place) -> None:
    found = seen(place)
    for result in place.machines.delete([*(i.ref for i in found.items), *found.strays]):
        assert result.outcome is Outcome.MADE, result


def left(at) -> list[str]:
    pool = at.storagePoolLookupByName("default")
    pool.refresh()
    return [name for name in pool.listVolumes() if name.startswith("kubeup.")]


def test_a_machine_with_nvram_a_snapshot_and_a_managed_save_goes_without_a_trace(place, at) -> None:
    import libvirt

    launch = place.launch(firmware="efi")
    assert place.machines.launch(launch)[0].outcome is Outcome.MADE
    domain = at.lookupByUUIDString(seen(place).items[0].ref.id)
    nvram = place.hypervisor.folder / "var/lib/libvirt/qemu/nvram" / f"{domain.name()}_VARS.fd"
    assert nvram.exists()
    saved = place.hypervisor.folder / "var/lib/libvirt/qemu/save" / f"{domain.name()}.save"
    domain.snapshotCreateXML("<domainsnapshot><name>one</name></domainsnapshot>", libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY)
    domain.managedSave()
    assert saved.exists()
    assert any(name.endswith(".disk.one") for name in left(at))
    delete(place)
    assert not nvram.exists()
    assert not saved.exists()
    assert not at.listAllDomains()
    assert left(at) == []
    assert not seen(place).strays


def test_a_machine_that_was_shut_off_is_stopped_and_is_not_started_by_its_launch(place, at) -> None:
    launch = place.launch()
    place.machines.launch(launch)
    domain = at.lookupByUUIDString(seen(place).items[0].ref.id)
    assert domain.autostart()
    domain.destroy()
    assert seen(place).items[0].phase is Phase.STOPPED
    assert place.machines.launch(launch)[0].outcome is Outcome.MADE
    assert not domain.isActive()


def test_a_machine_that_was_undefined_behind_our_back_leaves_strays_which_delete_takes(place, at) -> None:
    launch = place.launch()
    place.machines.launch(launch)
    domain = at.lookupByUUIDString(seen(place).items[0].ref.id)
    domain.destroy()
    domain.undefine()
    found = seen(place)
    assert not found.items
    assert [ref.mark for ref in found.strays] == [launch.member_mark(0)]
    delete(place)
    assert not left(at)


def test_addresses_are_given_in_a_network_of_ours_the_one_that_is_asked_for_first(place) -> None:
    network = place.networks.ensure(NetworkSpec(mark=place.mark("Network"), name="demo", cidr="10.61.7.0/28"))
    launch = place.launch(network=dict(network.data))
    launch = replace(
        launch, members=(Member(name="a"), Member(name="b", address="10.61.7.5"), Member(name="c", address="10.61.7.5"))
    )
    place.machines.launch(launch)
    found = {item.ref.mark.index: item.internal for item in seen(place).items}
    assert found == {0: ("10.61.7.2",), 1: ("10.61.7.5",), 2: ("10.61.7.3",)}


def test_kubeup_logs_in_as_a_user_whom_its_user_data_gives_the_keys_to(place) -> None:
    network = place.networks.ensure(NetworkSpec(mark=place.mark("Network"), name="demo", cidr="10.61.6.0/28"))
    told = render(["ssh-ed25519 AAAA me"], limit=100_000)
    place.machines.launch(place.launch(network=dict(network.data), user_data=told))
    (state,) = seen(place).items
    assert state.access.user == "root"
    assert json.loads(told.partition(b"\n")[2]) == {"ssh_authorized_keys": ["ssh-ed25519 AAAA me"], "disable_root": False}


def test_a_network_without_a_free_address_is_no_capacity(place) -> None:
    network = place.networks.ensure(NetworkSpec(mark=place.mark("Network"), name="demo", cidr="10.61.8.0/29"))
    launch = place.launch(3, network=dict(network.data))
    results = place.machines.launch(launch)
    assert [r.outcome for r in results] == [Outcome.MADE, Outcome.MADE, Outcome.REFUSED]
    assert isinstance(results[2].error, NoCapacity)


def test_a_subnet_that_the_host_uses_is_refused_by_its_name(place) -> None:
    place.networks.ensure(NetworkSpec(mark=place.mark("Network"), name="one", cidr="10.61.9.0/24"))
    with pytest.raises((Taken, InvalidSpec), match=r"10\.61\.9"):
        place.networks.ensure(NetworkSpec(mark=place.mark("Network"), name="two", cidr="10.61.9.0/24"))


def test_a_range_of_addresses_outside_of_the_network_is_refused(place, at) -> None:
    at.networkDefineXML("<network><name>theirs</name><ip address='10.61.10.1' prefix='24'/></network>").create()
    spec = NetworkSpec(
        mark=place.mark("Network"), name="x", overrides={"network": "theirs", "addresses": "10.61.11.5-10.61.11.9"}
    )
    with pytest.raises(InvalidSpec, match="no range of addresses") as caught:
        place.networks.ensure(spec)
    assert caught.value.path == "spec.overrides.libvirt.addresses"
    state = place.networks.ensure(replace(spec, overrides={"network": "theirs", "addresses": "10.61.10.5-10.61.10.9"}))
    launch = place.launch(network=dict(state.data))
    place.machines.launch(launch)
    assert seen(place).items[0].internal == ("10.61.10.5",)


def test_a_machine_that_leases_its_address_has_the_one_that_libvirt_gave(place, at) -> None:
    """The note is what its DHCP server would have written: no guest runs here that asks."""
    network = at.networkDefineXML(
        "<network><name>theirs</name><bridge name='kubeup0'/><ip address='10.61.12.1' prefix='24'>"
        "<dhcp><range start='10.61.12.100' end='10.61.12.200'/></dhcp></ip></network>"
    )
    network.create()
    state = place.networks.ensure(NetworkSpec(mark=place.mark("Network"), name="x", overrides={"network": "theirs"}))
    place.machines.launch(place.launch(network=dict(state.data)))
    (machine,) = seen(place).items
    assert (machine.internal, machine.access.kind) == ((), "none")
    xml = ElementTree.fromstring(at.lookupByUUIDString(machine.ref.id).XMLDesc())
    mac = xml.find("devices/interface/mac").get("address")

    leases = place.hypervisor.folder / "var/lib/libvirt/dnsmasq/kubeup0.status"
    lease = {"ip-address": "10.61.12.100", "mac-address": mac, "expiry-time": 2**32}
    leases.write_text(json.dumps([lease, {**lease, "ip-address": "10.61.12.101", "mac-address": "52:54:00:00:00:01"}]))
    (machine,) = seen(place).items
    assert (machine.internal, machine.access.kind) == (("10.61.12.100",), "ssh")


def test_a_volume_grows_while_a_machine_has_it_and_keeps_its_serial(place, at) -> None:
    launch = place.launch()
    place.machines.launch(launch)
    want = VolumeSpec(mark=place.mark("Volume"), token="t", name="data", size=2**24)
    volume = place.volumes.ensure(want)
    place.volumes.attach(volume.ref, seen(place).items[0].ref)
    assert place.volumes.ensure(replace(want, size=2**25)).size == 2**25
    domain = at.lookupByUUIDString(seen(place).items[0].ref.id)
    assert volume.device.rpartition("_")[2] in domain.XMLDesc()
    assert domain.blockInfo("sda")[0] == 2**25


def test_a_cpu_model_that_there_is_not_is_refused_and_leaves_nothing(place, at) -> None:
    result = place.machines.launch(place.launch(cpuMode="no-such-model"))[0]
    assert result.outcome is Outcome.REFUSED
    assert not at.listAllDomains()
    assert not left(at)


def test_an_image_without_a_name_a_volume_or_a_checksum_is_refused_with_what_to_write(place) -> None:
    from kubeup_core import Template

    for image, said in (("debian", "is no image"), ("https://x.example/a.qcow2", "checksum")):
        want = Template(cpu=1, memory=2**27, disk=2**27, arch="", image="debian-12", overrides={"image": image})
        assert said in place.machines.check(want)[0].message
        assert not place.machines.offers(want)
    with pytest.raises(InvalidSpec, match="there is no image default/nothing"):
        place.machines.launch(place.launch(image="default/nothing"))


@pytest.fixture
def outside():
    """A file outside of every pool: its path, which the daemon has, too."""
    folder = Path(tempfile.mkdtemp(prefix="kubeup-images-", dir="/var/tmp"))
    folder.chmod(0o755)

    def make(name: str, kind: str) -> str:
        subprocess.run(["qemu-img", "create", "-q", "-f", kind, str(folder / name), "192M"], check=True)
        return str(folder / name)

    yield make
    shutil.rmtree(folder)


def backing(at) -> str:
    pool = at.storagePoolLookupByName("default")
    (disk,) = [name for name in left(at) if name.endswith(".disk.qcow2")]
    found = ElementTree.fromstring(pool.storageVolLookupByName(disk).XMLDesc())
    path, kind = found.findtext("backingStore/path", ""), found.find("backingStore/format").get("type")
    return f"{path} {kind} {int(found.findtext('capacity')) >> 20}"


def test_an_image_by_its_path_in_a_pool_is_what_the_pool_says(place, at) -> None:
    pool = at.storagePoolLookupByName("default")
    pool.createXML("<volume><name>a.img</name><capacity>201326592</capacity><target><format type='qcow2'/></target></volume>")
    path = pool.storageVolLookupByName("a.img").path()
    assert place.machines.launch(place.launch(image=path))[0].outcome is Outcome.MADE
    assert backing(at) == f"{path} qcow2 192"


@pytest.mark.parametrize("kind", ["qcow2", "raw"])
def test_an_image_outside_of_every_pool_is_what_its_first_bytes_say(place, at, outside, kind: str) -> None:
    path = outside("ubuntu.img", kind)
    assert place.machines.launch(place.launch(image=path))[0].outcome is Outcome.MADE
    assert backing(at) == f"{path} {kind} 192"


def test_an_image_that_nobody_can_read_here_is_refused_unless_its_name_says_what_it_is() -> None:
    from kubeup_libvirt.images import Images

    def elsewhere(path: str):
        raise NotFound(path)

    hypervisor = SimpleNamespace(uri="qemu+ssh://root@host/system", volume_at=elsewhere)
    images = Images(hypervisor, None, {})
    with pytest.raises(InvalidSpec, match="qcow2 or raw") as caught:
        images.base("/etc/hosts.img")
    assert ".raw" in caught.value.remedy
    assert (images.base("/srv/a.raw").format, images.base("/srv/a.qcow2").format) == ("raw", "qcow2")


def test_the_console_is_what_the_machine_wrote(place) -> None:
    launch = place.launch()
    place.machines.launch(launch)
    ref = seen(place).items[0].ref
    with contextlib.suppress(NotReady):
        assert place.machines.console(ref, 1000) == ""  # nothing has booted
    log = next(place.hypervisor.pool.glob("*console.log"))
    with log.open("a") as file:
        file.write("\x1b[1mhello\r\n")
    assert place.machines.console(ref, 1000) == "hello\n"

"""What breaks: libvirtd is restarted, the storage pool is full, an image is not the one that was meant."""

from __future__ import annotations

import functools
import hashlib
import http.server
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from kubeup_artifacts.sshd import Sshd, key_pair
from kubeup_core import InvalidSpec, NoCapacity, NotReady, Outcome, Phase, Scope, SupplierError, VolumeSpec


def seen(place):
    return place.machines.observe(Scope(installation=place.installation))


def test_libvirtd_is_restarted_and_the_machines_run_on(place) -> None:
    launch = place.launch()
    place.machines.launch(launch)
    before = seen(place).items[0]
    place.hypervisor.stop()
    try:
        with pytest.raises(SupplierError) as caught:
            seen(place)
        assert isinstance(caught.value, NotReady), caught.value
        for result in place.machines.delete([before.ref]):
            assert result.outcome in (Outcome.PENDING, Outcome.UNKNOWN), result
    finally:
        place.hypervisor.start()
    after = seen(place).items[0]
    assert (after.ref, after.phase) == (before.ref, Phase.RUNNING)
    assert place.machines.launch(launch)[0].outcome is Outcome.MADE


def test_libvirtd_is_restarted_between_two_calls_and_nobody_notices(place) -> None:
    place.hypervisor.stop()
    place.hypervisor.start()
    assert not seen(place).items
    assert place.machines.launch(place.launch())[0].outcome is Outcome.MADE


def test_a_libvirtd_that_falls_silent_is_not_ready_and_nobody_waits_for_it_for_ever(place, monkeypatch) -> None:
    from kubeup_libvirt import client

    monkeypatch.setattr(client, "KEEPALIVE", (1, 1))
    monkeypatch.setattr(client, "OPEN_SECONDS", 1.0)
    place.rebuild()
    place.hypervisor.signal(signal.SIGSTOP)
    try:
        for _ in range(2):  # on the connection that was, and where a new one cannot be had
            with pytest.raises(NotReady, match="does not answer"):
                seen(place)
    finally:
        place.hypervisor.signal(signal.SIGCONT)
        monkeypatch.undo()
    assert not seen(place).items


@pytest.mark.skipif(shutil.which("virt-ssh-helper") is None, reason="virt-ssh-helper is not on this machine")
def test_a_libvirt_of_another_host_over_ssh_is_used_and_is_not_ready_when_its_sshd_dies(place, tmp_path: Path) -> None:
    private, public = key_pair()
    sshd = Sshd(tmp_path / "sshd", public, private=("/run/libvirt",))
    sshd.inside("/run/libvirt").mkdir()
    (sshd.inside("/run/libvirt") / "libvirt-sock").symlink_to(place.hypervisor.folder / "run/libvirt/libvirt-sock")
    key, ssh, known = tmp_path / "id", tmp_path / "ssh", tmp_path / "known_hosts"
    key.write_text(private)
    key.chmod(0o600)
    sshd.start()
    try:
        known.write_text(f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n")
        ssh.write_text(f'#!/bin/sh\nexec ssh -F none -o UserKnownHostsFile={known} "$@"\n')
        ssh.chmod(0o755)
        place.rebuild(uri=f"qemu+ssh://root@127.0.0.1:{sshd.port}/system?keyfile={key}&command={ssh}")
        launch = place.launch()
        assert place.machines.launch(launch)[0].outcome is Outcome.MADE
        (machine,) = seen(place).items
        assert machine.phase is Phase.RUNNING
        sshd.stop()
        with pytest.raises(NotReady):
            seen(place)
        sshd.start()
        assert place.machines.delete([machine.ref])[0].outcome is Outcome.MADE
        assert not seen(place).items
    finally:
        sshd.stop()


@pytest.fixture
def small_pool(place, tmp_path: Path):
    """A pool of 32 MiB, which goes with libvirtd's mounts."""
    folder = Path("/var/lib/libvirt/small")
    init = ["nsenter", f"--mount=/proc/{place.hypervisor.init}/ns/mnt"]
    script = f"mkdir -p {folder} && mount -t tmpfs -o size=32m tmpfs {folder}"
    subprocess.run([*init, "sh", "-c", script], check=True)
    place.hypervisor.virsh("pool-create-as", "small", "dir", "--target", str(folder))
    yield "small"
    place.hypervisor.virsh("pool-destroy", "small")


def test_a_full_pool_is_no_capacity_for_machines_and_volumes(place, small_pool) -> None:
    place.rebuild(pool=small_pool)
    with pytest.raises(NoCapacity, match="MiB free") as caught:
        place.machines.launch(place.launch())
    assert caught.value.person
    with pytest.raises(NoCapacity, match="MiB free"):
        place.volumes.ensure(VolumeSpec(mark=place.mark("Volume"), token="t", name="data", size=2**30))
    assert not seen(place).items
    assert not place.volumes.observe(Scope(installation=place.installation)).items


def test_a_pool_that_there_is_not_is_refused_with_the_commands_that_make_it(place) -> None:
    with pytest.raises(InvalidSpec, match="no storage pool nowhere") as caught:
        place.rebuild(pool="nowhere")
    assert "virsh pool-define-as nowhere" in caught.value.remedy


def test_a_libvirt_that_does_not_answer_is_not_ready(place) -> None:
    with pytest.raises(NotReady) as caught:
        place.rebuild(uri="qemu+unix:///system?socket=/nowhere/libvirt-sock")
    assert "libvirtd" in caught.value.remedy


@pytest.fixture
def served(tmp_path: Path):
    """A web server with an image: (URL, checksum)."""
    image = tmp_path / "image.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "16M"], check=True)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if "?" not in self.path:
                super().do_GET()
                return
            self.send_response(200)
            if self.path.endswith("short"):
                self.send_header("Content-Length", "1000")
            else:
                self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"what is this")

        def log_message(self, *arguments: object) -> None:
            pass

        protocol_version = "HTTP/1.1"

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/image.qcow2", hashlib.sha256(image.read_bytes()).hexdigest()
    server.shutdown()
    server.server_close()


def launched(place, image: str):
    """The results, or the error that is not "not ready"."""
    launch = place.launch(image=image)
    found = []

    def look() -> bool:
        try:
            found.append(place.machines.launch(launch))
        except NotReady:
            return False
        except SupplierError as error:
            found.append(error)
        return True

    return look, found


def test_an_image_with_a_wrong_checksum_is_refused_and_makes_nothing(place, served, settled) -> None:
    url, _ = served
    look, found = launched(place, f"{url}#sha256={'0' * 64}")
    settled(look)
    assert isinstance(found[0], InvalidSpec)
    assert "has the checksum" in found[0].message
    assert not seen(place).items
    assert "kubeup-image" not in place.hypervisor.virsh("vol-list", "default")


def test_a_download_that_breaks_off_is_no_word_about_the_checksum_and_is_tried_again(place, served, settled) -> None:
    url, digest = served
    for breaking in ("short", "garbled"):
        launch = place.launch(image=f"{url}?{breaking}#sha256={digest}")
        found = []

        def failed(launch=launch, found=found) -> bool:
            try:
                place.machines.launch(launch)
            except SupplierError as error:
                found.append(error)
            return not found or "is being fetched" not in found[-1].message

        settled(failed)
        assert isinstance(found[-1], NotReady)
        assert "checksum" not in found[-1].message
        with pytest.raises(NotReady, match="is being fetched"):
            place.machines.launch(launch)


def test_an_image_is_fetched_once_and_lies_under_the_disks(place, served, settled) -> None:
    url, digest = served
    look, found = launched(place, f"{url}#sha256={digest}")
    settled(look)
    assert found[0][0].outcome is Outcome.MADE, found
    place.rebuild()
    second = place.machines.launch(place.launch(image=f"{url}#sha256={digest}"))
    assert second[0].outcome is Outcome.MADE
    assert (
        place.hypervisor.virsh("vol-list", "default").count(f"kubeup-image-{digest[:32]}") == 4
    )  # name and path, of it and its note

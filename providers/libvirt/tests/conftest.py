"""What the tests share: a real libvirtd of their own, and an installation that uses it."""

import contextlib
import importlib.util
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest

MISSING = [name for name in ("kubeup_libvirt", "libvirt") if importlib.util.find_spec(name) is None]


class Skipped(pytest.Module):
    def collect(self) -> NoReturn:
        pytest.skip(
            f"not installed: {', '.join(MISSING)} (pip install -e 'providers/libvirt[libvirt]'; needs libvirt-dev)",
            allow_module_level=True,
        )


def pytest_pycollect_makemodule(module_path, parent: pytest.Collector) -> pytest.Module | None:
    """The modules beside this one import what may not be there."""
    return Skipped.from_parent(parent, path=module_path) if MISSING else None


@pytest.fixture(scope="session")
def hypervisor() -> Iterator[Any]:
    """A real libvirtd with qemu under emulation, and an empty image for machines that need no guest: pool default, `empty.qcow2`."""
    from kubeup_artifacts.libvirt import NoLibvirt, libvirtd

    context = libvirtd()
    try:
        daemon = context.__enter__()
    except NoLibvirt as reason:
        unavailable(str(reason))
    try:
        daemon.virsh("vol-create-as", "default", "empty.qcow2", "1M", "--format", "qcow2")
        yield daemon
    finally:
        context.__exit__(None, None, None)


IMAGE = "default/empty.qcow2"


@pytest.fixture
def clean(hypervisor) -> Callable[[], None]:
    """Takes away everything that is at this libvirt but the empty image."""

    def sweep() -> None:
        import libvirt

        connection = libvirt.open(hypervisor.uri)
        for domain in connection.listAllDomains():
            with contextlib.suppress(libvirt.libvirtError):
                domain.destroy()
            domain.undefineFlags(libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | 2)
        for network in connection.listAllNetworks():
            with contextlib.suppress(libvirt.libvirtError):
                network.destroy()
            network.undefine()
        pool = connection.storagePoolLookupByName("default")
        pool.refresh()
        for volume in pool.listAllVolumes():
            if volume.name() != "empty.qcow2":
                volume.delete()
        connection.close()

    return sweep


class Wire:
    """Between the supplier and a real libvirtd: loses what it is told to lose, and counts.

    requests  questions to libvirtd: calls on the connection. What is then asked of the object that was found belongs to it
    lose      "request" or "reply", of what changes something: the connection is broken afterwards, and a new one can be had
    room      None, or how many more disks fit into the storage pool
    """

    CHANGES = frozenset(
        [
            *(
                "defineXML",
                "create",
                "createXML",
                "destroy",
                "undefine",
                "undefineFlags",
                "setMetadata",
                "setAutostart",
                "reset",
            ),
            *("attachDeviceFlags", "detachDeviceFlags", "networkDefineXML", "delete", "resize", "blockResize", "upload"),
        ]
    )
    LOCAL = frozenset({"isAlive", "newStream", "close", "getURI", "setKeepAlive"})

    def __init__(self, library: Any) -> None:
        self.library, self._open = library, library.open
        self.requests, self.lose, self.room = 0, "", None

    def open(self, uri: str) -> Any:
        return Wired(self, self._open(uri), {"broken": False})

    def error(self, code: int, message: str) -> Exception:
        error = self.library.libvirtError(message)
        error.err = (code, 0, message, 2, None, None, None, -1, -1)
        return error

    def call(self, line: dict[str, bool], target: Any, name: str, arguments: tuple[Any, ...]) -> Any:
        if name == "isAlive":
            return int(not line["broken"])
        if line["broken"]:
            raise self.error(38, "Cannot write data: Broken pipe")
        if isinstance(target, self.library.virConnect) and name not in self.LOCAL:
            self.requests += 1
        changes = name in self.CHANGES
        if changes and self.lose == "request":
            line["broken"] = True
            raise self.error(1, "client socket is closed")
        if name == "createXML" and self.room is not None and "qcow2" in arguments[0]:
            if not self.room:
                raise self.error(38, "cannot fill file '/var/lib/libvirt/images/x': No space left on device")
            self.room -= 1
        result = getattr(target, name)(*arguments)
        if changes and self.lose == "reply":
            line["broken"] = True
            raise self.error(1, "client socket is closed")
        return result


class Wired:
    """An object of libvirt's behind a wire."""

    def __init__(self, wire: Wire, target: Any, line: dict[str, bool]) -> None:
        self._wire, self._target, self._line = wire, target, line

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            plain = tuple(a._target if isinstance(a, Wired) else a for a in arguments)
            return self._wrapped(self._wire.call(self._line, self._target, name, plain))

        return call

    def _wrapped(self, result: Any) -> Any:
        if isinstance(result, list):
            return [self._wrapped(one) for one in result]
        there = type(result).__name__.startswith("vir")
        return Wired(self._wire, result, self._line) if there else result


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    """Every connection that suppliers open from now on goes through it."""
    from kubeup_libvirt import client

    wire = Wire(client.libvirt)
    shim = SimpleNamespace(**{**vars(client.libvirt), "open": wire.open})
    monkeypatch.setattr(client, "libvirt", shim)
    return wire


@pytest.fixture
def place(hypervisor, clean) -> Iterator[SimpleNamespace]:
    """An installation of its own, taken away afterwards.

    .suppliers .machines .networks .volumes; .rebuild(**config) as after a restart; .launch(count, ...) a launch that was not
    submitted; .mark(kind)
    """
    from kubeup_core import Context, Launch, Mark, Member, Template
    from kubeup_libvirt import LibvirtConfig, build

    installation = uuid.uuid4().hex[:12]
    built = []

    def rebuild(**config: object):
        context = Context(installation=installation, images={"debian-12": IMAGE})
        built.append(build(LibvirtConfig(**{"uri": hypervisor.uri, **config}), context))
        here.suppliers, here.machines = built[-1], built[-1].machines
        here.networks, here.volumes = built[-1].networks, built[-1].volumes
        return here.suppliers

    def mark(kind: str) -> Mark:
        return Mark(installation=installation, cluster="c1", cluster_name="demo", kind=kind, maker=str(uuid.uuid4()))

    def launch(count: int = 1, network: dict[str, str] | None = None, user_data: bytes = b"", **overrides: object) -> Launch:
        want = Template(cpu=1, memory=2**27, disk=2**27, arch="", image="debian-12", overrides=overrides)
        return Launch(
            mark=mark("Machine"), token="t", template=want, offer=here.machines.offers(want)[0], role="plain",
            network=network or {}, members=tuple(Member(name=f"box-{i}") for i in range(count)), user_data=user_data,
        )  # fmt: skip

    here = SimpleNamespace(hypervisor=hypervisor, installation=installation, rebuild=rebuild, mark=mark, launch=launch)
    rebuild()
    yield here
    for suppliers in built:
        suppliers.close()
    clean()


@pytest.fixture
def settled() -> Callable[..., None]:
    """Wait for something that comes by itself."""

    def wait(look: Callable[[], object], seconds: float = 60) -> None:
        until = time.monotonic() + seconds
        while not look():
            assert time.monotonic() < until, "it did not come there"
            time.sleep(0.05)

    return wait


@pytest.fixture(scope="session")
def root_shell(hypervisor) -> Callable[..., subprocess.CompletedProcess]:
    """root_shell("ssh", ...): a command on the network of the virtual machines."""
    return lambda *command, **how: subprocess.run(hypervisor.inside(*command), capture_output=True, text=True, **how)


def unavailable(reason: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI=true and a part is missing: {reason}", pytrace=False)
    pytest.skip(reason)

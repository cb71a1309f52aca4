"""One connection to libvirt, and the only import of its SDK: what the suppliers need, as plain data and the errors of kubeup.

The connection is opened when it is first needed, and anew after it broke: libvirtd was restarted, or its host fell silent, which
libvirt's own event loop notices. Nobody waits without limit for one to open. A reading that meets a broken connection is tried once
more on a new one; a change is not, as nobody knows whether it happened: its outcome is Unknown. Handles of libvirt objects never leave
this module, so none outlives its connection.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, TypeVar
from xml.etree import ElementTree

import libvirt
from kubeup_core import NotFound, NotReady, SupplierError, Unknown

from . import records
from .errors import LOST, translated
from .records import Domain, Network, Place, Volume

T = TypeVar("T")

BUDGET = "libvirt"
OPEN_SECONDS = 30.0
KEEPALIVE = (5, 6)
"""Seconds between two questions whether the other side is there, and how many may stay without an answer."""
BOTH = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
CONFIG = libvirt.VIR_DOMAIN_AFFECT_CONFIG
SOURCES = {
    "lease": libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
    "agent": libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
    "arp": libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
}
UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)

libvirt.registerErrorHandler(lambda context, error: None, None)  # it would print every error; they are raised as well


@cache
def _run_events() -> None:
    """libvirt's event loop, once in this process and before the first connection: without it nobody notices that one is silent."""
    libvirt.virEventRegisterDefaultImpl()

    def run() -> None:
        while libvirt.virEventRunDefaultImpl() == 0:
            pass

    threading.Thread(target=run, name="libvirt-events", daemon=True).start()


class Hypervisor:
    """Thread-safe. Every method charges before it sends; machines and networks go by uuid, volumes by name in the one pool."""

    def __init__(self, uri: str, pool: str, charge: Callable[[str, float], None]) -> None:
        self.uri = uri
        self.pool = pool
        self._charge = charge
        self._lock = threading.Lock()
        self._connection: Any = None

        self._opening: Future[Any] | None = None
        _run_events()

    def close(self) -> None:
        with self._lock:
            self._drop(self._connection)

    # -- the host --

    def place(self) -> Place:
        def read(connection: Any) -> Place:
            capabilities = ElementTree.fromstring(connection.getCapabilities())
            arch = capabilities.findtext("host/cpu/arch", "")
            info = connection.getInfo()
            pool = connection.storagePoolLookupByName(self.pool)
            version = connection.getLibVersion()
            return Place(
                hostname=connection.getHostname(),
                arch={"x86_64": "amd64", "aarch64": "arm64"}.get(arch, arch),
                cpus=info[2],
                memory=info[1] * 2**20,
                kvm=_kvm(connection, arch),
                version=f"{version // 1_000_000}.{version // 1000 % 1000}.{version % 1000}",
                identity=pool.UUIDString(),
                pool_path=ElementTree.fromstring(pool.XMLDesc()).findtext("target/path", ""),
            )

        return self._read(read)

    # -- domains --

    def domains(self) -> list[Domain]:
        def read(connection: Any) -> list[Domain]:
            found = []
            for domain in connection.listAllDomains():
                try:
                    found.append(_domain(domain))
                except libvirt.libvirtError as error:
                    if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:  # gone in between
                        raise
            return found

        return self._read(read)

    def domain(self, uuid: str) -> Domain:
        return self._read(lambda c: _domain(c.lookupByUUIDString(uuid)))

    def define(self, xml: str) -> None:
        self._change(lambda c: c.defineXML(xml))

    def start(self, uuid: str) -> None:
        self._change(lambda c: c.lookupByUUIDString(uuid).create())

    def tell(self, uuid: str, element: str, key: str, namespace: str) -> None:
        """Put an element into its metadata, for now and for later starts."""
        kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT

        def change(connection: Any) -> None:
            domain = connection.lookupByUUIDString(uuid)
            domain.setMetadata(kind, element, key, namespace, BOTH if domain.isActive() else CONFIG)

        self._change(change)

    def autostart(self, uuid: str) -> None:
        self._change(lambda c: c.lookupByUUIDString(uuid).setAutostart(1))

    def destroy(self, uuid: str) -> None:
        self._change(lambda c: c.lookupByUUIDString(uuid).destroy())

    def undefine(self, uuid: str) -> None:
        self._change(lambda c: c.lookupByUUIDString(uuid).undefineFlags(UNDEFINE))

    def reset(self, uuid: str) -> None:
        self._change(lambda c: c.lookupByUUIDString(uuid).reset())

    def attach(self, uuid: str, xml: str) -> None:
        def change(connection: Any) -> None:
            domain = connection.lookupByUUIDString(uuid)
            domain.attachDeviceFlags(xml, BOTH if domain.isActive() else CONFIG)

        self._change(change)

    def detach(self, uuid: str, target: str) -> None:
        """The disk of that name. The guest may take its time to let go of it."""

        def change(connection: Any) -> None:
            domain = connection.lookupByUUIDString(uuid)
            flags = ((True, libvirt.VIR_DOMAIN_AFFECT_LIVE), (False, CONFIG))
            for live, flag in flags if domain.isActive() else flags[1:]:
                root = ElementTree.fromstring(domain.XMLDesc(0 if live else libvirt.VIR_DOMAIN_XML_INACTIVE))
                for disk in root.iterfind("devices/disk"):
                    found = disk.find("target")
                    if found is not None and found.get("dev") == target:
                        domain.detachDeviceFlags(ElementTree.tostring(disk, encoding="unicode"), flag)

        self._change(change)

    def addresses(self, uuid: str, source: str) -> list[tuple[str, str]]:
        """(MAC, IPv4 address) of its cards. source: lease, agent or arp. Empty while nobody knows."""

        def read(connection: Any) -> list[tuple[str, str]]:
            try:
                found = connection.lookupByUUIDString(uuid).interfaceAddresses(SOURCES[source])
            except libvirt.libvirtError as error:
                if self._broken(connection, error):
                    raise
                return []
            return [
                (card.get("hwaddr") or "", address["addr"])
                for card in found.values()
                for address in card.get("addrs") or ()
                if address["type"] == libvirt.VIR_IP_ADDR_TYPE_IPV4
            ]

        return self._read(read)

    # -- networks --

    def networks(self) -> list[Network]:
        return self._read(lambda c: [_network(n) for n in c.listAllNetworks()])

    def network(self, uuid: str) -> Network:
        return self._read(lambda c: _network(c.networkLookupByUUIDString(uuid)))

    def define_network(self, xml: str) -> None:
        self._change(lambda c: c.networkDefineXML(xml))

    def start_network(self, uuid: str) -> None:
        def change(connection: Any) -> None:
            network = connection.networkLookupByUUIDString(uuid)
            network.create()
            network.setAutostart(1)

        self._change(change)

    def stop_network(self, uuid: str) -> None:
        self._change(lambda c: c.networkLookupByUUIDString(uuid).destroy())

    def undefine_network(self, uuid: str) -> None:
        self._change(lambda c: c.networkLookupByUUIDString(uuid).undefine())

    # -- storage volumes --

    def volume_names(self) -> list[str]:
        return self._read(lambda c: list(self._pool(c).listVolumes()))

    def refresh(self) -> None:
        """Look at the pool's folder again: machines write files into it."""
        self._read(lambda c: self._pool(c).refresh())

    def space(self) -> int:
        """Bytes that are free in the pool."""

        def read(connection: Any) -> int:
            free: int = self._pool(connection).info()[3]
            return free

        return self._read(read)

    def volume(self, name: str, pool: str = "") -> Volume:
        def read(connection: Any) -> Volume:
            return _volume(connection.storagePoolLookupByName(pool or self.pool).storageVolLookupByName(name))

        return self._read(read)

    def volume_at(self, path: str) -> Volume:
        return self._read(lambda c: _volume(c.storageVolLookupByPath(path)))

    def create_volume(self, xml: str) -> None:
        self._change(lambda c: self._pool(c).createXML(xml))

    def delete_volume(self, name: str) -> None:
        self._change(lambda c: self._pool(c).storageVolLookupByName(name).delete())

    def resize_volume(self, name: str, size: int) -> None:
        self._change(lambda c: self._pool(c).storageVolLookupByName(name).resize(size))

    def resize_live(self, uuid: str, path: str, size: int) -> None:
        """While a running machine has it, which sees it grow."""
        self._change(lambda c: c.lookupByUUIDString(uuid).blockResize(path, size, libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES))

    def upload(self, name: str, read: Callable[[int], bytes], size: int) -> None:
        """Fill a volume with `size` bytes from read(n), b"" at the end."""

        def change(connection: Any) -> None:
            stream = connection.newStream()
            try:
                self._pool(connection).storageVolLookupByName(name).upload(stream, 0, size)
                stream.sendAll(lambda stream, wanted, read: read(wanted), read)
                stream.finish()
            except BaseException:
                _abort(stream)
                raise

        self._change(change)

    def tail(self, name: str, limit: int) -> bytes:
        """The last bytes of a volume's file. NotFound while there is none."""

        def read(connection: Any) -> bytes:
            volume = self._pool(connection).storageVolLookupByName(name)
            size = volume.info()[1]
            wanted = min(limit, size)
            if not wanted:
                return b""
            stream = connection.newStream()
            parts: list[bytes] = []
            try:
                volume.download(stream, size - wanted, wanted)
                stream.recvAll(lambda stream, data, parts: parts.append(data), parts)
                stream.finish()
            except BaseException:
                _abort(stream)
                raise
            return b"".join(parts)[-limit:]

        return self._read(read)

    # -- calling --

    def _pool(self, connection: Any) -> Any:
        return connection.storagePoolLookupByName(self.pool)

    def _read(self, call: Callable[[Any], T]) -> T:
        self._charge(BUDGET, 1)
        with self._translating(changing=False):
            connection = self._connected()
            try:
                return call(connection)
            except libvirt.libvirtError as error:
                if not self._broken(connection, error):
                    raise
            return call(self._connected())

    def _change(self, call: Callable[[Any], object]) -> None:
        self._charge(BUDGET, 1)
        with self._translating(changing=False):
            connection = self._connected()
        try:
            with self._translating(changing=True):
                call(connection)
        except SupplierError as error:
            cause = error.__cause__
            if isinstance(cause, libvirt.libvirtError) and self._broken(connection, cause):
                raise Unknown(f"the connection to {self.uri} broke: {error.message}", code=error.code) from cause
            raise

    def _connected(self) -> Any:
        with self._lock:
            if self._connection is not None:
                return self._connection
            if self._opening is None:
                self._opening = Future()
                threading.Thread(target=self._open, args=(self._opening,), name="libvirt-open", daemon=True).start()
            opening = self._opening
        try:
            return opening.result(OPEN_SECONDS)
        except TimeoutError as error:
            message = f"{self.uri} does not answer, and is waited for longer than {OPEN_SECONDS:g} s"
            raise NotReady(message, remedy="is its host up? virsh -c URI version") from error
        except libvirt.libvirtError as error:
            known = translated(error.get_error_code() or 0, str(error), changing=False)
            if isinstance(known, NotFound):
                known = NotReady(known.message, code=known.code)
            known.remedy = known.remedy or "is libvirtd running there? systemctl start libvirtd"
            raise known from error

    def _open(self, opening: Future[Any]) -> None:
        """A thread of its own: neither SSH nor a daemon that hangs has a time limit."""
        try:
            connection = libvirt.open(self.uri)
            with suppress(libvirt.libvirtError):  # a libvirt inside of this process, which cannot fall silent
                connection.setKeepAlive(*KEEPALIVE)
        except BaseException as error:
            with self._lock:
                self._opening = None
            opening.set_exception(error)
            return
        with self._lock:
            self._connection, self._opening = connection, None
        opening.set_result(connection)

    def _broken(self, connection: Any, error: Any) -> bool:
        """Whether it was the connection that failed; it is then forgotten, so that the next call opens a new one."""
        alive = True
        try:
            alive = error.get_error_code() not in LOST or (bool(connection.isAlive()) and connection.getLibVersion() > 0)
        except libvirt.libvirtError:
            alive = False
        if not alive:
            with self._lock:
                self._drop(connection)
        return not alive

    def _drop(self, connection: Any) -> None:
        """Called with the lock. Closing only lets go: a call of another thread keeps its reference until it is back."""
        if connection is not None and connection is self._connection:
            self._connection = None

    @contextmanager
    def _translating(self, *, changing: bool) -> Iterator[None]:
        try:
            yield
        except libvirt.libvirtError as error:
            raise translated(error.get_error_code() or 0, str(error), changing=changing) from error


def _domain(domain: Any) -> Domain:
    return records.domain(domain.XMLDesc(), domain.state()[0])


def _network(network: Any) -> Network:
    return records.network(network.XMLDesc(), bool(network.isActive()))


def _volume(volume: Any) -> Volume:
    root = ElementTree.fromstring(volume.XMLDesc())
    kind = root.find("target/format")
    return Volume(
        name=volume.name(),
        path=volume.path(),
        size=volume.info()[1],
        format=kind.get("type", "raw") if kind is not None else "raw",
    )


def _kvm(connection: Any, arch: str) -> bool:
    try:
        connection.getDomainCapabilities(None, arch, None, "kvm")
    except libvirt.libvirtError as error:
        if error.get_error_code() in LOST and not connection.isAlive():
            raise
        return False
    return True


def _abort(stream: Any) -> None:
    try:
        stream.abort()
    except libvirt.libvirtError:
        return  # it had ended already

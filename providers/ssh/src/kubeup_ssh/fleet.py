"""All hosts of one inventory: asked side by side, and what they said last. Used by the suppliers.

What is kept here saves calls; nothing is concluded from it but which hosts are worth asking. A host that does not answer, or that is
not trusted, is an error in its place, never left out.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files
from typing import TypeVar

from kubeup_core import Denied, NotFound, SupplierError, Unknown

from .doors import Doors
from .inventory import Host
from .looks import Look, NotLetIn, failure, read

T = TypeVar("T")
R = TypeVar("R")

BUDGET = "hosts"

FRESH = 20.0
"""Seconds for which an answer is good enough to make offers from it."""

WIDTH = 64
"""Hosts that are asked side by side: nearly all of the time is waiting for them."""

LONG, SILENT = 2.0, 15.0
"""Seconds after which a host that failed to answer has held up the others, and for which it is taken at its word then: else one that
is switched off, or whose sshd hangs, would make every look at all the others take as long as its time-out."""

LIMIT = 25.0
"""Seconds for one call, connecting included."""

SCRIPT = files(__package__).joinpath("guest.sh").read_text()

Found = Look | SupplierError


class Fleet:
    """Thread-safe."""

    def __init__(self, hosts: Mapping[str, Host], doors: Doors, charge: Callable[[str, float], None]) -> None:
        self.hosts = hosts
        self.doors = doors
        self._charge = charge
        self._workers = ThreadPoolExecutor(min(WIDTH, len(hosts)), thread_name_prefix="ssh-hosts")
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[float, Found]] = {}
        self._sized: dict[str, Look] = {}
        self._silent: dict[str, tuple[float, SupplierError]] = {}

    def close(self) -> None:
        self._workers.shutdown(wait=False, cancel_futures=True)
        self.doors.close()

    def host(self, name: str) -> Host:
        """Raises NotFound: it is not in the inventory, or no more."""
        found = self.hosts.get(name)
        if found is None:
            raise NotFound(f"host {name} is not in the inventory", remedy="put it back, so that what is on it can be reached")
        return found

    def call(self, host: Host, call: str, stdin: bytes = b"") -> bytes:
        """One call of guest.sh. Raises what its exit code means."""
        self._charge(BUDGET, 1.0)
        code, output = self.run(host, f"{SCRIPT}{call}\n", stdin)
        if code != 0:
            raise failure(host.name, call.split()[0], code, output)
        return output

    def run(self, host: Host, script: str, stdin: bytes = b"") -> tuple[int, bytes]:
        """Its exit code and output. Raises NotLetIn instead of Denied."""
        try:
            return self.doors.run(host, script, stdin, LIMIT)
        except Denied as error:
            raise NotLetIn(error) from error

    def change(self, host: Host, call: str, stdin: bytes = b"") -> bytes:
        """A call after which the host is another one than it was."""
        try:
            return self.call(host, call, stdin)
        finally:
            with self._lock:
                self._seen.pop(host.name, None)

    def look(self, names: Iterable[str] | None = None, *, sized: bool = False) -> dict[str, Found]:
        """Ask now, all of them or those that are named, side by side. sized: their room, too, as it is now."""
        hosts = [self.hosts[name] for name in (self.hosts if names is None else names)]
        if sized:
            with self._lock:
                self._sized.clear()
        found = dict(zip((h.name for h in hosts), self.each(hosts, self._look), strict=True))
        now = time.monotonic()
        with self._lock:
            self._seen.update({name: (now, look) for name, look in found.items()})
        return found

    def recent(self) -> dict[str, Found]:
        """What they said a moment ago; those of which nothing fresh is known are asked."""
        now = time.monotonic()
        with self._lock:
            fresh = {name: look for name, (at, look) in self._seen.items() if now - at < FRESH}
        missing = [name for name in self.hosts if name not in fresh]
        found = {**fresh, **(self.look(missing) if missing else {})}
        return {name: found[name] for name in self.hosts}

    def known(self) -> dict[str, Found]:
        """What they said last, whenever that was. No calls."""
        with self._lock:
            return {name: look for name, (_, look) in self._seen.items()}

    def each(self, items: Iterable[T], act: Callable[[T], R]) -> list[R]:
        return list(self._workers.map(act, items))

    def _look(self, host: Host) -> Found:
        with self._lock:
            before = self._sized.get(host.name)
            until, silence = self._silent.get(host.name, (0.0, None))
        if silence is not None and time.monotonic() < until:
            return silence
        began = time.monotonic()
        try:
            call = shlex.join(["look", host.volume_folder, host.volume_group, before.boot if before else ""])
            found = read(self.call(host, call), before)
            with self._lock:
                self._sized[host.name] = found
                self._silent.pop(host.name, None)
            return found
        except SupplierError as error:
            if time.monotonic() - began > LONG:
                with self._lock:
                    self._silent[host.name] = (time.monotonic() + SILENT, error)
            return error
        except Exception as error:
            unknown = Unknown(f"host {host.name} could not be asked: {type(error).__name__}")
            unknown.__cause__ = error
            return unknown

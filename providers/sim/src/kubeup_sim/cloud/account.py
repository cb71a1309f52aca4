"""`Cloud`: one account in one region. Its parts are one per kind of thing (`compute.py`, `networking.py`, ...).

`open_cloud` finds the Cloud of a file, account and region: one object per process, however many Providers use it. Time comes from an
injected clock, so that tests turn it by hand. Every public method of a part is one request of the vendor's API: it is atomic, and it
returns or raises `CloudError` at once.
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from . import catalog
from .balancing import Balancing
from .compute import Compute
from .console import Console
from .disks import Disks
from .faults import Faults
from .guest import Guest
from .networking import Networking
from .records import Account
from .settings import Settings
from .state import State
from .storage import Storage

MEMORY = "memory:"


class Now(Protocol):
    def now(self) -> float:
        """Epoch seconds."""
        ...


class RealTime:
    def now(self) -> float:
        return time.time()


class Cloud:
    """name: in memory, found by open_cloud("memory:NAME"). file: on disk. Neither: in memory, for whoever holds it.
    strike(point): called before and after each request of `client.py`, so that a test can kill or raise there.
    """

    def __init__(
        self,
        *,
        clock: Now | None = None,
        name: str | None = None,
        file: Path | None = None,
        account: str = "default",
        region: str = "sim-1",
    ) -> None:
        self.account = account
        self.region = region
        self.clock: Now = clock or RealTime()
        self.zones = catalog.zones(region)
        self.state = State(f"{account}/{region}", file)
        self.compute = Compute(self)
        self.disks = Disks(self)
        self.networking = Networking(self)
        self.balancing = Balancing(self)
        self.storage = Storage(self)
        self.faults = Faults(self)
        self.console = Console(self)
        self.guest = Guest(self.now)
        self.requests: Counter[str] = Counter()  # sent by this process, as Kind.operation
        self.strike: Callable[[str], None] | None = None
        self._settings = Settings()
        self._settings_of: Account | None = None
        where = MEMORY + name if name is not None else str(file.absolute()) if file is not None else None
        if where is not None:
            with _LOCK:
                _OPEN[where, account, region] = self

    @property
    def key(self) -> str:
        """Whose place this is, as the vendor says it."""
        return f"{self.account}/{self.region}"

    @property
    def settings(self) -> Settings:
        """How the account behaves. Within read() or write() only, like everything that comes from the state."""
        row = self._row()
        if row is not self._settings_of:
            self._settings = Settings.model_validate(row.settings)
            self._settings_of = row
        return self._settings

    def configure(self, values: Mapping[str, object]) -> None:
        """Change some settings, by field name or as in a config; the others stay. Raises pydantic's ValidationError."""
        named = Settings.model_validate(dict(values))
        changes = named.model_dump(mode="json", include=named.model_fields_set)
        with self.state.write():
            row = self._row()
            wanted = {**row.settings, **changes}
            if wanted != row.settings:
                self.state.put(replace(row, settings=wanted))

    def close(self) -> None:
        """Forget it; the file stays. The next open_cloud makes a new one."""
        with _LOCK:
            for key in [key for key, cloud in _OPEN.items() if cloud is self]:
                del _OPEN[key]
        self.state.close()

    def now(self) -> float:
        return self.clock.now()

    def new_id(self, prefix: str) -> str:
        return self.new_ids(prefix, 1)[0]

    def new_ids(self, prefix: str, count: int) -> list[str]:
        """Ids sort by age, and differ between accounts."""
        first = self._row().number + 1
        self.state.put(replace(self._row(), number=self._row().number + count))
        return [f"{prefix}-{self._origin()}{number:07x}" for number in range(first, first + count)]

    def made(self, id: str) -> bool:
        """True for ids that this account gives, also of what is long gone."""
        return id.partition("-")[2].startswith(self._origin()) and len(id.partition("-")[2]) == 11

    def cut(self) -> frozenset[str]:
        """Places that do not answer; "*" for the whole region."""
        with self.state.read():
            return frozenset(self._row().cut)

    def set_cut(self, place: str, cut: bool) -> None:
        with self.state.write():
            places = self.cut() | {place} if cut else self.cut() - {place}
            self.state.put(replace(self._row(), cut=sorted(places)))

    def _row(self) -> Account:
        return self.state.table(Account).get("account") or Account(id="account")

    def _origin(self) -> str:
        return f"{zlib.crc32(self.key.encode()) & 0xFFFF:04x}"


_LOCK = threading.RLock()
_OPEN: dict[tuple[str, str, str], Cloud] = {}


def open_cloud(file: str | None = None, account: str = "default", region: str = "sim-1") -> Cloud:
    """The Cloud of this file ("memory:NAME" for one that lives in this process), account and region.

    Absent, the file is $KUBEUP_SIM_FILE, else kubeup/sim/ACCOUNT.db in the XDG data home. A memory cloud takes the clock of the
    others of its name, so that a test that made one with its clock gets the same time in every account.
    """
    where = file or os.environ.get("KUBEUP_SIM_FILE") or str(_data_home() / "kubeup" / "sim" / f"{account}.db")
    if not where.startswith(MEMORY):
        where = str(Path(where).expanduser().absolute())
    with _LOCK:
        cloud = _OPEN.get((where, account, region))
        if cloud is None:
            clock = next((c.clock for (place, _, _), c in _OPEN.items() if place == where), None)
            name, path = (where.removeprefix(MEMORY), None) if where.startswith(MEMORY) else (None, Path(where))
            cloud = Cloud(clock=clock, name=name, file=path, account=account, region=region)
        return cloud


def _data_home() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")

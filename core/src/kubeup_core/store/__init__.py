"""The durable store: one SQLite file, one writer thread with group commit, a change log for watches.

    store.py       Store and backup, the face; read this first
    records.py     what goes in and comes out, and the errors
    writer.py      the writer thread           reads.py    snapshots, former states, readers per thread
    watches.py     the handoff from log to live, for threads and for an event loop
    epoch.py       was this file put back?     migrations.py   the schema and its upgrades
    sqlite.py      the only import of sqlite3

Used by `verbs`, and by whoever starts a server. The state directory around the file is `statedir`.
"""

from .epoch import LEAP
from .records import (
    RV_SLOT,
    Broken,
    Change,
    Closed,
    Exists,
    Expired,
    NotAStore,
    NotStored,
    Op,
    Put,
    Record,
    Remove,
    Stale,
    StoreError,
    Subscriber,
    TooNew,
)
from .store import Store, backup
from .watches import LoopWatches

__all__ = [
    "LEAP",
    "RV_SLOT",
    "Broken",
    "Change",
    "Closed",
    "Exists",
    "Expired",
    "LoopWatches",
    "NotAStore",
    "NotStored",
    "Op",
    "Put",
    "Record",
    "Remove",
    "Stale",
    "StoreError",
    "Store",
    "Subscriber",
    "TooNew",
    "backup",
]

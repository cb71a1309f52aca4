"""What goes into the store and comes out: records, changes, the two write operations, and the store's errors.

StoreError
├── Exists      a create of what is there already
├── Stale       a write at a resourceVersion that is not the current one
├── Expired     the change log does not hold that resourceVersion (any more)
├── NotStored   this write did not go through, and changed nothing; the next one may
├── Broken      the disk failed in a way after which no write can be vouched for; restart
├── Closed      the store was closed
├── TooNew      the file was written by a newer program
└── NotAStore   the file is not a database, or cannot be migrated
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass

RV_SLOT = f"@rv-{secrets.token_hex(12)}@".encode()
"""Where the writer puts the resourceVersion. The encoder writes it once, before any text of a user's; only the first occurrence
is replaced. Unguessable, made anew by each process, never on disk."""


class StoreError(Exception):
    """Base of all; the message says what, where, and what to do."""


class Exists(StoreError):
    """The object is there already."""


class Stale(StoreError):
    """The object is not at the expected resourceVersion; `current` is the one it has, None when it is gone."""

    def __init__(self, message: str, current: int | None) -> None:
        super().__init__(message)
        self.current = current


class Expired(StoreError):
    """The log does not hold this version: compacted, or of another history. The reader lists again. oldest: what it reaches."""

    def __init__(self, since: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {since} ({oldest}); list again")  # the beginning is Kubernetes' wording
        self.since = since
        self.oldest = oldest


class NotStored(StoreError):
    """This transaction was rolled back as a whole, for a reason that may pass (a full disk) or that is its own (too big)."""


class Broken(StoreError):
    """The disk failed while writing. Whether the last transaction survives a restart is not known; none follows it."""


class Closed(StoreError):
    """The store was closed."""


class TooNew(StoreError):
    """The file has a schema that this program does not know."""


class NotAStore(StoreError):
    """The file cannot be opened as a store."""


@dataclass(frozen=True, slots=True)
class Record:
    """One stored object. resource: "plural.group" ("machines.kubeup.dev", "secrets"); namespace "" for cluster-scoped."""

    resource: str
    namespace: str
    name: str
    uid: str
    rv: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the log. type: ADDED, MODIFIED or DELETED. prev: the state before; None for ADDED.

    DELETED: data is the last object as the writer of the deletion gave it, with the deletion's resourceVersion.
    """

    rv: int
    type: str
    resource: str
    namespace: str
    name: str
    data: bytes
    prev: bytes | None


@dataclass(frozen=True, slots=True)
class Put:
    """Write. expect None: it must not exist (else Exists); a number: it must be at that resourceVersion (else Stale)."""

    resource: str
    namespace: str
    name: str
    uid: str
    data: bytes
    expect: int | None


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete what is at that resourceVersion (else Stale). data: the last object, with RV_SLOT."""

    resource: str
    namespace: str
    name: str
    expect: int
    data: bytes


Op = Put | Remove
Subscriber = Callable[[Sequence[Change]], None]

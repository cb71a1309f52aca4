"""What a controller is, and what it is given.

A controller is level-triggered: `reconcile` gets a name, never an event. It reads what is wanted from the cache and what is from
the inventory, takes one step, and says when to look again. It never waits: a call to a supplier goes through `calls.py`, which
leaves the reconcile by an exception and wakes its key when the answer is there. Who runs controllers is `manager.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from ..client import Client, Event
from ..objects import Resource
from ..plugins import Plugins
from .cache import Cache
from .clock import Clock
from .events import Recorder

if TYPE_CHECKING:
    from .calls import Calls
    from .inventory import Inventory
    from .places import Places

T = TypeVar("T")


class Key(NamedTuple):
    """What a reconcile is about; namespace is "" for what is cluster-scoped."""

    namespace: str
    name: str


@dataclass(frozen=True)
class Result:
    """after: look again in so many awake seconds; None: when something changes (and at the next re-check).
    slow: a mere periodic look, nothing is in flight."""

    after: float | None = None
    slow: bool = False


class Watch(NamedTuple):
    """Changes of a kind, and which keys they concern."""

    kind: type[Resource]
    keys: Callable[[Event[Any]], Iterable[Key]]


class Wake(Protocol):
    def __call__(self, controller: str, key: Key, after: float = 0.0) -> None:
        """Have a controller look at a key, in so many awake seconds."""
        ...


class Together(Protocol):
    def __call__(self, work: Sequence[Callable[[], T]]) -> list[T]:
        """Run store writes side by side, so that they share one commit. Raises the first error after all have ended."""
        ...


class Known(Protocol):
    """The part of an Env that is enough to read: what there is, and what controllers remember of it."""

    @property
    def cache(self) -> Cache: ...

    def shared(self, cls: type[T]) -> T: ...


@dataclass
class Env:
    """Everything a controller may use. installation: the id in every mark."""

    client: Client
    cache: Cache
    clock: Clock
    places: Places
    calls: Calls
    events: Recorder
    plugins: Plugins
    installation: str
    inventory: Inventory
    wake: Wake
    together: Together
    _shared: dict[type, Any] = field(default_factory=dict)

    def shared(self, cls: type[T]) -> T:
        """The one instance of a class in this process: what controllers remember together. Built on first use, while the
        controllers are being built."""
        if cls not in self._shared:
            self._shared[cls] = cls()
        found: T = self._shared[cls]
        return found

    def close_shared(self) -> None:
        """The process ends: what holds connections or threads lets them go."""
        for one in self._shared.values():
            close = getattr(one, "close", None)
            if close is not None:
                close()


class Controller:
    """Base of all. `kind`, where there is one, is always watched (key: the object's own); `watches` adds more.

    resync  every object of `kind` is looked at again at least so often (seconds, jittered)
    lull    seconds between two looks at a key that changes cause: for what sums up many objects that change at once
    """

    name: str = ""
    kind: type[Resource] | None = None
    watches: Sequence[Watch] = ()
    resync: float = 600.0
    lull: float = 0.0

    def __init__(self, env: Env) -> None:
        self.env = env

    def reconcile(self, key: Key) -> Result:
        """One step nearer. Called by one thread at a time for a key; called again, later and later, when it raises."""
        raise NotImplementedError


def own_key(event: Event[Any]) -> tuple[Key, ...]:
    """The key of an object itself."""
    return (Key(event.object.namespace, event.object.name),)

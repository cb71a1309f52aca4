"""Places: what a Provider has become in this process, or the reason why it has not; and what all pools know of a lack of capacity.

The provider controller puts them here; everything that calls a supplier takes its Place from here, and asks it what may be done.
`calls.py` notes what calls say about a place (denied, no capacity, unknown). Nothing here is stored: after a restart the first
calls tell again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..errors import NoCapacity
from ..errors import Place as Reach
from ..kinds import Provider
from ..supplier import Capabilities, Identity, Suppliers
from .budgets import Budget
from .clock import Clock

COOL = 300.0
"""Seconds for which a lack of capacity is believed when the place does not say."""

COOL_QUOTA = 900.0
"""The same for a quota, which only a person raises."""

Follower = Callable[[str], None]


@dataclass(eq=False)
class Place:
    """One Provider, as far as it works.

    built       what the plugin's build gave; None until it answered once in this process
    built_at    epoch seconds of that
    fault       why it cannot be used at all: a CamelCase word, and a sentence with the remedy
    frozen      another identity answers than the one it was first used with: nothing is created, deleted or concluded
    pause       what is paused ("" when nothing is): the Provider or the installation
    denied      the last refusal of credentials or rights, until a check succeeds
    held        the Provider carries its finalizer, so it cannot go while something is made with it
    budget      of requests, shared by all Providers of its identity; None until it was built
    last_unknown  awake time of the last call whose outcome is unknown
    last_made     awake time at which the last call returned that may have made something
    """

    name: str
    provider: Provider
    built: Suppliers | None = None
    built_at: float = 0.0
    fault: tuple[str, str] = ("Starting", "it has not answered yet; wait a moment")
    frozen: bool = False
    pause: str = ""
    denied: str = ""
    held: bool = False
    budget: Budget | None = None
    last_unknown: float | None = None
    last_made: float | None = None

    @property
    def suppliers(self) -> Suppliers:
        """Only for a place that is `usable`."""
        if self.built is None:
            raise RuntimeError(f"place {self.name} was used before it was built")
        return self.built

    @property
    def identity(self) -> Identity:
        """Of what was built; before that one that nothing else has."""
        return self.built.identity if self.built else Identity(key=f"provider/{self.name}", principal="")

    @property
    def capabilities(self) -> Capabilities:
        return self.built.capabilities if self.built else Capabilities()

    @property
    def access(self) -> str:
        """The way into its machines, ssh | execute | none: what the place has, unless its Provider is not to use it."""
        return "none" if self.provider.spec.access.kind == "none" else self.capabilities.access

    @property
    def usable(self) -> bool:
        """It was built and is whose it was: it can be observed, and what is seen there counts."""
        return self.built is not None and not self.frozen and not self.fault[0]

    @property
    def ok(self) -> bool:
        """Nothing stands in the way; else `reason` and `why`."""
        return not self.reason

    @property
    def reason(self) -> str:
        return self._obstacle()[0]

    @property
    def why(self) -> str:
        return self._obstacle()[1]

    @property
    def may_create(self) -> bool:
        return self.ok and self.held

    @property
    def may_change(self) -> bool:
        return self.usable and not self.pause

    @property
    def may_delete(self) -> bool:
        """Also when denied: the right to delete may be there, and a delete may be what frees a quota."""
        return self.usable and not self.pause

    def _obstacle(self) -> tuple[str, str]:
        if self.fault[0]:
            return self.fault
        if self.pause:
            return "Paused", f"{self.pause} is paused; set spec.paused: false there to go on"
        if self.denied:
            return "CredentialsDenied", self.denied
        if self.provider.deleting:
            return "ProviderDeleting", f"Provider {self.name} is being deleted; use another one"
        return "", ""


@dataclass(frozen=True)
class Cool:
    """A lack that is believed until `until` (awake seconds)."""

    reach: Reach
    until: float
    message: str
    person: bool
    remedy: str = ""


@dataclass
class Cooldowns:
    """Per identity: what has no capacity. Shared by all pools of all clusters, so each lack is found out once."""

    clock: Clock
    _lacks: dict[str, dict[Reach, Cool]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, identity: str, error: NoCapacity) -> None:
        seconds = error.retry_after if error.retry_after is not None else COOL_QUOTA if error.person else COOL
        cool = Cool(error.scope, self.clock.awake() + seconds, error.message, error.person, error.remedy)
        with self._lock:
            self._lacks.setdefault(identity, {})[error.scope] = cool

    def covering(
        self, identity: str, place: str, machine_type: str, spot: bool, slots: Sequence[str] | None = None
    ) -> Cool | None:
        """The lack, of those an offer falls under, that lasts longest; None: it may be tried. Of its slots all must lack."""
        found = [cool for cool in self._now(identity) if cool.reach.covers(place, machine_type, spot)]
        whole = [cool for cool in found if cool.reach.slot is None]
        if slots and set(slots) <= {cool.reach.slot for cool in found}:
            whole += [cool for cool in found if cool.reach.slot in slots]
        return max(whole, key=lambda cool: cool.until, default=None)

    def slots(self, identity: str) -> set[str]:
        """Those that are not to be tried now."""
        return {cool.reach.slot for cool in self._now(identity) if cool.reach.slot is not None}

    def _now(self, identity: str) -> list[Cool]:
        now = self.clock.awake()
        with self._lock:
            lacks = self._lacks.get(identity, {})
            for reach in [reach for reach, cool in lacks.items() if cool.until <= now]:
                del lacks[reach]
            return list(lacks.values())


class Places:
    """All places by Provider name. Thread-safe."""

    def __init__(self, clock: Clock) -> None:
        self.cooldowns = Cooldowns(clock)
        self._places: dict[str, Place] = {}
        self._followers: list[Follower] = []

    def get(self, name: str | None) -> Place | None:
        """None when there is no such Provider; else a Place that may not be `usable`."""
        return self._places.get(name or "")

    def all(self) -> list[Place]:
        return list(self._places.values())

    def of_identity(self, key: str) -> list[Place]:
        """The places that answer for one account; usually one."""
        return [place for place in self.all() if place.usable and place.identity.key == key]

    def put(self, place: Place) -> None:
        """New, rebuilt or changed: whoever follows it is woken."""
        self._places[place.name] = place
        self.changed(place.name)

    def drop(self, name: str) -> None:
        if self._places.pop(name, None) is not None:
            self.changed(name)

    def changed(self, name: str) -> None:
        for follower in self._followers:
            follower(name)

    def on_change(self, follower: Follower) -> None:
        """Call with the name of a Provider when its place changed. Controllers that watch Providers are woken anyway."""
        self._followers.append(follower)

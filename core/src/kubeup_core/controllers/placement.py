"""Puts waiting machines into Launches: chooses offers, and writes the Launch that `launch.py` then drives.

A key is a pool, or one Machine without a pool. The Launch is written, in one transaction, before anything is asked of a place; a
machine is in at most one open Launch, because a machine belongs to one key and a key is worked on by one thread, and the Launch
that was just written is in the cache. Why a pool gets nothing is kept in the Book; `nodepool.py` and `machine.py` show it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..client import Event
from ..errors import NotReady, SupplierError
from ..errors import Place as Reach
from ..kinds import Cluster, Launch, Machine, NodePool, Provider, Volume
from ..kinds.launch import FINALIZER, LaunchMember, LaunchSpec
from ..kinds.machine import FINALIZER as MACHINE_FINALIZER
from ..kinds.nodepool import ADDRESS, OfferSpec
from ..kinds.template import DEFAULTS
from ..objects import ObjectMeta, parse_timestamp, timestamp
from ..provider_types import PluginError
from ..runtime.controller import Controller, Env, Key, Result, Watch
from ..runtime.places import Cool, Place
from ..supplier import Offer, Problem, Template
from ..user_data import TooLong
from .attachment import at_launch, misfit
from .book import Book, Verdict
from .marks import index_of, made_by, member_of, stored_offer, stored_template, to_template
from .network import network_data
from .network_rules import reachable
from .offers import Choice, Option, affordable, choose, fits
from .pauses import paused
from .troubles import missing
from .user_data import BootData, UserData, keep_user_data

ALONE = "machine/"
"""Prefix of the keys of Machines without a pool; no name has a slash."""

RETRY = 300.0
LONGEST_RETRY = 300.0
FRESH = 5.0
"""Seconds for which a place's offers are believed. Hosts that launches speak for are known besides."""


def placement_key(machine: Machine) -> Key:
    return Key(machine.namespace, machine.spec.pool or f"{ALONE}{machine.name}")


@dataclass
class _Round:
    """One look at one key."""

    key: Key
    cluster: Cluster
    pool: NodePool | None
    machines: list[Machine]
    verdicts: list[Verdict]

    def say(self, reason: str, message: str, until: float | None = None, *, stalled: bool = False) -> None:
        self.verdicts.append(Verdict(reason, message, until, stalled))


class PlacementController(Controller):
    name = "placement"

    def __init__(self, env: Env) -> None:
        self.watches = (
            Watch(Machine, self._of_machine),
            Watch(NodePool, lambda event: (Key(event.object.namespace, event.object.name),)),
            Watch(Launch, self._of_launch),
            Watch(Cluster, self._of_cluster),
            Watch(Provider, lambda event: self._waiting()),
            Watch(Volume, lambda event: self._waiting()),
        )
        super().__init__(env)
        self.book = env.shared(Book)
        self.user_data = UserData(env, self.name)
        self._offers: dict[tuple[str, str], tuple[float, object, Sequence[Offer]]] = {}

    def reconcile(self, key: Key) -> Result:
        if key in self.book.creating:
            return Result()  # the pool controller wakes this key when all of its machines are there: one launch for all
        machines = self._candidates(key)
        waiting = [m for m in machines if self._waits(m)]
        if not waiting:
            self._conclude(key, ())
            return Result()
        now = self.env.clock.wall()
        due = [m for m in waiting if self._retry_at(m) <= now]
        cluster = self.env.cache.get(Cluster, waiting[0].spec.cluster, key.namespace)
        if cluster is None:
            names = (c.name for c in self.env.cache.list(Cluster, key.namespace))
            trouble = missing("Cluster", waiting[0].spec.cluster, names)
            self._conclude(key, (Verdict(trouble.reason, trouble.message, stalled=True),))
            return Result()
        pool = self.env.cache.get(NodePool, waiting[0].spec.pool, key.namespace) if waiting[0].spec.pool else None
        if cluster.deleting or paused(self.env, waiting[0]):
            return Result()
        round_ = _Round(key, cluster, pool, due, [])
        for alike in _alike(due):
            self._place(round_, alike)
        self._conclude(key, tuple(round_.verdicts))
        times = [v.until for v in round_.verdicts if v.until is not None]
        times += [at for m in waiting if (at := self._retry_at(m)) > now]
        return Result(after=max(0.5, min(times) - now)) if times else Result()

    # -- what waits ------------------------------------------------------------------------------------------------------

    def _candidates(self, key: Key) -> list[Machine]:
        if key.name.startswith(ALONE):
            machine = self.env.cache.get(Machine, key.name.removeprefix(ALONE), key.namespace)
            return [machine] if machine is not None and not machine.spec.pool else []
        pool = self.env.cache.get(NodePool, key.name, key.namespace)
        return self.env.cache.by(Machine, "pool", f"{key.namespace}/{pool.spec.cluster}/{pool.name}") if pool else []

    def _waits(self, machine: Machine) -> bool:
        """In no Launch, or only in such that are known not to have made it."""
        if machine.deleting or machine.status.launch is not None or MACHINE_FINALIZER not in machine.finalizers:
            return False
        for launch in self.env.cache.by(Launch, "member", machine.uid):
            if launch.status.phase == "Open":
                return False
            if made_by(launch, machine) is not None:
                return False
        return True

    def _retry_at(self, machine: Machine) -> float:
        """Refusals for lack of capacity wait for their cool-down, others longer and longer."""
        launches = self.env.cache.by(Launch, "member", machine.uid)
        if not launches:
            return 0.0
        last = max(launches, key=lambda launch: launch.status.settled_at or "")
        member = member_of(last, index_of(last, machine))
        error = member.error if member is not None else None
        if error is None or error.decision == "NoCapacity":
            return 0.0
        return parse_timestamp(last.status.settled_at or "") + min(2.0 ** len(launches), LONGEST_RETRY)

    # -- choosing --------------------------------------------------------------------------------------------------------

    def _place(self, round_: _Round, machines: list[Machine]) -> None:
        options: list[Option] = []
        for rank, spec, name in self._wished(round_, machines[0]):
            options += self._options(round_, machines[0], rank, spec, name)
        if not options:
            return
        with self.book.placing:
            machines = [m for m in machines if self._waits(m)]
            spread = round_.pool is None or round_.pool.spec.spread == "zone"
            counts = _Counts(self.env, round_)
            volumes = {(i, o.place.name): at_launch(self.env, m, o.place) for i, m in enumerate(machines) for o in options}
            choices, left = choose(
                options,
                len(machines),
                cooling=lambda o: self._cooling(o),
                room=counts.room,
                took=counts.took,
                used=counts.used,
                taken=counts.taken,
                suits=lambda i, o: volumes[i, o.place.name] is not None and self._suits(round_, machines[i], o),
                spread=spread,
            )
            for choice in choices:
                self._write(round_, machines, choice, {i: volumes[i, choice.option.place.name] or () for i in choice.machines})
        if left:
            self._explain(round_, options, counts)

    def _wished(self, round_: _Round, machine: Machine) -> Iterator[tuple[int, OfferSpec | None, str]]:
        """The places in order: the Machine's own, the pool's offers, else the cluster's."""
        if machine.spec.provider:
            yield 0, None, machine.spec.provider
        elif round_.pool is not None and round_.pool.spec.offers:
            for rank, spec in enumerate(round_.pool.spec.offers):
                yield rank, spec, spec.provider
        else:
            yield 0, None, round_.cluster.spec.provider

    def _options(self, round_: _Round, machine: Machine, rank: int, spec: OfferSpec | None, name: str) -> list[Option]:
        """The offers of one place, or a verdict why there are none."""
        place = self.env.places.get(name)
        if place is None:
            trouble = missing("Provider", name, (p.name for p in self.env.cache.list(Provider)))
            round_.say(trouble.reason, trouble.message, stalled=True)
            return []
        if not place.may_create:
            round_.say(place.reason or "Starting", f"Provider {name}: {place.why or 'it is being prepared; wait a moment'}")
            return []
        apart = reachable(round_.cluster, round_.pool, name) if round_.pool is not None else None
        if apart is not None:
            round_.say("Unreachable", f"{apart.message}; {apart.remedy}", stalled=True)
            return []
        if network_data(round_.cluster, place) is None:
            round_.say("NetworkNotReady", f"waits for the network of Cluster {round_.cluster.name} at Provider {name}")
            return []
        wanted = machine.spec.machine.over(round_.cluster.spec.machine, DEFAULTS)
        overrides = dict(machine.spec.overrides.get(place.provider.spec.type, {}))
        want = to_template(wanted, overrides, self._arch(round_), spec.spot if spec else None, machine.spec.role)
        problems = self._problems(place, overrides, want)
        if problems:
            self._refuse(round_, name, problems[0])
            return []
        refused = self._invalid(machine, place)
        if refused:
            round_.say("InvalidSpec", f"Provider {name} refused this machine: {refused}; change the spec", stalled=True)
            return []
        try:
            offers = self._ask(place, want, round_.key)
        except SupplierError as error:
            self.env.calls.note(place, error)
            round_.say(error.decision, f"Provider {name} gave no offers: {error.message}; it is asked again", self._in(30.0))
            return []
        found = [Option(place=place, want=want, offer=o, rank=rank) for o in affordable([o for o in offers if fits(spec, o)])]
        if not found:
            fixed = any(o.slots is not None for o in offers)
            what = "no free host" if fixed else "no offer that fits the pool's zones and machine type"
            round_.say(
                "NoOffer",
                f"Provider {name} has {what}; ask for less, or change the pool's offers",
                self._in(30.0 if fixed else RETRY),
            )
        return found

    def _ask(self, place: Place, want: Template, key: Key) -> Sequence[Offer]:
        """What the place offers, at most FRESH seconds old: several places are asked in turn, each in its own time."""
        digest = hashlib.sha256(repr(want).encode()).hexdigest()[:16]
        name = (place.name, digest)
        at, built, offers = self._offers.get(name, (float("-inf"), None, ()))
        if self.env.clock.awake() - at > FRESH or built is not place.built:
            offers = self.env.calls.do(
                place, f"offers {digest}", "offers", lambda: place.suppliers.machines.offers(want),
                wake=(self.name, key), mutating=False, token=str(place.built_at),
            )  # fmt: skip
            if len(self._offers) > 1_000:
                self._offers.clear()
            self._offers[name] = (self.env.clock.awake(), place.built, offers)
        return offers

    def _problems(self, place: Place, overrides: dict[str, object], want: Any) -> Sequence[Problem]:
        try:
            self.env.plugins.overrides(place.provider.spec.type, overrides)
        except PluginError as error:
            return getattr(error, "problems", None) or (Problem(path="", message=error.message, remedy=error.remedy),)
        try:
            return place.suppliers.machines.check(want)
        except Exception as error:
            return (Problem(path="", message=f"the plugin cannot judge this machine: {type(error).__name__}"),)

    @staticmethod
    def _refuse(round_: _Round, name: str, problem: Problem) -> None:
        where = f"{problem.path}: " if problem.path else ""
        remedy = f"; {problem.remedy}" if problem.remedy else "; change the spec"
        round_.say("InvalidSpec", f"Provider {name}: {where}{problem.message}{remedy}", stalled=True)

    def _invalid(self, machine: Machine, place: Place) -> str:
        """An earlier refusal for good: not tried again before the machine's spec or the Provider is another."""
        for launch in self.env.cache.by(Launch, "member", machine.uid):
            if launch.spec.provider != place.name or parse_timestamp(launch.status.settled_at or timestamp(0)) < place.built_at:
                continue
            member = member_of(launch, index_of(launch, machine))
            if member is not None and member.error is not None and member.error.decision == "InvalidSpec":
                return member.error.message
        return ""

    def _arch(self, round_: _Round) -> str:
        """Fixed by the pool's first launch, so that a pool never mixes architectures."""
        if round_.pool is None:
            return ""
        if round_.pool.status.arch:
            return round_.pool.status.arch
        name = f"{round_.key.namespace}/{round_.cluster.name}/{round_.pool.name}"
        launches = sorted(self.env.cache.by(Launch, "pool", name), key=lambda launch: launch.metadata.creation_timestamp or "")
        return launches[0].spec.offer.arch if launches else ""

    def _cooling(self, option: Option) -> Cool | None:
        """A lack of capacity, or a zone that does not answer: asking there would only hold machines up."""
        o = option.offer
        seen = self.env.inventory.snapshot(option.place, "machines")
        if seen is not None and o.slots and seen.unreachable.issuperset(o.slots):
            said = f"{', '.join(o.slots)} does not answer"
            return Cool(Reach(), self.env.clock.awake() + 30.0, said, person=False)
        if seen is not None and o.place and o.place in seen.unreachable:
            return Cool(Reach(place=o.place), self.env.clock.awake() + 30.0, f"{o.place} does not answer", person=False)
        return self.env.places.cooldowns.covering(option.place.identity.key, o.place, o.machine_type, o.spot, o.slots)

    def _suits(self, round_: _Round, machine: Machine, option: Option) -> bool:
        apart = misfit(self.env, machine, option.place, option.offer.place, option.offer.reach)
        if apart is not None:
            if not any(v.message == apart.message for v in round_.verdicts):
                round_.say(apart.reason, apart.message, stalled=True)
            return False
        return True

    def _explain(self, round_: _Round, options: Sequence[Option], counts: _Counts) -> None:
        """Why some are left: limits first, because a person can change them; else what has no capacity, and until when."""
        for place in {o.place.name: o.place for o in options}.values():
            if counts.at_limit(place):
                limit = place.provider.spec.limits.machines
                round_.say(
                    "LimitReached",
                    f"Provider {place.name} has {limit} machines, its limit; raise it: kubectl patch provider {place.name} "
                    f'--type merge -p \'{{"spec":{{"limits":{{"machines":{limit * 2 or 10}}}}}}}\', or scale down',
                    stalled=True,
                )
                return
        lacks = [cool for o in options if (cool := self._cooling(o)) is not None]
        if lacks:
            first = min(lacks, key=lambda cool: cool.until)
            person = next((cool for cool in lacks if cool.person), None)
            until = self._in(first.until - self.env.clock.awake())
            said = person or first
            reason = "QuotaExceeded" if person else "NoCapacity"
            remedy = said.remedy or ("raise the quota at the provider" if person else "wait, or add other offers to the pool")
            message = f"{said.message}; the next try is at {timestamp(until)}; {remedy}"
            round_.say(reason, message, until, stalled=person is not None)
            return
        if not round_.verdicts:
            round_.say("NoOffer", "every host is taken; add hosts, or scale down", self._in(60.0))

    # -- writing ---------------------------------------------------------------------------------------------------------

    def _write(self, round_: _Round, machines: list[Machine], choice: Choice, volumes: dict[int, tuple[str, ...]]) -> None:
        """Launches of one option, each no larger than the place takes in one call. Control planes come one by one."""
        place = choice.option.place
        alone = machines[0].spec.role == "controlPlane"
        size = 1 if alone else max(1, place.capabilities.batch_limit)
        picked = list(zip(choice.machines, choice.slots, strict=True))
        pool = round_.pool if place.capabilities.addresses else None
        address = pool.annotations.get(ADDRESS, "") if pool is not None else ""
        for start in range(0, len(picked), size):
            batch = [
                (
                    machines[i],
                    LaunchMember(
                        name=machines[i].name, uid=machines[i].uid, slot=slot, volumes=list(volumes[i]), address=address
                    ),
                )
                for i, slot in picked[start : start + size]
            ]
            self._told(round_, choice.option, batch)

    def _told(self, round_: _Round, option: Option, batch: Sequence[tuple[Machine, LaunchMember]]) -> None:
        """One Launch with its user-data; several where the place does not take the user-data of so many."""
        machines, members = [machine for machine, _ in batch], [member for _, member in batch]
        name = self._name(machines[0], members)
        try:
            told = self.user_data.of(
                round_.cluster, machines, option.place, arch=option.offer.arch, launch=name, key=round_.key
            )
        except SupplierError as error:
            if isinstance(error, TooLong) and len(batch) > 1:
                half = len(batch) // 2
                self._told(round_, option, batch[:half])
                self._told(round_, option, batch[half:])
            else:
                self._unable(round_, option.place.name, error)
            return
        self._create(round_, machines[0], option, members, name, told)

    def _name(self, machine: Machine, members: Sequence[LaunchMember]) -> str:
        """It says which machines and which attempt, so a second decision of the same kind is refused as a conflict."""
        attempts = sum(len(self.env.cache.by(Launch, "member", member.uid)) for member in members)
        digest = hashlib.sha256(" ".join([str(attempts), *(m.uid for m in members)]).encode()).hexdigest()[:10]
        return f"{machine.spec.pool or machine.name}-{digest}"

    def _unable(self, round_: _Round, name: str, error: SupplierError) -> None:
        """There is nothing that its machines could be told at their first boot."""
        message = f"Provider {name}: {error.message}" + (f"; {error.remedy}" if error.remedy else "")
        after = error.retry_after or RETRY if isinstance(error, NotReady) else RETRY
        round_.say(error.decision, message, self._in(after), stalled=not isinstance(error, NotReady))

    def _create(
        self, round_: _Round, machine: Machine, option: Option, members: list[LaunchMember], name: str, told: BootData
    ) -> None:
        cluster, place = round_.cluster, option.place
        launch = Launch(
            metadata=ObjectMeta(name=name, namespace=round_.key.namespace, finalizers=[FINALIZER]),
            spec=LaunchSpec(
                cluster=cluster.name,
                clusterUID=cluster.uid,
                pool=machine.spec.pool,
                provider=place.name,
                identity=place.identity.key,
                offer=stored_offer(option.offer),
                template=stored_template(option.want),
                role=machine.spec.role,
                members=members,
                network=dict(network_data(cluster, place) or {}),
                user_data_digest=hashlib.sha256(told.content).hexdigest(),
            ),
        )
        keep_user_data(self.env, cluster, name, told)
        written = self.env.client.create(launch)
        self.book.fresh(written.uid)
        self.env.wake("launch", Key(written.namespace, written.name))

    def _conclude(self, key: Key, verdicts: tuple[Verdict, ...]) -> None:
        if self.book.say(key, verdicts):
            name = key.name.removeprefix(ALONE)
            self.env.wake("machine" if key.name.startswith(ALONE) else "nodepool", Key(key.namespace, name))

    def _in(self, seconds: float) -> float:
        return self.env.clock.wall() + seconds

    # -- who is woken ----------------------------------------------------------------------------------------------------

    def _of_machine(self, event: Event[Any]) -> Iterator[Key]:
        if event.object.status.launch is None or event.type == "DELETED":
            yield placement_key(event.object)

    @staticmethod
    def _of_launch(event: Event[Any]) -> Iterator[Key]:
        launch: Launch = event.object
        if launch.status.phase == "Settled" or event.type == "DELETED":
            if launch.spec.pool:
                yield Key(launch.namespace, launch.spec.pool)
            else:
                yield from (Key(launch.namespace, f"{ALONE}{member.name}") for member in launch.spec.members)

    def _of_cluster(self, event: Event[Any]) -> Iterator[Key]:
        where = f"{event.object.namespace}/{event.object.name}"
        yield from (Key(pool.namespace, pool.name) for pool in self.env.cache.by(NodePool, "cluster", where))
        yield from self._waiting()

    def _waiting(self) -> list[Key]:
        """Keys for which something was in the way."""
        with self.book.lock:
            return list(self.book.verdicts)


class _Counts:
    """Machines there are already: by zone for spreading, by place for limits, by slot for inventories."""

    def __init__(self, env: Env, round_: _Round) -> None:
        self.env = env
        self.round = round_
        self.used: dict[tuple[str, str], int] = {}
        self._left: dict[str, int] = {}
        self._slots: dict[str, set[str]] = {}
        if round_.pool is not None:
            for launch in env.cache.by(Launch, "pool", f"{round_.key.namespace}/{round_.cluster.name}/{round_.pool.name}"):
                zone = (launch.spec.provider, launch.spec.offer.place)
                self.used[zone] = self.used.get(zone, 0) + sum(1 for _ in living(env, launch))

    def room(self, option: Option) -> int:
        name = option.place.name
        if name not in self._left:
            at = machines_at(self.env, name)
            self._left[name] = max(0, option.place.provider.spec.limits.machines - at)
        pool = self.round.pool
        spec = pool.spec.offers[option.rank] if pool is not None and pool.spec.offers else None
        if spec is None or spec.max is None:
            return self._left[name]
        from_here = sum(
            n for (provider, zone), n in self.used.items() if provider == name and (not spec.zones or zone in spec.zones)
        )
        return max(0, min(self._left[name], spec.max - from_here))

    def took(self, option: Option) -> None:
        self._left[option.place.name] -= 1
        zone = (option.place.name, option.offer.place)
        self.used[zone] = self.used.get(zone, 0) + 1

    def at_limit(self, place: Place) -> bool:
        return machines_at(self.env, place.name) >= place.provider.spec.limits.machines

    def taken(self, option: Option) -> set[str]:
        """Hosts of this identity that a stored Launch speaks for, whatever a listing of free hosts says, and those that cool down."""
        key = option.place.identity.key
        if key not in self._slots:
            launches = [ln for p in self.env.places.of_identity(key) for ln in self.env.cache.by(Launch, "provider", p.name)]
            spoken_for = {slot for launch in launches for slot in _slots(self.env, launch)}
            self._slots[key] = spoken_for | self.env.places.cooldowns.slots(key)
        return self._slots[key]


def living(env: Env, launch: Launch) -> Iterator[Machine]:
    """Machines that this launch made, or may yet make."""
    out = {m.index for m in launch.status.members if m.outcome in ("Refused", "Absent", "Dead")}
    for index, member in enumerate(launch.spec.members):
        machine = env.cache.get(Machine, member.name, launch.namespace)
        if index not in out and machine is not None and machine.uid == member.uid:
            yield machine


def machines_at(env: Env, provider: str) -> int:
    """Machines of a Provider, over all clusters: those that count against limits.machines."""
    return sum(1 for launch in env.cache.by(Launch, "provider", provider) for _ in living(env, launch))


def _slots(env: Env, launch: Launch) -> Iterator[str]:
    """A host stays spoken for until the Launch that names it is only a record."""
    out = {m.index for m in launch.status.members if m.outcome in ("Refused", "Absent")}
    if FINALIZER in launch.finalizers:
        book = env.shared(Book)
        for index, member in enumerate(launch.spec.members):
            if member.slot and index not in out and (launch.uid, index) not in book.proven:
                yield member.slot


def _alike(machines: Sequence[Machine]) -> list[list[Machine]]:
    """Groups that can share a Launch."""
    groups: dict[str, list[Machine]] = {}
    for machine in sorted(machines, key=lambda m: m.name):
        s = machine.spec
        groups.setdefault(repr((s.machine, s.overrides, s.role, s.provider)), []).append(machine)
    return list(groups.values())

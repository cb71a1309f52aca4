"""A small cloud in memory, and four suppliers for it that keep the contract. The broken suppliers are mutations of these.

`Place` is the cloud: one method call is one API request; things are made by unique name, carry labels, and move on by ticks.
The suppliers are stateless: all they know is what the place tells them.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace

from kubeup_core import (
    Access,
    Blocked,
    Capabilities,
    Context,
    Identity,
    InvalidSpec,
    LoadBalancerState,
    MachineState,
    Mark,
    NetworkState,
    NoCapacity,
    NotFound,
    Offer,
    Outcome,
    Phase,
    Ref,
    Result,
    Snapshot,
    Suppliers,
    Taken,
    Unknown,
    VolumeState,
)

BOOT, END, SHOWN_AFTER_END, SETTLED, UNDONE, LATE, DRAIN = 2, 2, 2, 1, 4, 1, 2
ZONES = ("z1", "z2")
MAX_VOLUMES = 2


class Exhausted(Exception):
    """The place's answer 503."""


class Conflict(Exception):
    """The place's answer 409: the name is in use."""


class Missing(Exception):
    """The place's answer 404."""


class InUse(Exception):
    """The place's answer 400: something else depends on it."""


@dataclass
class Thing:
    kind: str
    id: str
    name: str
    labels: str  # a Mark as JSON, "" for what somebody else made
    zone: str
    born: int
    props: dict = field(default_factory=dict)
    ended: int | None = None  # tick of the deletion, or of the death
    hidden: bool = False
    settles: int = 0

    @property
    def mark(self) -> Mark | None:
        return Mark(**json.loads(self.labels)) if self.labels else None


class Place:
    """The cloud. Everything under one lock; nothing takes time but by `tick`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.things: dict[str, Thing] = {}
        self.now = 0
        self.made = 0
        self.requests = 0
        self.page = 2
        self.room: int | None = None
        self.silent: set[str] = set()
        self.broken = self.stale = self.late = self.undo = False
        self.lose = ""

    # -- requests

    def list(self, kind: str, after: int = 0) -> tuple[list[Thing], int | None, set[str]]:
        """One page of what there is of a kind: (things, where the next page begins, zones that did not answer)."""
        with self.lock:
            self.requests += 1
            if "" in self.silent or (self.broken and after):
                raise ConnectionError("the listing broke off")
            found = [t for t in self.things.values() if t.kind == kind and not t.hidden and t.zone not in self.silent]
            page = [self._copy(t) for t in found[after : after + self.page]]
            return page, after + self.page if after + self.page < len(found) else None, set(self.silent)

    def get(self, id: str) -> Thing:
        with self.lock:
            self.requests += 1
            if id not in self.things:
                raise Missing(id)
            return self._copy(self.things[id])

    def find(self, kind: str, name: str) -> Thing:
        """Look-up by name: the one consistent read there is."""
        with self.lock:
            self.requests += 1
            for thing in self.things.values():
                if (thing.kind, thing.name) == (kind, name):
                    return self._copy(thing)
            raise Missing(name)

    def insert(self, kind: str, name: str, labels: str, zone: str = "z1", **props: object) -> Thing:
        with self.lock, self._changing():
            if any((t.kind, t.name) == (kind, name) for t in self.things.values()):
                raise Conflict(name)
            if kind == "machine" and self.room is not None:
                if self.room == 0:
                    raise Exhausted(zone)
                self.room -= 1
            self.made += 1
            thing = Thing(kind, f"{kind}-{self.made:04d}", name, labels, zone, self.now, dict(props), hidden=self.stale)
            thing.settles = self.now + (UNDONE if self.undo else SETTLED)
            if kind == "machine" and (self.late or self.undo):
                thing.props["fate"] = "late" if self.late else "undone"
            self.things[thing.id] = thing
            return self._copy(thing)

    def update(self, id: str, labels: str | None = None, **props: object) -> None:
        with self.lock, self._changing():
            if id not in self.things:
                raise Missing(id)
            self.things[id].props.update(props)
            if labels is not None:
                self.things[id].labels = labels

    def delete(self, id: str) -> None:
        with self.lock, self._changing():
            thing = self.things.get(id)
            if thing is None:
                raise Missing(id)
            if thing.kind == "network" and any(t.props.get("network") == id for t in self._of("machine")):
                raise InUse(id)
            if thing.kind == "volume" and thing.props.get("machine"):
                raise InUse(id)
            if thing.kind == "machine":
                thing.ended = self.now if thing.ended is None else thing.ended
            else:
                del self.things[id]

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self.requests += 1
        if self.lose == "request":
            raise ConnectionError("broken pipe")
        yield
        if self.lose == "reply":
            raise ConnectionError("connection reset")

    def _copy(self, thing: Thing) -> Thing:
        return replace(thing, props=dict(thing.props))

    def _of(self, kind: str) -> list[Thing]:
        return [t for t in self.things.values() if t.kind == kind and not (t.ended is not None and self.now >= t.ended + END)]

    # -- time, and what a rig does behind the suppliers' back

    def tick(self) -> None:
        with self.lock:
            self.now += 1
            for thing in list(self.things.values()):
                fate = thing.props.get("fate")
                if fate == "undone" and self.now >= thing.born + UNDONE:
                    self._drop(thing)
                if thing.ended is not None and self.now >= thing.ended + END:
                    for volume in self._of("volume"):
                        if volume.props.get("machine") == thing.id:
                            volume.props["machine"] = ""
                if thing.ended is not None and self.now >= thing.ended + END + SHOWN_AFTER_END:
                    self._drop(thing)

    def _drop(self, machine: Thing) -> None:
        self.things.pop(machine.id)
        self.things.pop(machine.props.get("disk", ""), None)

    def die(self, ref: Ref) -> None:
        with self.lock:
            self.things[ref.id].ended = self.now - END

    def squat(self, launch: object) -> None:
        self.insert("machine", machine_name(launch, 0), "")

    def everything(self) -> list[str]:
        with self.lock:
            parts = {t.props.get("disk") for t in self.things.values()}
            return [t.id for t in self.things.values() if t.id not in parts]

    def traffic(self, ref: Ref) -> list[str]:
        with self.lock:
            groups = [t for t in self.things.values() if t.kind == "group" and t.name == ref.id]
            return [key for key, (state, _) in groups[0].props["members"].items() if state == "in"] if groups else []

    def existing_network(self) -> tuple[dict[str, object], str]:
        thing = self.insert("network", f"theirs-{self.made}", "")
        return {"network": thing.id}, thing.id

    @contextmanager
    def set(self, **faults: object) -> Iterator[None]:
        before = {name: getattr(self, name) for name in faults}
        vars(self).update(faults)
        try:
            yield
        finally:
            vars(self).update(before)

    def balancer_phase(self, thing: Thing) -> Phase:
        return Phase.RUNNING if self.now >= thing.born + 1 else Phase.PENDING


def machine_name(launch: object, index: int) -> str:
    """The Machine's name and a piece of the mark, so that a dying namesake never stands in the way."""
    return f"{launch.members[index].name}-{launch.mark.maker[:8]}"


def label(mark: Mark) -> str:
    return json.dumps(asdict(mark))


class Client:
    """Charges before each request; turns the place's answers into our errors."""

    def __init__(self, place: Place, context: Context) -> None:
        self.place, self.context = place, context

    def __getattr__(self, name: str) -> object:
        def call(*args: object, **kwargs: object) -> object:
            self.context.charge("api", 1)
            try:
                return getattr(self.place, name)(*args, **kwargs)
            except Missing as error:
                raise NotFound(f"{error} is not there") from error
            except Exhausted as error:
                raise NoCapacity(f"zone {error} has no capacity") from error
            except InUse as error:
                raise Blocked(f"{error} is in use", by=(str(error),)) from error
            except ConnectionError as error:
                raise Unknown(f"no reply: {error}") from error

        return call

    def all(self, kind: str) -> tuple[list[Thing], set[str]]:
        things, silent, after = [], set(), 0
        while after is not None:
            try:
                page, after, zones = self.list(kind, after)
            except Unknown:
                return things, {"*"}
            things += page
            silent |= zones
        return things, silent

    def make(self, kind: str, name: str, mark: Mark, zone: str = "z1", **props: object) -> Thing:
        """The thing of this name: made now, or found with our mark on it."""
        try:
            return self.insert(kind, name, label(mark), zone, **props)
        except Conflict as error:
            thing = self.find(kind, name)
            if thing.mark is None or not thing.mark.same(mark):
                raise Taken(f"{name} is somebody else's", by=thing.labels) from error
            return thing

    def owned(self, ref: Ref) -> Thing:
        thing = self.get(ref.id)
        if thing.mark is None or not thing.mark.same(ref.mark):
            raise NotFound(f"{ref.id} carries another mark")
        return thing

    def observed(self, kind: str, scope: object) -> tuple[list[Thing], frozenset[str]]:
        things, silent = self.all(kind)
        ids = {t.id for t in things}
        for ref in scope.doubt:
            if ref.id not in ids:
                try:
                    things.append(self.owned(ref))
                except NotFound:
                    continue
        return [t for t in things if t.mark and scope.covers(t.mark)], frozenset(silent)


class Machines:
    def __init__(self, client: Client) -> None:
        self.client = client

    def check(self, want):
        return ()

    def offers(self, want):
        return tuple(
            Offer(
                place=zone,
                machine_type="m1",
                arch=want.arch or "amd64",
                spot=False,
                cpu=want.cpu,
                memory=want.memory,
                image=want.image,
                price_per_hour=1.0 + n,
                reach=frozenset({zone}),
                max_volumes=MAX_VOLUMES,
            )
            for n, zone in enumerate(ZONES)
        )

    def launch(self, launch):
        known = self.known(launch)
        return tuple(self.member(launch, i, known.get(i)) for i in range(len(launch.members)))

    def known(self, launch):
        things, _ = self.client.all("machine")
        ours = [t for t in things if t.mark and t.mark.same(launch.member_mark(t.mark.index))]
        return {t.mark.index: t for t in ours}

    def member(self, launch, index, thing):
        """Once something may have been made, nothing is raised: the member's result says it."""
        try:
            return self.result(thing or self.create(launch, index))
        except (NoCapacity, Taken) as error:
            return Result(id="", outcome=Outcome.REFUSED, error=error)
        except Exception as error:
            return Result(id="", outcome=Outcome.UNKNOWN, error=error if isinstance(error, Unknown) else Unknown(str(error)))

    def create(self, launch, index):
        mark, name, zone = launch.member_mark(index), machine_name(launch, index), launch.offer.place
        disk = self.client.make("disk", name, mark, zone)
        props = {"disk": disk.id, "member": launch.members[index].name, "network": launch.network.get("network", "")}
        try:
            thing = self.client.make("machine", name, mark, zone, **props)
        except (NoCapacity, Taken):
            self.client.delete(disk.id)
            raise
        for volume in launch.members[index].volumes:
            self.client.update(volume, machine=thing.id)
        return thing

    def result(self, thing):
        state = self.state(thing)
        if state.phase == Phase.FAILED:
            return Result(id=thing.id, outcome=Outcome.REFUSED, error=state.error)
        if state.phase in (Phase.DELETING, Phase.GONE):
            return Result(id=thing.id, outcome=Outcome.DEAD)
        settled = self.client.place.now >= thing.settles
        return Result(id=thing.id, outcome=Outcome.MADE if settled else Outcome.PENDING)

    def lookup(self, launch):
        things, silent = self.client.all("machine")
        known = {t.mark.index: t for t in things if t.mark and t.mark.same(launch.member_mark(t.mark.index))}
        absent = Result(id="", outcome=Outcome.UNKNOWN if silent else Outcome.ABSENT)
        return tuple(self.result(known[i]) if i in known else absent for i in range(len(launch.members)))

    def observe(self, scope):
        things, silent = self.client.observed("machine", scope)
        disks, quiet = self.client.observed("disk", replace(scope, doubt=()))
        used = {t.props.get("disk") for t in things}
        hidden = silent | quiet
        strays = [d for d in disks if d.id not in used and d.zone not in hidden and "*" not in hidden]
        return Snapshot(
            items=tuple(self.state(t) for t in things),
            unreachable=silent | quiet,
            strays=tuple(Ref(id=d.id, mark=d.mark) for d in strays),
        )

    def state(self, thing):
        now, error = self.client.place.now, None
        if thing.ended is not None:
            phase = Phase.GONE if now >= thing.ended + END else Phase.DELETING
        elif thing.props.get("fate") == "late" and now >= thing.born + LATE:
            phase, error = Phase.FAILED, NoCapacity("refused after all")
        else:
            phase = Phase.RUNNING if now >= thing.born + BOOT else Phase.PENDING
        return MachineState(
            ref=Ref(id=thing.id, mark=thing.mark),
            phase=phase,
            place=thing.zone,
            name=thing.props.get("member", thing.name),
            machine_type="m1",
            access=Access(kind="execute"),
            internal=(f"10.0.0.{thing.id[-2:]}",),
            facts={"type": "m1"},
            error=error,
        )

    def delete(self, refs):
        return tuple(self.end(ref) for ref in refs)

    def end(self, ref):
        try:
            self.client.owned(ref)
            self.client.delete(ref.id)
        except NotFound:
            pass
        return Result(id=ref.id, outcome=Outcome.MADE)

    def execute(self, ref, script, stdin, timeout):
        self.client.owned(ref)
        yield stdin
        yield int(script.split()[-1]) if "exit" in script else 0

    def console(self, ref, limit):
        self.client.owned(ref)
        return "it has booted, and more"[-limit:]

    def reboot(self, ref):
        self.client.owned(ref)


class Networks:
    """Two parts: the network, and a firewall. The id is the parts' common name."""

    parts = ("network", "firewall")

    def __init__(self, client: Client) -> None:
        self.client = client

    def ensure(self, want):
        name = part_name(want)
        firewall = self.client.make("firewall", name, want.mark, network=want.overrides.get("network", ""))
        if not firewall.props["network"]:
            network = self.client.make("network", name, want.mark)
            self.client.update(firewall.id, network=network.id)
            firewall.props["network"] = network.id
        return self.state(name, want.mark, firewall)

    def state(self, name, mark, firewall):
        network = firewall.props["network"]
        phase = self.client.place.balancer_phase(firewall) if network else Phase.PARTIAL
        return NetworkState(ref=Ref(id=name, mark=mark), phase=phase, fabric=network, data={"network": network})

    def observe(self, scope):
        firewalls, silent = self.client.observed("firewall", scope)
        networks, quiet = self.client.observed("network", scope)
        known = {t.name for t in firewalls}
        items = [self.state(t.name, t.mark, t) for t in firewalls]
        items += [
            NetworkState(ref=Ref(id=t.name, mark=t.mark), phase=Phase.PARTIAL, fabric="")
            for t in networks
            if t.name not in known
        ]
        return Snapshot(items=tuple(items), unreachable=silent | quiet)

    def delete(self, ref):
        remove(self.client, self.parts, ref)


class LoadBalancers:
    """Two parts: a group with the members, and the balancer."""

    parts = ("balancer", "group")

    def __init__(self, client: Client) -> None:
        self.client = client

    def ensure(self, want):
        name = part_name(want)
        group = self.client.make("group", name, want.mark, members={})
        balancer = self.client.make("balancer", name, want.mark)
        members = self.turned(group.props["members"], want.members)
        if members != group.props["members"]:
            self.client.update(group.id, members=members)
        return self.state(balancer, members)

    def turned(self, now, wanted):
        """key -> ("in" | "out", since): who is taken out drains for DRAIN ticks, then is unused."""
        tick = self.client.place.now
        wish = {member.key: "out" if member.drain else "in" for member in wanted}
        turned = {key: now[key] if now.get(key, ("", 0))[0] == to else (to, tick) for key, to in wish.items()}
        leaving = {key: old for key, old in now.items() if key not in wish}
        for key, (state, since) in leaving.items():
            since = since if state == "out" else tick
            if tick < since + DRAIN:
                turned[key] = ("out", since)
        return turned

    def state(self, balancer, members):
        tick = self.client.place.now
        said = {
            key: ("healthy" if tick > since else "initial")
            if state == "in"
            else "unused"
            if tick >= since + DRAIN
            else "draining"
            for key, (state, since) in members.items()
        }
        return LoadBalancerState(
            ref=Ref(id=balancer.name, mark=balancer.mark),
            phase=self.client.place.balancer_phase(balancer),
            addresses=(f"192.0.2.{balancer.id[-2:]}",),
            members=said,
        )

    def observe(self, scope):
        balancers, silent = self.client.observed("balancer", scope)
        groups, quiet = self.client.observed("group", scope)
        members = {t.name: t.props["members"] for t in groups}
        items = [self.state(t, members.get(t.name, {})) for t in balancers]
        known = {t.name for t in balancers}
        items += [
            LoadBalancerState(ref=Ref(id=t.name, mark=t.mark), phase=Phase.PARTIAL) for t in groups if t.name not in known
        ]
        return Snapshot(items=tuple(items), unreachable=silent | quiet)

    def delete(self, ref):
        remove(self.client, self.parts, ref)


class Volumes:
    def __init__(self, client: Client) -> None:
        self.client = client

    def ensure(self, want):
        thing = self.client.make("volume", part_name(want), want.mark, want.place or "z1", size=want.size, machine="")
        if thing.labels != label(want.mark):
            self.client.update(thing.id, labels=label(want.mark))
        if want.size > thing.props["size"]:
            self.client.update(thing.id, size=want.size)
        if want.size < thing.props["size"]:
            raise InvalidSpec("a volume never shrinks", path="spec.size")
        return self.state(self.client.get(thing.id))

    def state(self, thing):
        machine = thing.props["machine"]
        return VolumeState(
            ref=Ref(id=thing.id, mark=thing.mark),
            phase=self.client.place.balancer_phase(thing),
            size=thing.props["size"],
            reach=frozenset({thing.zone}),
            device=f"/dev/disk/by-id/{thing.id}",
            attached=(machine,) if machine else (),
        )

    def attach(self, volume, machine):
        thing = self.client.owned(volume)
        self.client.owned(machine)
        if thing.props["machine"] not in ("", machine.id):
            raise Taken(f"{volume.id} is attached to {thing.props['machine']}", by=thing.props["machine"])
        others = [t for t in self.client.all("volume")[0] if t.props["machine"] == machine.id and t.id != volume.id]
        if len(others) >= MAX_VOLUMES:
            raise NoCapacity(f"{machine.id} has {MAX_VOLUMES} volumes")
        self.client.update(volume.id, machine=machine.id)

    def detach(self, volume, machine):
        if self.client.owned(volume).props["machine"] == machine.id:
            self.client.update(volume.id, machine="")

    def observe(self, scope):
        things, silent = self.client.observed("volume", scope)
        return Snapshot(items=tuple(self.state(t) for t in things), unreachable=silent)

    def delete(self, ref):
        try:
            self.client.owned(ref)
            self.client.delete(ref.id)
        except NotFound:
            pass


def part_name(want: object) -> str:
    return f"{want.name}-{want.mark.maker[:8]}"


def remove(client: Client, parts: tuple[str, ...], ref: Ref) -> None:
    """One pass in order over the parts that have this name and this mark; a part of another mark is not there for us."""
    for kind in parts:
        try:
            thing = client.find(kind, ref.id)
        except NotFound:
            continue
        if thing.mark is not None and thing.mark.same(ref.mark):
            client.delete(thing.id)


@dataclass(frozen=True)
class Parts:
    """The classes that a build puts together; a broken supplier replaces one."""

    client: type = Client
    machines: type = Machines
    networks: type = Networks
    load_balancers: type = LoadBalancers
    volumes: type = Volumes
    identity: Callable[[str], str] = str

    def build(self, place: Place, context: Context, account: str) -> Suppliers:
        client = self.client(place, context)
        capabilities = Capabilities(
            batch_limit=10,
            access="execute",
            console=True,
            reboot=True,
            attach="live",
            members_by=frozenset({"machine", "address"}),
            budgets={"api": (1000.0, 1000.0)},
        )
        return Suppliers(
            identity=Identity(key=self.identity(account), principal="reference"),
            capabilities=capabilities,
            machines=self.machines(client),
            networks=self.networks(client),
            load_balancers=self.load_balancers(client),
            volumes=self.volumes(client),
        )


def rig_of(rig: type, parts: Parts | None = None, **changes: object) -> object:
    """A Rig with every hook, on a fresh place. `rig` is the class Rig."""
    parts, place = parts or Parts(), Place()
    hooks = {
        "build": lambda context: parts.build(place, context, "account-1"),
        "elsewhere": lambda context: parts.build(Place(), context, "account-2"),
        "advance": place.tick,
        "patience": 30,
        "settle_steps": 6,
        "longest_call": 5.0,
        "everything": place.everything,
        "requests": lambda: place.requests,
        "page": place.page,
        "broken_page": lambda: place.set(broken=True),
        "unreachable": lambda zone: place.set(silent={zone}),
        "stale": lambda: place.set(stale=True),
        "no_capacity": lambda room: place.set(room=room),
        "late_refusal": lambda: place.set(late=True),
        "rollback": lambda: place.set(undo=True),
        "lost_reply": lambda: place.set(lose="reply"),
        "lost_request": lambda: place.set(lose="request"),
        "die": place.die,
        "squat": place.squat,
        "existing_network": place.existing_network,
        "traffic": place.traffic,
    }
    return rig(**(hooks | changes))

"""What a provider plugin is to the core. Read this first; it needs nothing else.

A plugin registers `build(config, context) -> Suppliers` (see `hookspecs.py`). The core calls `build` once per Provider object
and again when its config or a Secret changed. What comes back is plain synchronous Python: up to four suppliers, each a few
methods that take and return the frozen dataclasses below.

The rules that hold for every method:
- It submits or it observes. No method waits for a state, sleeps, or keeps anything on disk: the core's clock does the waiting.
- It raises, or puts into results, only the errors of `errors.py`. Anything else is taken as `Unknown`.
- It may be called at any time, again, from two threads at once, and after a crash of the process in the middle of itself.
- It touches only what carries the `Mark` that it was given.
Each rule has a contract test in `kubeup_core.testing`; `docs/plugins/` shows how to run them.

Standard library only, so that the contract can be read, copied and type-checked alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Protocol, TypeVar

from .errors import NotFound, NotReady, SupplierError

CONTRACT = 1
"""Version of this page. The core accepts plugins written for CONTRACT and CONTRACT - 1; dataclasses grow only with defaults."""

T = TypeVar("T")
Data = Mapping[str, str]
"""Opaque to the core: stored as given, handed back unchanged."""


class Phase(str, Enum):
    """Where a resource is in its life. Phases do not go backwards; only RUNNING and STOPPED alternate."""

    PARTIAL = "Partial"  # half-made by a launch that was interrupted: the same launch finishes it, delete takes it away
    PENDING = "Pending"
    RUNNING = "Running"
    STOPPED = "Stopped"
    DELETING = "Deleting"
    GONE = "Gone"  # still listed by the place, but over (a terminated EC2 instance); of a doubted id: known to be over, a proof
    FAILED = "Failed"
    UNKNOWN = "Unknown"


class Outcome(str, Enum):
    """What became of one member of a launch, or of one ref of a delete."""

    MADE = "Made"  # final: the launch can no longer undo it. For delete: gone
    PENDING = "Pending"  # accepted, not yet certain (an operation runs, a bulk insert may still roll back)
    REFUSED = "Refused"  # known not to have been made; `error` says why
    DEAD = "Dead"  # was made and is over; never replaced under the same token
    ABSENT = "Absent"  # lookup only: nothing of it is to be seen. One miss, not a proof
    UNKNOWN = "Unknown"


@dataclass(frozen=True, kw_only=True)
class Mark:
    """What every resource carries from the call that creates it (tags, labels, metadata): the only proof of ownership.

    installation  id of the state store that owns it
    cluster       uid of the Cluster object, or "" for what belongs to none; cluster_name is for people
    kind          Machine | Network | LoadBalancer | Volume
    maker         uid of the Launch for machines, uid of the object for all else
    index         place in Launch.members; 0 for all else
    keep          never swept (a retained volume)
    """

    installation: str
    cluster: str
    cluster_name: str
    kind: str
    maker: str
    index: int = 0
    keep: bool = False

    def same(self, other: Mark) -> bool:
        """Ownership is installation, kind, maker and index; names and `keep` may change over a life."""
        return (self.installation, self.kind, self.maker, self.index) == (
            other.installation,
            other.kind,
            other.maker,
            other.index,
        )


@dataclass(frozen=True, kw_only=True)
class Ref:
    """The place's own id and the mark expected on it. Acting on an id that carries another mark raises NotFound, touches nothing."""

    id: str
    mark: Mark


EVERY = "*"
"""In a Scope: every installation's, for people who look for what others left. Nothing is decided from it."""


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What an observation covers: an installation (or EVERY), or one cluster (uid) of it. `doubt`: look these up by id as well."""

    installation: str
    cluster: str | None = None
    doubt: tuple[Ref, ...] = ()

    def covers(self, mark: Mark) -> bool:
        return self.installation in (mark.installation, EVERY) and self.cluster in (None, mark.cluster)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One per input, in the order of the input. `id` is the place's id ("" when there is none)."""

    id: str
    outcome: Outcome
    error: SupplierError | None = None


@dataclass(frozen=True, kw_only=True)
class SlotState:
    """One host of an inventory, for people.

    state    free | claimed | taken (by another installation) | kept (back, because it is not clean) | unreachable
    machine  the name of the machine that has it
    message  why it is kept back or cannot be reached
    facts    what was found: cpu, memory, disk, arch, os, as text
    """

    name: str
    state: str
    place: str = ""
    machine: str = ""
    message: str = ""
    facts: Data = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Snapshot(Generic[T]):
    """One observation.

    items        everything of ours in the scope, all pages, also what is dying, failed or half-made
    unreachable  places that did not answer, "*" = all of them. Nothing is concluded about what is there
    strays       parts without a whole (a disk, a NIC, a seed image); `delete` takes them
    slots        of machines, where they are hosts of an inventory: all of them, whoever has them
    """

    items: tuple[T, ...]
    unreachable: frozenset[str] = frozenset()
    strays: tuple[Ref, ...] = ()
    slots: tuple[SlotState, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that a person has to put right. `path` is a field from the object's root, or ""."""

    path: str
    message: str
    remedy: str = ""


def _free(bucket: str, cost: float) -> None:
    """A budget without bounds."""


def _no_hosts() -> Sequence[Host]:
    return ()


STEPS_FOLDER = "/var/lib/kubeup"
"""On a machine: what the core keeps there about the steps that it runs. `jobs` in it: steps were run."""

CLEANED = f"{STEPS_FOLDER}/cleaned"
"""On a machine of a place whose machines are reusable: written by the last clean-up step, before delete. A host that has `jobs` in
STEPS_FOLDER and not this was given back as it was (it was given up, or swept), so delete keeps it back: not offered again, and said.
delete takes STEPS_FOLDER away of one that is clean."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What `build` is given besides the config.

    installation  id of the state store
    provider      uid of the Provider: the identity of a place that has no account of its own (an inventory)
    secrets       the resolved SecretRefs of the config and the credentials: "namespace/name/key" -> value, and, for
                  `credentials.source: secret`, each key of that Secret under its own name. Prints masked
    charge        charge(bucket, cost) before each API request; raises NotReady at once when the budget is spent; never sleeps
    images        Provider.spec.images: family -> the place's id, which wins over the plugin's own table
    zones         Provider.spec.zones, empty for all usable
    machine_types Provider.spec.machineTypes: globs, empty for the plugin's own list
    profile       Provider.spec.credentials.profile
    hosts         where Capabilities.hosts > 0: the machines that are lent at this moment to balancers of this type, of the whole
                  installation: what `observe` and `delete` look at. Asked anew each time
    """

    installation: str
    provider: str = ""
    secrets: Data = field(default_factory=dict, repr=False)
    charge: Callable[[str, float], None] = _free
    images: Data = field(default_factory=dict)
    zones: tuple[str, ...] = ()
    machine_types: tuple[str, ...] = ()
    profile: str = ""
    hosts: Callable[[], Sequence[Host]] = field(default=_no_hosts, repr=False)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Whose place it is. `key` is fixed at first use: account + region, engine id; for an inventory the Provider's uid.
    Another key under the same Provider freezes it. `principal` is shown to people (`arn:...`, `root on unix socket`)."""

    key: str
    principal: str


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What the place can do. Decided by the plugin after it looked; `auto` in a spec is resolved from here."""

    batch_limit: int = 1  # members per launch call
    user_data_limit: int = 0  # bytes; 0: no user-data, bootstrap over access
    settle: float = 0  # seconds that a read may lag behind a write
    token_life: float = float("inf")  # seconds that a token is honoured
    whoami: str = "hostname"  # shell that prints, in the guest, this member's index or name
    access: str = "none"  # ssh | execute | none
    console: bool = False
    reboot: bool = False
    addresses: bool = False  # a machine can be given the internal address that it asks for (Member.address)
    reusable: bool = False  # machines are cleaned, not destroyed, and used again: see CLEANED
    attach: str = "none"  # none | launch | live
    members_by: frozenset[str] = frozenset()  # balancer members by {"machine", "address"}
    hosts: int = 0  # machines that the core lends a balancer
    clean: str = ""  # hosts > 0: shell that takes off such a machine what balancers left on it; run where machines are reusable
    budgets: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # bucket -> (size, refill per second)
    facts: Data = field(default_factory=dict)  # for people: what was found out about the place (cgroup version, kernel ...)


# -- machines ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Template:
    """What is wanted of a machine. cpu: cores; memory, disk: bytes (nominal minimums); image: a family (`debian-12`).

    public_address  whether it gets an address on the internet, where a place gives such addresses; None: as the place has it
    """

    cpu: float
    memory: int
    disk: int
    arch: str  # amd64 | arm64 | "" for any
    image: str
    spot: bool = False
    overrides: Mapping[str, object] = field(default_factory=dict)  # the Machine's overrides.<type>
    role: str = ""  # controlPlane | worker | loadBalancer | plain; "" where nobody says
    public_address: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One concrete way to get a machine. `image` is the resolved id.

    slots        free hosts by name (inventories): the core picks one per member; None where machines are made on demand
    reach        places whose volumes can be attached
    max_volumes  data volumes that fit, None where nobody knows
    """

    place: str
    machine_type: str
    arch: str
    spot: bool
    cpu: float
    memory: int
    image: str
    price_per_hour: float | None = None
    slots: tuple[str, ...] | None = None
    reach: frozenset[str] = frozenset()
    max_volumes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Member:
    """One machine of a launch. Its place in Launch.members is its index. volumes: ids to attach at launch.
    address: the internal address it should have, at places with Capabilities.addresses; another one when that is in use."""

    name: str
    slot: str = ""
    volumes: tuple[str, ...] = ()
    address: str = ""


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One stored, idempotent request for machines. Equal at every repeat; its members are alike but for Member.

    mark       mark.maker is the launch's uid; member i carries the same mark with index i
    token      the launch's uid (a UUID), for places that know idempotency tokens
    user_data  one blob for all members; never a private key. Prints masked
    network    NetworkState.data
    """

    mark: Mark
    token: str
    template: Template
    offer: Offer
    role: str
    members: tuple[Member, ...]
    user_data: bytes = field(default=b"", repr=False)
    network: Data = field(default_factory=dict)

    def member_mark(self, index: int) -> Mark:
        """The mark that member `index` carries."""
        m = self.mark
        return Mark(
            installation=m.installation,
            cluster=m.cluster,
            cluster_name=m.cluster_name,
            kind=m.kind,
            maker=m.maker,
            index=index,
            keep=m.keep,
        )


@dataclass(frozen=True, kw_only=True)
class Access:
    """How a machine is reached. kind: ssh | execute | none. What is left empty, Provider.spec.access decides.

    port          22 leaves it to Provider.spec.access as well, whose own default it is
    user          one whom the machine lets in with the keys of its user-data: root, unless the place makes another one for them
    host_key      pinned: `type base64` as in a .pub file, several on lines of their own
    via           a jump host, `user@host:port`; user and port as for the machine when left out
    via_host_key  the jump host's pinned key
    """

    kind: str = "none"
    address: str = ""
    port: int = 22
    user: str = ""
    host_key: str = ""
    via: str = ""
    via_host_key: str = ""


@dataclass(frozen=True, kw_only=True)
class MachineState:
    """One machine as observed.

    facts       what drift is judged by (image, network, template); the same keys at launch and later
    error       a late refusal: the machine was accepted and then could not be had
    leaving_at  epoch seconds of a spot notice or a maintenance
    provider_id what the kubelet registers (`aws:///eu-west-1a/i-0abc`)
    price_per_hour  by the provider's list, as in Offer; None where nobody knows
    """

    ref: Ref
    phase: Phase
    place: str
    name: str
    machine_type: str
    access: Access = Access()
    provider_id: str = ""
    boot_id: str = ""
    internal: tuple[str, ...] = ()
    external: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    facts: Data = field(default_factory=dict)
    error: SupplierError | None = None
    leaving_at: float | None = None
    price_per_hour: float | None = None


class MachineSupplier(Protocol):
    """Machines, in batches. Subclass `BaseMachines` to get what you do not offer."""

    def check(self, want: Template) -> Sequence[Problem]:
        """Why offers() would be empty, and what is wrong with the overrides. No I/O."""
        ...

    def offers(self, want: Template) -> Sequence[Offer]:
        """Concrete ways to get such a machine, cheapest first. Cached, no side effect."""
        ...

    def launch(self, launch: Launch) -> Sequence[Result]:
        """Make the members, or finish making them. The normal answer to an unknown outcome is the same call again.

        By token: the members of the first call are found and returned, never made a second time; the dead are returned DEAD
        and never replaced, nor do they hide the living. Parameters that changed under a known token prove that the first
        call landed: look up, do not raise. One Result per member, in order.
        Raises: anything but Unknown means that nothing was made, for every member. NoCapacity surfaces within one call.
        """
        ...

    def lookup(self, launch: Launch) -> Sequence[Result]:
        """The results that launch would return now. Makes nothing; late failures appear here."""
        ...

    def observe(self, scope: Scope) -> Snapshot[MachineState]:
        """Everything of ours, all pages. A page, zone or host that failed is named in `unreachable`, never left out silently."""
        ...

    def delete(self, refs: Sequence[Ref]) -> Sequence[Result]:
        """Submit deletion; what is gone already is a success (MADE). Spares data volumes. Takes PARTIAL and strays too."""
        ...

    def execute(self, ref: Ref, script: str, stdin: bytes, timeout: float) -> Iterator[bytes | int]:
        """Run a POSIX shell script as root in the guest, at most 30 s. Yields output, then the exit code, which ends it.
        A stream that ends without an exit code is an unknown outcome."""
        ...

    def console(self, ref: Ref, limit: int) -> str:
        """The last `limit` bytes of the console."""
        ...

    def reboot(self, ref: Ref) -> None: ...


class BaseMachines:
    """What an author need not write: identity, launch, observe and delete are the minimum."""

    def check(self, want: Template) -> Sequence[Problem]:
        return ()

    def offers(self, want: Template) -> Sequence[Offer]:
        return (
            Offer(
                place="",
                machine_type="",
                arch=want.arch or "amd64",
                spot=False,
                cpu=want.cpu,
                memory=want.memory,
                image=want.image,
            ),
        )

    def observe(self, scope: Scope) -> Snapshot[MachineState]:
        raise NotImplementedError

    def lookup(self, launch: Launch) -> Sequence[Result]:
        """From observe, by mark."""
        seen = self.observe(Scope(installation=launch.mark.installation, cluster=launch.mark.cluster))
        found = {s.ref.mark.index: s for s in seen.items if s.ref.mark.same(launch.member_mark(s.ref.mark.index))}
        return tuple(self._looked_up(found.get(i), seen.unreachable) for i in range(len(launch.members)))

    @staticmethod
    def _looked_up(state: MachineState | None, unreachable: frozenset[str]) -> Result:
        if state is None:
            return Result(id="", outcome=Outcome.UNKNOWN if unreachable else Outcome.ABSENT)
        match state.phase:
            case Phase.PARTIAL:
                outcome = Outcome.PENDING
            case Phase.DELETING | Phase.GONE:
                outcome = Outcome.DEAD
            case Phase.FAILED:
                outcome = Outcome.REFUSED if state.error else Outcome.DEAD
            case Phase.UNKNOWN:
                outcome = Outcome.UNKNOWN
            case _:
                outcome = Outcome.MADE
        return Result(id=state.ref.id, outcome=outcome, error=state.error)

    def execute(self, ref: Ref, script: str, stdin: bytes, timeout: float) -> Iterator[bytes | int]:
        raise NotFound("this provider cannot run commands in its machines")

    def console(self, ref: Ref, limit: int) -> str:
        raise NotFound("this provider has no console")

    def reboot(self, ref: Ref) -> None:
        raise NotReady("this provider cannot reboot machines")


# -- networks ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Traffic that is allowed, computed by the core. Roles are those of machines; "*" is anyone, also from outside.
    protocol: tcp | udp | all; low and high: ports, both included. sources: whom "*" is narrowed to, as networks in CIDR form.
    That the place's own balancers and their health checks reach machines is the supplier's to see to, whatever the rules say."""

    from_role: str
    to_role: str
    protocol: str
    low: int
    high: int
    sources: tuple[str, ...] = ("0.0.0.0/0",)


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """cidr "" leaves the choice to the place."""

    mark: Mark
    name: str
    cidr: str = ""
    rules: tuple[Rule, ...] = ()
    ssh_keys: tuple[str, ...] = ()
    overrides: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NetworkState:
    """fabric: machines on networks with an equal fabric reach each other by internal address. flat: one L2 segment.
    data is stored in the Cluster and handed to every launch and balancer."""

    ref: Ref
    phase: Phase
    fabric: str
    flat: bool = False
    data: Data = field(default_factory=dict)
    error: SupplierError | None = None


class NetworkSupplier(Protocol):
    def ensure(self, want: NetworkSpec) -> NetworkState:
        """Bring it one step nearer. Found by mark. Uses what the overrides name, and never deletes that."""
        ...

    def observe(self, scope: Scope) -> Snapshot[NetworkState]:
        """Every type of thing that ensure ever makes: an empty answer is the proof that nothing is left."""
        ...

    def delete(self, ref: Ref) -> None:
        """One pass in order. Blocked(by) until nothing is left; succeeds when it is gone."""
        ...


# -- load balancers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Listener:
    """target is the members' port. drain: seconds. health: protocol, port, path, interval, timeout, healthy, unhealthy, as text."""

    port: int
    target: int
    protocol: str = "TCP"
    health: Data = field(default_factory=dict)
    drain: float = 30.0


@dataclass(frozen=True, kw_only=True)
class LBMember:
    """key: the Machine's name. ref counts only within one identity; address always. drain: no new connections."""

    key: str
    ref: Ref | None
    address: str
    place: str = ""
    drain: bool = False


@dataclass(frozen=True, kw_only=True)
class Host:
    """A machine that the core lends to a balancer made out of machines.

    address  by which clients reach the balancer on it: external for a public one where the machine has such an address
    execute  execute(script, stdin) -> (exit code, stdout and stderr): a POSIX shell script as root, 30 seconds at most. It blocks,
             and raises NotReady or Unknown when the machine cannot be reached
    mark     whose balancer it is lent to; None where nobody says
    internal by which its neighbours reach it
    """

    ref: Ref
    address: str
    execute: Callable[[str, bytes], tuple[int, bytes]] = field(repr=False)
    mark: Mark | None = None
    internal: str = ""


@dataclass(frozen=True, kw_only=True)
class LoadBalancerSpec:
    """The whole wish, each time.

    hosts       of a balancer made out of machines: those on which something can be run now
    neighbours  where it has several (Capabilities.hosts): internal addresses of all its machines that are not gone, the oldest first.
                One that is missing in hosts is on its way, cannot be reached or is going, and may serve all the same
    """

    mark: Mark
    name: str
    internal: bool
    listeners: tuple[Listener, ...]
    members: tuple[LBMember, ...] = ()
    network: Data = field(default_factory=dict)
    hosts: tuple[Host, ...] = ()
    neighbours: tuple[str, ...] = ()
    allow_from: tuple[str, ...] = ("0.0.0.0/0",)
    address: str = ""
    overrides: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LoadBalancerState:
    """addresses are given as soon as they are fixed, also while PENDING: certificates need them.
    members: key -> initial | healthy | unhealthy | draining | unused; an absent key takes no traffic.
    self_reach False: a member that calls the balancer does not reach itself through it."""

    ref: Ref
    phase: Phase
    addresses: tuple[str, ...] = ()
    members: Data = field(default_factory=dict)
    self_reach: bool = True
    error: SupplierError | None = None


class LoadBalancerSupplier(Protocol):
    def ensure(self, want: LoadBalancerSpec) -> LoadBalancerState:
        """One step nearer to the whole wish. Found by mark. Members with drain=True take no new connections."""
        ...

    def observe(self, scope: Scope) -> Snapshot[LoadBalancerState]: ...

    def delete(self, ref: Ref) -> None:
        """With its parts. Blocked(by) while one of them lingers; succeeds when it is gone."""
        ...


# -- volumes -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class VolumeSpec:
    """size: bytes. place: where it must be, "" for anywhere. token: for places that know idempotency tokens."""

    mark: Mark
    token: str
    name: str
    size: int
    place: str = ""
    klass: str = "standard"
    overrides: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class VolumeState:
    """device: a stable path in the guest, known as soon as the volume exists. reach: where it can be attached (compared with
    Offer.reach). attached: ids of machines. busy: "" | attaching | detaching | resizing."""

    ref: Ref
    phase: Phase
    size: int
    reach: frozenset[str]
    device: str = ""
    attached: tuple[str, ...] = ()
    busy: str = ""
    error: SupplierError | None = None


class VolumeSupplier(Protocol):
    def ensure(self, want: VolumeSpec) -> VolumeState:
        """Create, grow, re-mark. Never shrinks, never formats."""
        ...

    def attach(self, volume: Ref, machine: Ref) -> None:
        """NoCapacity at the machine's limit; Taken when attached elsewhere."""
        ...

    def detach(self, volume: Ref, machine: Ref) -> None:
        """Asks, never forces; observe tells when it is true."""
        ...

    def observe(self, scope: Scope) -> Snapshot[VolumeState]: ...

    def delete(self, ref: Ref) -> None:
        """Blocked(by) while attached; succeeds when it is gone."""
        ...


def _no_problems() -> Sequence[Problem]:
    return ()


def _nothing_to_close() -> None:
    return None


@dataclass(frozen=True)
class Suppliers:
    """What `build` returns. Thread-safe as a whole.

    probe  read-only: rights, quota, what the engine can do. Called at first use and hourly
    close  releases connections and threads; called before a rebuild and at shutdown
    """

    identity: Identity
    capabilities: Capabilities
    machines: MachineSupplier
    networks: NetworkSupplier | None = None
    load_balancers: LoadBalancerSupplier | None = None
    volumes: VolumeSupplier | None = None
    probe: Callable[[], Sequence[Problem]] = _no_problems
    close: Callable[[], None] = _nothing_to_close

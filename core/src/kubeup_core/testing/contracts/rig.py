"""What a provider's author hands to the contract tests: how to build the suppliers, how time passes, what can be broken.

Only `build` is needed. Each optional hook lets more tests run; a test without its hook is skipped with "not offered: ...",
never passed. Hooks reach around the supplier, to the place itself (a fake server, an engine, a test account).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from ...supplier import Context, Data, Host, Launch, LBMember, Ref, Suppliers, Template

GiB = 1024**3


def _nothing() -> None:
    return None


@dataclass(kw_only=True)
class Rig:
    """One place, and what may be done to it. `supply` makes a fresh one for each test; `close` ends it.

    build         builds the suppliers of one Provider at this place, from scratch: a second build is "after a restart"
    advance       lets the place move on: a step of virtual time, or a short wait where time is real. May be called often
    patience      how many advances a test waits for a state before it fails
    settle_steps  advances that cover Capabilities.settle
    longest_call  seconds after which a call that has not come back counts as waiting
    template      a machine that can be had here
    overrides     overrides of the Cluster, handed to networks, load balancers and volumes
    network       NetworkState.data for launches; None: what the network supplier makes, if there is one
    volume_size   bytes of a small volume
    members       how many machines a launch of these tests has at most (never more than Capabilities.batch_limit)
    close         ends the place
    wires         packages of client libraries that wait for the network with Events (paramiko), which is not sleeping
    """

    build: Callable[[Context], Suppliers]
    advance: Callable[[], None] = _nothing
    patience: int = 60
    settle_steps: int = 3
    longest_call: float = 30.0
    template: Template = field(
        default_factory=lambda: Template(cpu=1, memory=1 * GiB, disk=10 * GiB, arch="", image="debian-12")
    )
    overrides: Mapping[str, object] = field(default_factory=dict)
    network: Data | None = None
    volume_size: int = 1 * GiB
    members: int = 3
    close: Callable[[], None] = _nothing
    wires: Collection[str] = ()

    everything: Callable[[], Collection[str]] | None = None
    """Names or ids of everything at the place, whoever made it, found by the place's own means. Proves that nothing leaks."""
    requests: Callable[[], int] | None = None
    """How many API requests the place has received so far."""
    elsewhere: Callable[[Context], Suppliers] | None = None
    """Builds at another account, project, region or engine."""
    page: int | None = None
    """Items in one page of the place's listing; choose it small."""
    broken_page: Callable[[], AbstractContextManager[None]] | None = None
    """Inside, the first page of a listing comes and the next one fails."""
    unreachable: Callable[[str], AbstractContextManager[None]] | None = None
    """unreachable(place): inside, that place (MachineState.place; "" for all) does not answer."""
    stale: Callable[[], AbstractContextManager[None]] | None = None
    """Inside, listings do not yet show what was made inside; a look-up by id does."""
    no_capacity: Callable[[int], AbstractContextManager[None]] | None = None
    """no_capacity(room): inside, the place has room for `room` more machines."""
    late_refusal: Callable[[], AbstractContextManager[None]] | None = None
    """Launches made inside are accepted, and refused for lack of capacity as time passes."""
    rollback: Callable[[], AbstractContextManager[None]] | None = None
    """Machines launched inside show up, and are undone by the place as time passes (a bulk insert that falls short)."""
    lost_reply: Callable[[], AbstractContextManager[None]] | None = None
    """Inside, changing requests take effect but their replies never arrive."""
    lost_request: Callable[[], AbstractContextManager[None]] | None = None
    """Inside, changing requests never arrive; the caller sees what it sees with a lost reply."""
    die: Callable[[Ref], None] | None = None
    """The machine dies by itself, and the place still shows that it was (terminated, exited)."""
    squat: Callable[[Launch], None] | None = None
    """Puts a thing of somebody else on the name (or into the slot) that member 0 of this launch would get."""
    existing_network: Callable[[], tuple[Mapping[str, object], str]] | None = None
    """Makes a network by other means. Returns the overrides that name it, and what `everything` calls it."""
    traffic: Callable[[Ref], Collection[str]] | None = None
    """Keys of the members to which a load balancer sends new connections now, found by the place's own means."""
    balancer_members: Callable[[], Sequence[LBMember]] | None = None
    """Two members for load balancers, where they are not machines of this provider."""
    hosts: Callable[[], Sequence[Host]] | None = None
    """Capabilities.hosts machines to lend to a load balancer."""

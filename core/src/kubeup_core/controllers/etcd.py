"""etcd's members: one whose machine goes is taken out first, and never so that the others could lose their quorum.

Called by `machine_end.py` before a control-plane machine is deleted, dead or alive. A member that nobody takes out is counted for
ever: after a second such loss etcd stops, while every remaining node looks well. The members are asked of another control plane of
the same cluster, by the bootstrapper's script; what may be taken out is decided by `refusal`, which is pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ..bootstrapper import Bootstrapper, EtcdMember
from ..errors import NotReady, SupplierError, Unknown
from ..kinds import Cluster, Machine
from ..kinds.machine import ABANDON
from ..plugins import PluginError
from ..runtime.controller import Env, Key
from .access import Reach, not_reached
from .bootstraps import bootstrapper_of
from .plans import cluster_plan
from .troubles import SOON, Trouble

ASK = 20.0
"""Seconds for a look at the member list: etcd itself gives up after five when there is no leader."""


class Members:
    """For one controller. Remembers nothing: the list is asked anew, because it is the only truth."""

    def __init__(self, env: Env, controller: str) -> None:
        self.env = env
        self.reach = Reach(env, controller)

    def leaving(self, machine: Machine, cluster: Cluster | None, key: Key) -> Trouble | None:
        """What stands in the way of deleting this machine; None: etcd does not count on it (any more). Raises InProgress."""
        if machine.spec.role != "controlPlane" or cluster is None or cluster.deleting or cluster.spec.kubernetes is None:
            return None
        if machine.annotations.get(ABANDON) is not None or restoring(cluster):
            return None
        peers = [m for m in self._control_planes(cluster) if m.uid != machine.uid]
        joined = [m for m in peers if m.status.is_true("Bootstrapped")]
        if not joined:
            return None  # there is no etcd but its own
        try:
            bootstrapper = bootstrapper_of(self.env, cluster)
            asking = bootstrapper.etcd_list(cluster_plan(self.env, cluster))
        except PluginError as error:
            return Trouble(reason="BootstrapperMissing", message=f"{error.message}; {error.remedy}", after=SOON)
        if not asking:
            return None  # etcd is not ours
        return self._take_out(machine, joined, bootstrapper, asking, key)

    def _take_out(
        self, machine: Machine, joined: list[Machine], bootstrapper: Bootstrapper, asking: str, key: Key
    ) -> Trouble | None:
        alive = sorted((m for m in joined if not m.deleting), key=lambda m: (not m.status.is_true("Ready"), m.name))
        lost = Trouble(
            reason="EtcdNeedsQuorum",
            message=f"{machine.name} is a member of etcd, and no other control plane answers to take it out: "
            + ("; ".join(f"{m.name} is {m.status.state}" for m in joined) or "there is none")
            + ". When they are lost for good, the cluster has to be created anew; to give this machine up all the same: "
            f"kubectl annotate machine {machine.name} -n {machine.namespace} {ABANDON}=REASON",
            after=SOON,
        )
        for asked in alive:
            try:
                members = self._ask(asked, bootstrapper, asking, key)
                member = member_of(members, machine)
                if member is None:
                    return None
                ready = {m.name for m in joined if _works(m)}
                why = refusal(members, member, ready)
                if why:
                    return Trouble(reason="EtcdNeedsQuorum", message=why, after=SOON)
                self.env.events.event(machine, "Normal", "RemovingEtcdMember", f"it is taken out of etcd through {asked.name}")
                self._remove(asked, bootstrapper, member, key)
                return None
            except SupplierError as error:
                told = not_reached(error, asked)
                lost = Trouble(reason=lost.reason, message=f"{lost.message} ({asked.name}: {told.message})", after=SOON)
        return lost

    def _ask(self, machine: Machine, bootstrapper: Bootstrapper, asking: str, key: Key) -> Sequence[EtcdMember]:
        done = self.reach.run(machine, asking, timeout=ASK, key=key, verb="etcd members")
        if done.code != 0:
            raise NotReady(f"etcd on {machine.name} did not answer: {_tail(done.output)}")
        return bootstrapper.etcd_members(done.output)

    def _remove(self, machine: Machine, bootstrapper: Bootstrapper, member: EtcdMember, key: Key) -> None:
        done = self.reach.run(machine, bootstrapper.etcd_remove(member), timeout=ASK, key=key, verb="etcd remove")
        if done.code != 0:
            raise Unknown(f"etcd on {machine.name} did not take {member.name or member.address} out: {_tail(done.output)}")

    def _control_planes(self, cluster: Cluster) -> Iterable[Machine]:
        machines: list[Machine] = self.env.cache.by(Machine, "cluster", f"{cluster.namespace}/{cluster.name}")
        return [m for m in machines if m.spec.role == "controlPlane"]


def external(env: Env, cluster: Cluster) -> bool:
    """etcd is somebody else's: nothing of it is on the control planes. Raises PluginError, SupplierError."""
    return not bootstrapper_of(env, cluster).etcd_list(cluster_plan(env, cluster))


def restoring(cluster: Cluster) -> bool:
    """etcd comes back out of a snapshot: the members of before do not matter any more."""
    state = cluster.status.control_plane
    return state is not None and state.restore is not None and state.restore.under_way


def member_of(members: Iterable[EtcdMember], machine: Machine) -> EtcdMember | None:
    """By name; one that was added but never started has none yet, and is known by its address."""
    addresses = {a.address for a in machine.status.addresses}
    for member in members:
        if member.name == machine.name or (not member.name and member.address in addresses):
            return member
    return None


def refusal(members: Sequence[EtcdMember], leaving: EtcdMember, ready: Collection[str]) -> str:
    """Why this member must stay for now; "": it may go. ready: names of the machines that work, without the one that goes.

    After it is out, those that are left must have a quorum among themselves that works.
    """
    others = [m for m in members if m.id != leaving.id and not m.learner]
    working = [m for m in others if m.name in ready]
    needed = len(others) // 2 + 1
    if leaving.learner or len(working) >= needed:
        return ""
    lame = ", ".join(sorted(m.name or f"{m.address} (never started)" for m in others if m.name not in ready))
    return (
        f"it stays a member of etcd until others are well again: without it etcd would have {len(others)} members and need {needed} "
        f"that work, but {lame} {'does' if len(others) - len(working) == 1 else 'do'} not; it goes by itself when they do"
    )


def _works(machine: Machine) -> bool:
    """One that is being deleted counts as long as it runs: its etcd has a vote, and a part in every quorum, until it is out itself."""
    return machine.status.is_true("NodeHealthy" if machine.deleting else "Ready")


def _tail(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1][:300] if lines else "it printed nothing"

"""From one version of Kubernetes to the next: the control planes one after another, in place, then the workers (`worker_upgrades.py`).

A part of the Cluster controller. Where a cluster is, its Nodes say; what is stored is only which machine is being upgraded
(`status.controlPlane.upgrading`), before anything is done to it, and the version that machines are made with now
(`status.controlPlane.version`), which moves when all control planes have the next. So a crash anywhere goes on where it was. The hops
on the way are the bootstrapper's decision; each machine is begun only when everything works.
"""

from __future__ import annotations

from ..bootstrapper import Task
from ..errors import SupplierError
from ..kinds import Cluster, Machine
from ..kinds.cluster import ControlPlaneStatus
from ..plugins import PluginError
from ..runtime.controller import Env, Key
from .access import Reach, not_reached
from .bootstraps import Bootstraps, bootstrapper_of
from .guest import Guest
from .pauses import held, said
from .plans import cluster_plan, control_planes, node_plan
from .troubles import LATER, SOON, Trouble
from .worker_upgrades import WorkerUpgrades, told

TASK = "upgrade"


class Upgrading:
    def __init__(self, env: Env, controller: str) -> None:
        self.env = env
        self.guest = Guest(env, Reach(env, controller))
        self.workers = WorkerUpgrades(env, controller, TASK)

    def under_way(self, cluster: Cluster, state: ControlPlaneStatus) -> Trouble | None:
        """Go on with the machine that is being upgraded, whatever the cluster looks like meanwhile. None: there is none."""
        if not state.upgrading:
            return None
        machine = self.env.cache.uid(Machine, state.upgrading)
        if machine is None or machine.deleting or self._version(machine) == state.next:
            state.upgrading = ""
            return None
        book = self.env.shared(Bootstraps)
        planes = [m for m in control_planes(self.env, cluster) if not m.deleting and book.joined(m)]
        if len(planes) > 1 and any(not self._version(m) for m in planes):
            # After a restart: who is the first of this hop, its Nodes tell, and the machine's markers rest on it. One that has yet to
            # join has no Node, and gets its turn after this: it is not waited for.
            return Trouble(reason="Upgrading", message=f"{machine.name} is being upgraded; the Nodes are looked at", after=SOON)
        try:
            if self._given_up(cluster, state, machine):
                message = f"to {state.next}, which failed on {machine.name} and no machine runs yet"
                self.env.events.event(cluster, "Normal", "UpgradeCancelled", message)
                state.upgrading, state.next = "", state.version
                return None
            return self._go_on(cluster, state, machine)
        except PluginError as error:
            return Trouble(reason="BootstrapperMissing", message=f"{error.message}; {error.remedy}", after=LATER, stalled=True)
        except SupplierError as error:
            return not_reached(error, machine)

    def step(self, cluster: Cluster, state: ControlPlaneStatus) -> Trouble | None:
        """Begin with the next machine; called when everything works. None: everything has the version that is wanted."""
        kubernetes = cluster.spec.kubernetes
        assert kubernetes is not None
        planes = [m for m in control_planes(self.env, cluster) if not m.deleting]
        behind = [m for m in planes if self._version(m) not in ("", state.next)] if state.next else []
        if not behind and state.next and state.next != state.version:
            state.version = state.next
            message = f"the control planes run {state.version}"
            self.env.events.event(cluster, "Normal", "ControlPlanesUpgraded", message)
        if not behind:
            state.next = state.version
            waiting = self.workers.step(cluster, state)
            if waiting is not None:
                return waiting
        if not behind and state.version != kubernetes.version:
            try:
                hops = bootstrapper_of(self.env, cluster).hops(state.version, kubernetes.version)
            except PluginError as error:
                return Trouble(reason="BootstrapperMissing", message=f"{error.message}; {error.remedy}", stalled=True)
            except SupplierError as error:
                remedy = f"; {error.remedy}" if error.remedy else ""
                return Trouble(reason="UpgradeRefused", message=f"{error.message}{remedy}", stalled=True)
            if lost := self._unseen(cluster, planes):
                who = ", ".join(lost[:5])
                message = f"{hops[0]} is begun when the Nodes of {who} are known again: they may not fall further behind"
                return Trouble(reason="Upgrading", message=message, after=SOON)
            state.next = hops[0]
            behind = [m for m in planes if self._version(m) not in ("", state.next)]
            self.env.events.event(cluster, "Normal", "Upgrading", f"from {state.version} to {' to '.join(hops)}")
        if not behind:
            return None
        chosen = behind[0]
        stop = held(self.env, chosen)
        if stop:
            return Trouble(reason="Paused", message=f"{chosen.name} is not upgraded: {said(stop)}", after=SOON)
        if not chosen.status.is_true("Ready"):
            return Trouble(
                reason="Upgrading", message=f"{chosen.name} is upgraded to {state.next} when it is Ready", after=SOON
            )
        state.upgrading = chosen.uid
        return Trouble(reason="Upgrading", message=f"{chosen.name} is the next to be upgraded to {state.next}", after=0.1)

    # -- below -----------------------------------------------------------------------------------------------------------

    def _given_up(self, cluster: Cluster, state: ControlPlaneStatus, machine: Machine) -> bool:
        """The version that is wanted now does not lead through the one that fails, and nobody has that: nothing is undone by leaving
        it. Only once it has failed for good, since what runs on the machine is not stopped. Raises PluginError, SupplierError."""
        kubernetes = cluster.spec.kubernetes
        assert kubernetes is not None
        if kubernetes.version == state.next or state.next == state.version:
            return False
        known = self.guest.known(machine, TASK, state.next)
        if known is None or known.state != "failed":
            return False
        if any(self._version(m) == state.next for m in (*control_planes(self.env, cluster), *self.workers.all(cluster))):
            return False
        return state.next not in bootstrapper_of(self.env, cluster).hops(state.version, kubernetes.version)

    def _unseen(self, cluster: Cluster, planes: list[Machine]) -> list[str]:
        """Members of which nobody knows what they run: the next hop could leave them behind the skew that a kubelet may have."""
        book = self.env.shared(Bootstraps)
        joined = [*(m for m in planes if book.joined(m)), *self.workers.all(cluster)]
        return [m.name for m in joined if not self._version(m)]

    def _go_on(self, cluster: Cluster, state: ControlPlaneStatus, machine: Machine) -> Trouble:
        first = not any(self._version(m) == state.next for m in control_planes(self.env, cluster) if m.uid != machine.uid)
        plan = cluster_plan(self.env, cluster, version=state.next)
        node = node_plan(self.env, cluster, machine, first=first)
        bootstrapper = bootstrapper_of(self.env, cluster)
        progress = self.guest.step(
            machine,
            TASK,
            lambda: bootstrapper.steps(Task.UPGRADE, plan, node),
            key=Key(cluster.namespace, cluster.name),
            salt=state.next,
            wish=str(cluster.metadata.generation),
        )
        return told(machine, state.next, progress)

    def _version(self, machine: Machine) -> str:
        """What its kubelet says, "" while its Node is not known."""
        return self.workers.version(machine)

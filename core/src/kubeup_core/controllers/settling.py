"""After a control plane has joined: what the bootstrapper's version needs done on the others then (Task.SETTLE), usually nothing.

A part of the Cluster controller, before it checks whether the cluster works and gives the next turn. Each machine does it once for
each that joined after it: the steps' markers on the machine carry the uid of the newest, so a restart of kubeup repeats nothing.
"""

from __future__ import annotations

from ..bootstrapper import Task
from ..errors import SupplierError
from ..kinds import Cluster, Machine
from ..plugins import PluginError
from ..runtime.controller import Env, Key
from .access import Reach, not_reached
from .bootstraps import bootstrapper_of
from .guest import Guest, paused
from .plans import cluster_plan, node_plan
from .troubles import SOON, Trouble


class Settling:
    def __init__(self, env: Env, controller: str) -> None:
        self.env = env
        self.guest = Guest(env, Reach(env, controller))

    def step(self, cluster: Cluster, joined: list[Machine]) -> Trouble | None:
        """joined: in the order in which they came. None: all is settled."""
        if len(joined) < 2:
            return None
        newest = joined[-1]
        for machine in joined[:-1]:
            found = self._one(cluster, machine, newest)
            if found is not None:
                return found
        return None

    def _one(self, cluster: Cluster, machine: Machine, newest: Machine) -> Trouble | None:
        try:
            plan, node = cluster_plan(self.env, cluster), node_plan(self.env, cluster, machine)
            steps = bootstrapper_of(self.env, cluster).steps(Task.SETTLE, plan, node)
            if not steps:
                return None
            key = Key(cluster.namespace, cluster.name)
            progress = self.guest.step(machine, "settle", lambda: steps, key=key, salt=newest.uid)
        except PluginError as error:
            return Trouble(reason="BootstrapperMissing", message=f"{error.message}; {error.remedy}", after=SOON)
        except SupplierError as error:
            return not_reached(error, machine)
        if progress.state == "done":
            return None
        if progress.state == "held":
            return paused(progress)
        doing = f"{machine.name} {progress.title or 'settles'}, because {newest.name} has joined"
        if progress.state == "failed":
            last = progress.tail.strip().splitlines()[-1:] or ["it printed nothing"]
            message = (
                f"{doing}: failed with exit code {progress.exit_code}: {last[0]}; {progress.remedy or 'it is tried again'}"
            )
            return Trouble(reason="StepFailed", message=message, after=progress.after or SOON, stalled=True)
        return Trouble(reason="Settling", message=doing, after=progress.after)

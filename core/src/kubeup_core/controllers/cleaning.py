"""What was done to a machine is undone before its place gets it back: only where machines outlive that (`Capabilities.reusable`).

Called by `machine_end.py` after the drain, right before the machine is deleted at its place. The steps are the bootstrapper's LEAVE,
what plugins left on a machine that was lent to a load balancer, and the machine's own files; they run as any others (`guest.py`), so
a crash goes on where it was. The last one tells the place that nothing is left (`supplier.CLEANED`); a host that is given back
without it is not offered again by its place, which says so. That it is over is the Machine's condition `Cleaned`.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ..bootstrapper import Step, Task
from ..errors import NotFound, SupplierError
from ..kinds import Cluster, Launch, Machine
from ..kinds.machine import ABANDON
from ..plugins import PluginError
from ..runtime.controller import Env, Key
from ..runtime.places import Place
from ..supplier import CLEANED as EVIDENCE
from ..supplier import STEPS_FOLDER, MachineState
from .access import Reach, not_reached
from .bootstraps import bootstrapper_of
from .drain import MEMBERS
from .guest import Guest, Guests, Progress
from .marks import access, resolved
from .plans import cluster_plan, node_plan
from .troubles import LATER, SOON

CLEANED = "Cleaned"
"""The condition."""


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """over: the machine may go. lost: it cannot go without a person, or before the machine answers; else it goes on by itself."""

    over: bool
    reason: str
    message: str
    after: float | None = None
    lost: bool = False


class Cleaning:
    """For one controller, whose keys are woken."""

    def __init__(self, env: Env, controller: str) -> None:
        self.env = env
        self.guest = Guest(env, Reach(env, controller))

    def step(self, machine: Machine, place: Place, launch: Launch, state: MachineState | None, key: Key) -> Cleaned | None:
        """How far it is. None: there is nothing to do, or it is over. state: the machine as it was last observed."""
        if not place.capabilities.reusable or machine.status.is_true(CLEANED):
            return None
        if ABANDON in machine.annotations:
            return _over("Abandoned", "it was given up, so its place keeps the host back")
        if machine.status.access is None:
            if state is None:
                return None  # never seen: whatever was made of it, nothing was run there
            machine = self.env.cache.copy(machine)
            machine.status.access, machine.status.resolved = access(state), resolved(launch, state)
        if machine.status.access is None or machine.status.access.kind == "none":
            return None
        cluster = self.env.cache.get(Cluster, machine.spec.cluster, machine.namespace)
        try:
            progress = self.guest.step(
                machine,
                Task.LEAVE.value,
                lambda: self._steps(machine, cluster),
                key=key,
                salt=machine.uid,
            )
        except PluginError as error:
            message = f"its bootstrapper is missing: {error.message}; {error.remedy}"
            return Cleaned(over=False, reason="BootstrapperMissing", message=message, after=LATER, lost=True)
        except SupplierError as error:
            return Cleaned(over=False, reason="CleaningFailed", message=error.message, after=LATER, lost=True)
        return self._told(machine, progress)

    def forget(self, uid: str) -> None:
        """The machine is gone."""
        self.env.shared(Guests).forget(uid)

    # -- below -----------------------------------------------------------------------------------------------------------

    def _steps(self, machine: Machine, cluster: Cluster | None) -> Sequence[Step]:
        found: list[Step] = []
        if cluster is not None and cluster.spec.kubernetes is not None and machine.spec.role in MEMBERS:
            bootstrapper = bootstrapper_of(self.env, cluster)
            node = node_plan(self.env, cluster, machine)
            found += bootstrapper.steps(Task.LEAVE, cluster_plan(self.env, cluster), node)
        if machine.spec.role == "loadBalancer":
            makers = {p.provider.spec.type: p for p in self.env.places.all() if p.usable and p.capabilities.clean}
            found += [_of_balancers(type_, p.capabilities.clean) for type_, p in sorted(makers.items())]
        if cluster is not None and (own := self._own(machine, cluster)):
            found.append(own)
        return (*found, _LAST)

    @staticmethod
    def _own(machine: Machine, cluster: Cluster) -> Step | None:
        """What `machine_files.py` put there: SSH keys, and files that hold a secret. Others stay: nobody knows what they replaced."""
        template = machine.spec.machine.over(cluster.spec.machine)
        secret = [shlex.quote(f.path) for f in template.files or () if f.secret_ref is not None]
        script = f"rm -f {' '.join(secret)}\n" if secret else ""
        script += _UNAUTHORIZE if template.ssh_keys else ""
        if not script:
            return None
        return Step(name="machine-files", title="takes its SSH keys and secrets off it", script=script, timeout=60)

    @staticmethod
    def _told(machine: Machine, progress: Progress) -> Cleaned:
        error = progress.error
        if isinstance(error, NotFound):
            return _over("NotThere", f"it was not cleaned: {error.message}")
        if error is not None:
            found = not_reached(error, machine)
            return Cleaned(over=False, reason=found.reason, message=found.message, after=progress.after or SOON, lost=True)
        if progress.state == "done":
            return _over(CLEANED, "what was done to it is undone")
        if progress.state == "failed":
            said = f"{progress.words}; it is tried again every 10 minutes"
            return Cleaned(over=False, reason="CleaningFailed", message=said, after=progress.after or SOON, lost=True)
        words = f"it is being cleaned: {progress.words}"
        return Cleaned(over=False, reason="Cleaning", message=words, after=progress.after)


def _over(reason: str, message: str) -> Cleaned:
    return Cleaned(over=True, reason=reason, message=message)


def _of_balancers(type_: str, script: str) -> Step:
    return Step(name=f"balancer-{type_}", title=f"takes what {type_} left off it", script=script, timeout=120)


_UNAUTHORIZE = """keys=/etc/ssh/authorized_keys.d/root
file=/root/.ssh/authorized_keys
if [ -f "$keys" ] && [ -f "$file" ]; then
    grep -vxFf "$keys" "$file" >"$file.kubeup-new" || :
    chmod 0600 "$file.kubeup-new"
    mv "$file.kubeup-new" "$file"
fi
rm -f "$keys"
"""

_LAST = Step(
    name="cleaned",
    title="forgets what was done on it",
    script=f"rm -rf {STEPS_FOLDER}/blobs {STEPS_FOLDER}/boot\nfind {STEPS_FOLDER}/done -type f -exec rm -f {{}} +\n: >{EVIDENCE}\n",
    timeout=60,
    remedy=f"look whether the disk under {STEPS_FOLDER} is full",
)

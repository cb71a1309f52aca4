"""What makes a machine a member of its Kubernetes cluster: PREPARE at once, INIT or JOIN when it is its turn.

Called by `machine.py` for machines that run, with an address, until they are Ready; what it says is put into their status there. Whose
turn it is, is `control_plane.py`'s decision, what is known of the cluster `plans.py`'s; the steps are the bootstrapper's, and running
them is `guest.py`'s. Facts are kept in memory, in `env.shared(Bootstraps)`, for whoever waits for a member.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..bootstrapper import NO_SECRETS, Secrets, Step, Task
from ..bootstrapping.results import last_lines
from ..errors import InvalidSpec, SupplierError
from ..kinds import Cluster, Machine
from ..objects import timestamp
from ..plugins import PluginError
from ..runtime.controller import Env, Key
from .access import Reach, not_reached
from .bootstraps import Bootstrapped, Bootstraps, bootstrapper_of
from .certificates import pki_of
from .control_plane import permission
from .guest import Guest, Guests, Progress, paused
from .machine_files import own_files
from .nodes import Nodes, Told
from .plans import cluster_plan, made_with, node_plan
from .troubles import SOON, Trouble
from .user_data import joins_until

TAIL = 2_000
"""Characters of a failed step's output that are kept in the status."""

GRACE = 120.0
"""Seconds after the end of a token in which a machine that has just used it may yet appear."""


class Bootstrapping:
    """For one controller, whose keys are woken."""

    def __init__(self, env: Env, controller: str) -> None:
        self.env = env
        self.controller = controller
        self.guest = Guest(env, Reach(env, controller))
        self.book = env.shared(Bootstraps)
        self.nodes = env.shared(Nodes)

    def step(self, machine: Machine, cluster: Cluster, key: Key) -> Bootstrapped:
        """One step nearer. machine: with the status that was just observed. Never waits."""
        known = self.book.of(machine)
        if known is not None and known.done:
            return known
        try:
            alone = machine.status.access is not None and machine.status.access.kind == "none"
            report = self._alone(machine, cluster) if alone else self._prepare(machine, cluster, key)
        except _Waits as waits:
            report = _held(waits.trouble)
        except SupplierError as error:
            report = _held(_invalid(error))
        except PluginError as error:
            report = _held(
                Trouble(reason="BootstrapperMissing", message=str(error), after=60.0, stalled=True),
            )
        if self.book.say(machine, report):
            self.env.wake("cluster", Key(cluster.namespace, cluster.name))
        return report

    def settled(self, uid: str) -> None:
        """It is Ready: its jobs are over."""
        self.env.shared(Guests).forget(uid)

    def forget(self, uid: str) -> None:
        """The machine is going: it is a member of nothing any more, and at most cleaned."""
        self.book.forget(uid)
        self.env.shared(Guests).forget(uid, keep=Task.LEAVE.value)

    # -- in order --------------------------------------------------------------------------------------------------------

    def _prepare(self, machine: Machine, cluster: Cluster, key: Key) -> Bootstrapped:
        progress = self._task(Task.PREPARE, machine, cluster, key)
        if progress.state != "done":
            return self._report(machine, progress, "Preparing", since=self.book.paused(machine))
        allowed = permission(self.env, cluster, machine)
        if isinstance(allowed, Trouble):
            return _held(allowed)
        turn = self.book.turn(machine, self.env.clock.awake())
        progress = self._task(allowed, machine, cluster, key)
        reason = "Initializing" if allowed is Task.INIT else "Joining"
        return self._report(machine, progress, reason, since=turn)

    def _alone(self, machine: Machine, cluster: Cluster) -> Bootstrapped:
        """Nobody gets into it: it does what its user-data says, and has joined when its Node is there."""
        until, api = joins_until(self.env, machine), self.nodes.api(cluster)
        unseen = Told(ok=None, reason="NoAccess", message="its Provider offers no way in, so nothing is run on it")
        if self.nodes.of(machine) is not None:
            joined = Told(ok=True, reason="NodeJoined", message="its Node is in the cluster")
            return Bootstrapped(done=True, joining=True, reachable=unseen, bootstrapped=joined)
        lost = False
        if until is None:
            reason, lost = "NoAccess", machine.spec.role != "controlPlane"
            said = "there is no way into it, and its user-data does not tell it how to join; give its Provider a way in"
        elif self.env.clock.wall() > until + GRACE and api.ok is True:
            reason, lost = "TokenExpired", True
            said = f"its user-data has a token that was valid until {timestamp(until)}, and it has not joined; its console may tell why"
        else:
            reason = "Joining"
            said = "it prepares itself and joins by its user-data; its Node is waited for, and until then only its console tells more"
        return Bootstrapped(
            done=False,
            joining=until is not None,
            reachable=unseen,
            bootstrapped=Told(ok=False, reason=reason, message=said),
            held=not lost and until is not None and api.ok is not True,
            stalled=until is None,
            lost=lost,
            after=SOON,
        )

    def _task(self, task: Task, machine: Machine, cluster: Cluster, key: Key) -> Progress:
        wish, plane = str(cluster.metadata.generation), cluster.status.control_plane
        version = made_with(self.env, cluster, machine)
        ahead = version if plane is not None and version != plane.version and plane.version else ""  # prepared anew for it
        make = lambda: self._steps(task, machine, cluster, key)  # noqa: E731
        begins = plane is not None and not plane.initialized and plane.first_uid == machine.uid
        return self.guest.step(machine, task.value, make, key=key, wish=wish, salt=ahead, urgent=begins)

    def _steps(self, task: Task, machine: Machine, cluster: Cluster, key: Key) -> Sequence[Step]:
        bootstrapper = bootstrapper_of(self.env, cluster)
        secrets = NO_SECRETS if task is Task.PREPARE else self._secrets(task, machine, cluster, key)
        plan, node = cluster_plan(self.env, cluster, machine), node_plan(self.env, cluster, machine)
        own = own_files(self.env, cluster, machine) if task is Task.PREPARE else ()
        return (*own, *bootstrapper.steps(task, plan, node, secrets))

    def _secrets(self, task: Task, machine: Machine, cluster: Cluster, key: Key) -> Secrets:
        token = ""
        if task is Task.JOIN:
            token = self.nodes.token(cluster, (self.controller, key))
            if not token:
                raise _Waits(Trouble(reason="WaitingForToken", message="a token to join with is being made", after=SOON))
        pki = pki_of(self.env, cluster) if machine.spec.role == "controlPlane" else {}
        return Secrets(pki=pki, token=token)

    # -- in words --------------------------------------------------------------------------------------------------------

    def _report(self, machine: Machine, progress: Progress, reason: str, since: float | None) -> Bootstrapped:
        if progress.state == "held":
            self.book.pause(machine, self.env.clock.awake())
            return _held(paused(progress))
        reachable = Told(ok=True, reason="Reached", message="it runs what it is sent")
        error = progress.error
        if error is not None and not isinstance(error, InvalidSpec):
            found = not_reached(error, machine)
            reachable = Told(ok=False, reason=found.reason, message=found.message)
        elif error is not None:
            return _held(_invalid(error), since=since)
        elif progress.state == "asking":
            reachable = Told(ok=None, reason="Connecting", message="it is being connected to")
        joining = reason != "Preparing"
        return Bootstrapped(
            done=joining and progress.state == "done",
            reachable=reachable,
            bootstrapped=_told(progress, reason),
            joining=joining,
            stalled=progress.state == "failed" or (error is not None and not_reached(error, machine).stalled),
            since=since,
            step=progress.step,
            number=max(0, progress.number - (progress.state != "done")),
            total=progress.total,
            exit_code=progress.exit_code,
            tail=progress.tail[-TAIL:],
            after=progress.after,
        )


# -- below ---------------------------------------------------------------------------------------------------------------


class _Waits(Exception):
    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


def _held(found: Trouble, since: float | None = None) -> Bootstrapped:
    """Something else has to happen first."""
    return Bootstrapped(
        done=False,
        reachable=Told(ok=True, reason="Reached", message="it runs what it is sent")
        if found.reason not in ("NoAccess", "InvalidSpec", "BootstrapperMissing")
        else Told(ok=None, reason=found.reason, message=found.message),
        bootstrapped=Told(ok=False, reason=found.reason, message=found.message),
        held=True,
        stalled=found.stalled,
        since=since,
        after=found.after,
    )


def _invalid(error: SupplierError) -> Trouble:
    where = f"{error.path}: " if isinstance(error, InvalidSpec) and error.path else ""
    message = f"{where}{error.message}{'; ' + error.remedy if error.remedy else ''}"
    return Trouble(
        reason="InvalidSpec" if isinstance(error, InvalidSpec) else error.decision, message=message, after=60.0, stalled=True
    )


def _told(progress: Progress, reason: str) -> Told:
    """For the condition Bootstrapped."""
    p = progress
    where = f"step {p.number} of {p.total}, {p.step}" + (f" ({p.title})" if p.title else "")
    match p.state:
        case "done" if reason != "Preparing":
            return Told(ok=True, reason="StepsDone", message="all steps were done")
        case "failed" | "retrying":
            how = "took longer than it may" if p.late else f"failed with exit code {p.exit_code}"
            lines = last_lines(p.tail)
            said = f"; its last lines: {lines}" if lines else "; it printed nothing"
            again = f"; it is tried again, so far {p.attempt - 1} times" if p.state == "retrying" else ""
            remedy = f"; {p.remedy}" if p.remedy else ""
            return Told(
                ok=False,
                reason="StepFailed" if p.state == "failed" else "StepRetried",
                message=f"{where} {how}{said}{remedy}{again}",
            )
        case "running" if p.step:
            return Told(ok=False, reason=reason, message=where)
        case _:
            return Told(ok=False, reason=reason, message=p.message or "its steps are being sent")

"""What makes a machine a member of its Kubernetes cluster: PREPARE at once, INIT or JOIN when it is its turn.

Called by `machine.py` for machines that run, with an address, until they are Ready; what it says is put into their status there. Whose
turn it is, is `control_plane.py`'s decision, what is known of the cluster `plans.py`'s; the steps are the bootstrapper's, and running
them is `guest.py`'s. Facts are kept in memory, in `env.shared(Bootstraps)`, for whoever waits for a member.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..bootstrapper import NO_SECRETS, File, Secrets, Step, Task
from ..bootstrapping.results import last_lines
from ..errors import InvalidSpec, SupplierError
from ..kinds import Cluster, Machine, Secret
from ..plugins import PluginError
from ..runtime.controller import Env, Key
from .access import Reach, not_reached
from .bootstraps import Bootstrapped, Bootstraps, bootstrapper_of
from .certificates import pki_of
from .control_plane import permission
from .guest import Guest, Guests, Progress
from .nodes import Nodes, Told
from .plans import cluster_plan, node_plan
from .ssh_keys import values
from .troubles import SOON, Trouble

TAIL = 2_000
"""Characters of a failed step's output that are kept in the status."""


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
            report = self._prepare(machine, cluster, key)
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
        """The machine is gone."""
        self.book.forget(uid)
        self.env.shared(Guests).forget(uid)

    # -- in order --------------------------------------------------------------------------------------------------------

    def _prepare(self, machine: Machine, cluster: Cluster, key: Key) -> Bootstrapped:
        progress = self._task(Task.PREPARE, machine, cluster, key)
        if progress.state != "done":
            return self._report(machine, progress, "Preparing", since=None)
        allowed = permission(self.env, cluster, machine)
        if isinstance(allowed, Trouble):
            return _held(allowed)
        turn = self.book.turn(machine, self.env.clock.awake())
        progress = self._task(allowed, machine, cluster, key)
        reason = "Initializing" if allowed is Task.INIT else "Joining"
        return self._report(machine, progress, reason, since=turn)

    def _task(self, task: Task, machine: Machine, cluster: Cluster, key: Key) -> Progress:
        wish = str(cluster.metadata.generation)
        return self.guest.step(machine, task.value, lambda: self._steps(task, machine, cluster, key), key=key, wish=wish)

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


def own_files(env: Env, cluster: Cluster, machine: Machine) -> tuple[Step, ...]:
    """The template's files and SSH keys as a step of their own. Raises InvalidSpec for a Secret that is missing."""
    template = machine.spec.machine.over(cluster.spec.machine)
    found = []
    for wanted in template.files or ():
        content, secret = (wanted.content or "").encode(), False
        if wanted.secret_ref is not None:
            ref, secret = wanted.secret_ref, True
            namespace = ref.namespace or machine.namespace
            held = env.cache.get(Secret, ref.name, namespace)
            value = values(held).get(ref.key) if held is not None else None
            if value is None:
                raise InvalidSpec(
                    f"there is no key {ref.key} in Secret {namespace}/{ref.name} for the file {wanted.path}",
                    remedy=f"kubectl create secret generic {ref.name} -n {namespace} --from-literal={ref.key}=...",
                )
            content = value.encode()
        found.append(File(path=wanted.path, content=content, mode=int(wanted.mode, 8), secret=secret))
    keys = "".join(f"{line.strip()}\n" for line in template.ssh_keys or ())
    if keys:
        found.append(File(path="/etc/ssh/authorized_keys.d/root", content=keys.encode()))
    if not found:
        return ()
    return (
        Step(
            name="machine-files",
            title="puts the template's files in place",
            script=_AUTHORIZE if keys else ":",
            files=tuple(found),
            timeout=60,
            remedy="correct files or sshKeys in the machine's template",
        ),
    )


_AUTHORIZE = """mkdir -p -m 0700 /root/.ssh
touch /root/.ssh/authorized_keys
chmod 0600 /root/.ssh/authorized_keys
while read -r line; do
    grep -qxF "$line" /root/.ssh/authorized_keys || echo "$line" >>/root/.ssh/authorized_keys
done </etc/ssh/authorized_keys.d/root
"""


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

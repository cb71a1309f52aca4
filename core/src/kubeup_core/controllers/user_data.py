"""Which machines get user-data, what is in it, and the Secret that keeps it for their Launch's life.

Called by `placement.py`, which decides, and by `launch.py`, which submits the same bytes at each repeat. The Secret `userdata-<launch>`
is written right before its Launch: one whose Launch never came is overwritten by the next try, and goes with the Cluster. How it is
rendered is in `kubeup_core/user_data.py`.

Members of a Kubernetes cluster, by the way in: `execute` is open as soon as the machine is there, so all goes over it. Over `ssh` they
are reached later, so their user-data has PREPARE where it can; what cannot, and the rest, goes over SSH. Where there is no way in,
workers are told all of it, with a token of their Launch; control planes, whose keys no user-data may hold, are refused.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from ..bootstrapper import NO_SECRETS, Secrets, Step, Task
from ..errors import InvalidSpec, NotReady, SupplierError
from ..kinds import Cluster, Launch, Machine, Secret
from ..kinds.machine import NODE_ROLES
from ..objects import ObjectMeta, parse_timestamp, timestamp
from ..plugins import PluginError
from ..runtime.controller import Env, Key
from ..runtime.places import Place
from ..statuses import AlreadyExists, NotFound
from ..user_data import BootFile, BootJobs, TooLong, render
from .bootstraps import bootstrapper_of
from .control_plane import permission
from .machine_files import own_files
from .nodes import Nodes
from .plans import cluster_plan, node_plan
from .ssh_keys import public_key
from .troubles import SOON, Trouble

KEY = "user-data"
UNTIL = "kubeup.dev/token-valid-until"
"""Annotation of the Secret: until when machines that are told to join can."""

_SIZED = "abcdef.0123456789abcdef"
"""As long as a token."""

_WAY_IN = "use a Provider whose machines are reached by ssh, or by its own execute"


@dataclass(frozen=True)
class BootData:
    """content: b"" for nothing. until: epoch seconds until which the token in it is valid."""

    content: bytes = b""
    until: float | None = None


class UserData:
    """For one controller, whose keys are woken when a token is there."""

    def __init__(self, env: Env, controller: str) -> None:
        self.env = env
        self.controller = controller
        self.nodes = env.shared(Nodes)

    def of(self, cluster: Cluster, machines: Sequence[Machine], place: Place, *, arch: str, launch: str, key: Key) -> BootData:
        """What the members of a launch, alike but for their names, are told at their first boot at a place.

        launch  its name: a token belongs to it
        Raises InvalidSpec for what cannot be told there, TooLong where fewer members may fit, NotReady while something is made.
        """
        machine = machines[0]
        member = cluster.spec.kubernetes is not None and machine.spec.role in NODE_ROLES
        if not member:
            return BootData(self._plain(cluster, machine, place))
        match place.access:
            case "execute":
                return BootData()  # keys and files are a step (`machine_files.own_files`)
            case "none":
                return self._alone(cluster, machines, place, arch, launch, key)
            case _:
                return BootData(self._ahead(cluster, machines, place, arch))

    # -- what is in it ---------------------------------------------------------------------------------------------------

    def _plain(self, cluster: Cluster, machine: Machine, place: Place) -> bytes:
        """Keys and files."""
        wanted, limit = machine.spec.machine.over(cluster.spec.machine), place.capabilities.user_data_limit
        keys, files = list(wanted.ssh_keys or ()), list(wanted.files or ())
        if machine.spec.role == "loadBalancer" and place.access == "ssh" and limit:
            keys.append(self._own_key(cluster))
        secret = next((f for f in files if f.secret_ref is not None), None)
        if secret is not None:
            raise InvalidSpec(
                f"the file {secret.path} comes from a Secret, and user-data is no place for one",
                remedy="take it out of the template; members of a Kubernetes cluster get such files over their access",
            )
        if (keys or files) and limit == 0:
            raise InvalidSpec(
                "its machines are told nothing at their first boot, so files and sshKeys cannot be put there",
                remedy="take them out of the template, or use another Provider",
            )
        boot = [BootFile(path=f.path, content=f.content or "", mode=f.mode) for f in files]
        return render(keys, boot, limit=limit)

    def _ahead(self, cluster: Cluster, machines: Sequence[Machine], place: Place, arch: str) -> bytes:
        """The key that lets kubeup in, and PREPARE as far as it can go without it."""
        wanted, can = machines[0].spec.machine.over(cluster.spec.machine), place.capabilities
        if can.user_data_limit == 0:
            return b""  # hosts that are reached already: all is done over SSH
        keys = [*(wanted.ssh_keys or ()), self._own_key(cluster)]
        with suppress(SupplierError, PluginError):  # what is wrong with its steps is told where they are run
            members = [(m.name, [self._prepare(cluster, m, arch)]) for m in machines]
            decided = cluster.status.resolved is not None and cluster.status.resolved.cni
            if decided and all(_lacking(steps) is None for _, (steps,) in members):
                return render(keys, jobs=BootJobs(members=members, whoami=can.whoami), limit=can.user_data_limit)
        return render(keys, limit=can.user_data_limit)

    def _alone(self, cluster: Cluster, machines: Sequence[Machine], place: Place, arch: str, launch: str, key: Key) -> BootData:
        """All that makes workers members. What can never work is told before what has to be waited for."""
        machine, can = machines[0], place.capabilities
        if machine.spec.role == "controlPlane":
            raise InvalidSpec("there is no way into its machines, and control planes get their keys over one", remedy=_WAY_IN)
        if can.user_data_limit == 0:
            raise InvalidSpec("there is no way into its machines, and they take no user-data", remedy=_WAY_IN)
        try:
            prepare = {machine.name: self._prepare(cluster, machine, arch)}
            lacking = _lacking(prepare[machine.name])
            if lacking is not None:
                raise lacking
            self._render(cluster, machines[:1], place, {machine.name: [prepare[machine.name]]})
            allowed = permission(self.env, cluster, machine)
            if isinstance(allowed, Trouble):
                raise NotReady(f"its machines are told at their first boot how to join: {allowed.message}", retry_after=SOON)
            prepare |= {m.name: self._prepare(cluster, m, arch) for m in machines[1:]}
            self._joining(cluster, machines, place, arch, prepare, _SIZED)
            token = self.nodes.launch_token(cluster, launch, (self.controller, key))
            if token is None:
                raise NotReady("a token for its machines to join with is being made", retry_after=SOON)
            return BootData(self._joining(cluster, machines, place, arch, prepare, token.value), token.until)
        except PluginError as error:
            raise InvalidSpec(error.message, remedy=error.remedy) from error

    def _joining(
        self,
        cluster: Cluster,
        machines: Sequence[Machine],
        place: Place,
        arch: str,
        prepare: dict[str, tuple[Step, ...]],
        token: str,
    ) -> bytes:
        jobs: dict[str, list[Sequence[Step]]] = {}
        for machine in machines:
            join = self._steps(Task.JOIN, cluster, machine, arch, Secrets(token=token))
            sent = next((f for step in join for f in step.files if f.source), None)
            if sent is not None:
                raise InvalidSpec(f"there is no way into its machines, and {sent.source} has to be sent there", remedy=_WAY_IN)
            jobs[machine.name] = [prepare[machine.name], join]
        return self._render(cluster, machines, place, jobs)

    def _render(
        self, cluster: Cluster, machines: Sequence[Machine], place: Place, jobs: dict[str, list[Sequence[Step]]]
    ) -> bytes:
        can, keys = place.capabilities, machines[0].spec.machine.over(cluster.spec.machine).ssh_keys or ()
        found = BootJobs(members=[(m.name, jobs[m.name]) for m in machines], whoami=can.whoami, alone=True)
        try:
            return render(keys, jobs=found, limit=can.user_data_limit, what="spec.kubernetes")
        except TooLong as error:
            raise TooLong(error.message, path=error.path, remedy=_WAY_IN) from error

    # -- parts of it -----------------------------------------------------------------------------------------------------

    def _prepare(self, cluster: Cluster, machine: Machine, arch: str) -> tuple[Step, ...]:
        """As over access (`bootstrapping.py`), so that their markers are the same."""
        return (
            *own_files(self.env, cluster, machine),
            *self._steps(Task.PREPARE, cluster, machine, arch, NO_SECRETS),
        )

    def _steps(self, task: Task, cluster: Cluster, machine: Machine, arch: str, secrets: Secrets) -> tuple[Step, ...]:
        plan, node = cluster_plan(self.env, cluster, machine), node_plan(self.env, cluster, machine)
        return tuple(bootstrapper_of(self.env, cluster).steps(task, plan, replace(node, arch=arch or node.arch), secrets))

    def _own_key(self, cluster: Cluster) -> str:
        own = public_key(self.env, cluster)
        if not own:
            raise NotReady("the cluster's SSH key is being made", retry_after=1.0)
        return own


def _lacking(steps: Sequence[Step]) -> InvalidSpec | None:
    """Why steps can be done over access only."""
    for step in steps:
        for file in step.files:
            if file.source:
                return InvalidSpec(
                    f"there is no way into its machines, and {file.source} lies on the machine that kubeup runs on",
                    path="spec.kubernetes.bundle",
                    remedy="name the bundle by a URL, use source: packages or preinstalled, or a Provider whose machines are reached",
                )
            if file.secret:
                return InvalidSpec(
                    f"the file {file.path} comes from a Secret, and user-data is no place for one",
                    remedy="take it out of the template, or use a Provider whose machines are reached by ssh, or by its own execute",
                )
    return None


# -- where it is kept ----------------------------------------------------------------------------------------------------


def keep_user_data(env: Env, cluster: Cluster, launch: str, told: BootData) -> None:
    """Before the Launch of this name is written."""
    if not told.content:
        return
    annotations = {UNTIL: timestamp(told.until)} if told.until is not None else {}
    metadata = ObjectMeta(
        name=_name(launch), namespace=cluster.namespace, owner_references=[cluster.reference()], annotations=annotations
    )
    data = {KEY: base64.b64encode(told.content).decode()}
    secret = Secret(metadata=metadata, type="kubeup.dev/user-data", data=data)
    try:
        env.client.create(secret)
    except AlreadyExists:
        former = env.client.get(Secret, _name(launch), cluster.namespace)
        if former.data != secret.data:
            changed = former.model_copy(deep=True)
            changed.data, changed.metadata.annotations = secret.data, metadata.annotations
            env.client.update(changed)


def stored_user_data(env: Env, launch: Launch) -> bytes | None:
    """The bytes that the Launch was written with; None when they are not there any more."""
    if launch.spec.user_data_digest in ("", hashlib.sha256(b"").hexdigest()):
        return b""
    secret = env.cache.get(Secret, _name(launch.name), launch.namespace)
    found = base64.b64decode((secret.data or {}).get(KEY, "")) if secret is not None else b""
    return found if hashlib.sha256(found).hexdigest() == launch.spec.user_data_digest else None


def joins_until(env: Env, machine: Machine) -> float | None:
    """Until when, in epoch seconds, a machine can join as its user-data tells it; None: it was told nothing of that."""
    secret = env.cache.get(Secret, _name(machine.status.launch), machine.namespace) if machine.status.launch else None
    until = secret.annotations.get(UNTIL, "") if secret is not None else ""
    return parse_timestamp(until) if until else None


def drop_user_data(env: Env, launch: Launch) -> None:
    if stored_user_data(env, launch):
        with suppress(NotFound):
            env.client.delete(Secret, _name(launch.name), launch.namespace)


def _name(launch: str) -> str:
    return f"userdata-{launch}"

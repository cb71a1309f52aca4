"""Watches the workload clusters: one key per Cluster. Fills the book `Nodes`, keeps Nodes in step with their pools, makes tokens.

Its Nodes are listed every few seconds while something joins or leaves, and rarely otherwise. It writes nothing to the store: who is
concerned is woken and reads the book. What it changes in a workload are its Nodes' labels, taints and annotations, and it deletes
Nodes whose Machine is no more (`machine_end.py` does that at once; here it is what a crash or a silent API has left behind).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeVar

from ..bootstrapper import Taint
from ..client import Event
from ..errors import SupplierError
from ..kinds import Cluster, Launch, Machine, NodePool, Secret
from ..login import ConfigError
from ..objects import parse_timestamp
from ..runtime.calls import InProgress
from ..runtime.controller import Controller, Env, Key, Result, Watch
from ..statuses import Conflict, Forbidden, NotFound, StatusError, Unauthorized
from ..workload import Json, Unreachable, Workload
from .gate import Gates
from .manifests import Manifests
from .node_labels import CLUSTER, Wanted, in_step, patch
from .nodes import MACHINE, Known, Nodes, NodeView, Told, Workloads, pool_of
from .pauses import paused
from .ssh_keys import values
from .troubles import sooner

T = TypeVar("T")

FAST, SLOW = 3.0, 30.0
"""Awake seconds between listings: while something is on its way in or out, and otherwise."""

FASTEST, PER_NODE = 1.0, 0.02
"""A listing of few Nodes costs little: so it is done every second, and by so much later for each Node, until it is FAST."""

MISSES = 3
"""Listings in a row that must fail before an API that answered counts as silent."""

AGAIN = 60.0
"""Awake seconds after which a Node that refused a change is tried again."""

KUBECONFIG = "-kubeconfig"
PRESSED = ("DiskPressure", "MemoryPressure", "PIDPressure", "NetworkUnavailable")
"""Conditions of a Node that are told when they are True."""

MEMBERS = ("worker", "controlPlane")
_NEVER = "1970-01-01T00:00:00Z"


class Look(NamedTuple):
    """One look at an API. ahead: seconds by which its clock is ahead of ours."""

    version: str
    nodes: list[Json]
    ahead: float


class NodesController(Controller):
    name = "nodes"
    kind = Cluster
    lull = 0.2

    def __init__(self, env: Env) -> None:
        self.watches = (Watch(Machine, _of_member), Watch(NodePool, _of_member), Watch(Secret, _of_secret))
        super().__init__(env)
        self.nodes = env.shared(Nodes)
        self.nodes.attach(env, self.name)
        self.workloads = env.shared(Workloads)
        self.gates = Gates(env, self.nodes, self.name)
        self.manifests = Manifests(env, self.nodes, self.name)
        self._due: dict[str, float] = {}
        self._looking: set[str] = set()
        self._misses: dict[str, int] = {}
        self._refused: dict[tuple[str, str], tuple[Wanted, float]] = {}

    def reconcile(self, key: Key) -> Result:
        cluster = self.env.cache.get(Cluster, key.name, key.namespace)
        if cluster is None or cluster.spec.kubernetes is None:
            self._forget(key)
            return Result()
        known = self.nodes.entry(cluster)
        if not self._connected(cluster, known):
            return Result()
        afters: list[float | None] = []
        for part in (self._look, self._upkeep, self._leftovers, self._token, self._of_launches, self._gate, self._manifests):
            try:
                afters.append(part(cluster, known, key))
            except InProgress as running:
                afters.append(running.after)
        after = sooner(*afters)
        return Result(after=after, slow=after is not None and after > FAST and not self._moving(cluster, known))

    # -- the API ---------------------------------------------------------------------------------------------------------

    def _connected(self, cluster: Cluster, known: Known) -> bool:
        secret = self.env.cache.get(Secret, cluster.name + KUBECONFIG, cluster.namespace)
        kubeconfig = values(secret).get("value", "") if secret is not None else ""
        if not kubeconfig:
            known.api = Told(ok=None, reason="NoKubeconfig", message="the cluster has no kubeconfig yet")
            return False
        if known.digest == kubeconfig and known.workload is not None:
            return True
        try:
            workload = self.workloads.connect(cluster, kubeconfig)
        except ConfigError as error:
            remedy = f"delete Secret {cluster.name}{KUBECONFIG}, and it is made anew"
            self._say(cluster, known, Told(ok=False, reason="KubeconfigInvalid", message=f"{error}; {remedy}"))
            return False
        with self.nodes.lock:
            former, known.workload, known.digest = known.workload, workload, kubeconfig
        if former is not None:
            former.close()
        self._due.pop(cluster.uid, None)
        return True

    def _look(self, cluster: Cluster, known: Known, key: Key) -> float | None:
        """List its Nodes when it is time. -> when it is again."""
        now = self.env.clock.awake()
        due = self._due.get(cluster.uid, now)
        if self._moving(cluster, known):
            due = min(due, (known.listed or 0.0) + _fast(known)) if known.api.ok else due
        if cluster.uid not in self._looking and now < due:
            return due - now
        workload, wall = known.workload, self.env.clock.wall
        assert workload is not None
        self._looking.add(cluster.uid)
        try:
            look = self._ask(cluster, key, "list nodes", lambda: _looked(workload, wall))
        except (StatusError, SupplierError) as error:
            self._looking.discard(cluster.uid)
            self._missed(cluster, known, error)
        else:
            self._looking.discard(cluster.uid)
            self._seen(cluster, known, look)
        pause = _fast(known) if self._moving(cluster, known) else SLOW
        self._due[cluster.uid] = self.env.clock.awake() + pause
        return pause

    def _seen(self, cluster: Cluster, known: Known, look: Look) -> None:
        self._misses.pop(cluster.uid, None)
        nodes = {view.name: view for view in map(view_of, look.nodes)}
        back = known.api.ok is not True
        with self.nodes.lock:
            before, known.nodes = known.nodes, nodes
            known.listed, known.version, known.ahead = self.env.clock.awake(), look.version, look.ahead
        self._say(cluster, known, Told(ok=True, reason="Answers", message=f"its API answers ({look.version})"))
        changed = {name for name in {*before, *nodes} if before.get(name) != nodes.get(name)}
        for machine in self._machines(cluster):
            if back or machine.name in changed:
                self.env.wake("machine", Key(machine.namespace, machine.name))

    def _missed(self, cluster: Cluster, known: Known, error: StatusError | SupplierError) -> None:
        """One answer that does not come means nothing, once the API has answered."""
        misses = self._misses[cluster.uid] = self._misses.get(cluster.uid, 0) + 1
        if known.api.ok and misses < MISSES:
            return
        match error:
            case Unauthorized() | Forbidden():
                remedy = f"delete Secret {cluster.name}{KUBECONFIG}, and it is made anew from the cluster's own authority"
                told = Told(ok=False, reason="ApiDenied", message=f"its API does not let kubeup in: {error.message}; {remedy}")
            case Unreachable() | SupplierError():
                told = Told(ok=False, reason="ApiUnreachable", message=f"its API does not answer: {error.message}")
            case _:
                told = Told(ok=False, reason="ApiNotReady", message=f"its API is not ready: {error.message}")
        self._say(cluster, known, told)

    def _say(self, cluster: Cluster, known: Known, told: Told) -> None:
        news = (known.api.ok, known.api.reason) != (told.ok, told.reason)
        known.api = told
        if news:
            self.env.wake("cluster", Key(cluster.namespace, cluster.name))

    def _moving(self, cluster: Cluster, known: Known) -> bool:
        """Something joins, leaves, or is waited for."""
        if known.asking or known.api.ok is not True or (known.gate.ok is None and known.gate_round is not None):
            return True
        return any(m.deleting or not (m.status.is_true("Ready") or m.status.state == "Failed") for m in self._machines(cluster))

    # -- its Nodes -------------------------------------------------------------------------------------------------------

    def _upkeep(self, cluster: Cluster, known: Known, key: Key) -> float | None:
        """Labels and taints of each pool on its Nodes, and the mark whose Node it is."""
        if known.api.ok is not True or cluster.deleting:
            return None
        now = self.env.clock.awake()
        todo: dict[str, Wanted] = {}
        for machine in self._machines(cluster):
            view = self.nodes.of(machine)
            if view is None or machine.deleting or paused(self.env, machine):
                continue
            want = self._wanted(cluster, machine)
            refused = self._refused.get((cluster.uid, machine.name))
            if not in_step(view, want) and not (refused is not None and refused[0] == want and now < refused[1]):
                todo[machine.name] = want
        if not todo:
            return None
        workload = known.workload
        assert workload is not None
        uids = {name: known.nodes[name].uid for name in todo}
        done = self._ask(cluster, key, "label nodes", lambda: _patched(workload, todo, uids), limit=120)
        with self.nodes.lock:
            known.nodes.update({n: view_of(item) for n, item in done.items() if isinstance(item, dict) and n in known.nodes})
        for name, error in done.items():
            if isinstance(error, StatusError) and not isinstance(error, Conflict | NotFound):
                self._refuse(cluster, name, todo.get(name), error)
        return FAST

    def _wanted(self, cluster: Cluster, machine: Machine) -> Wanted:
        pool = self.env.cache.get(NodePool, machine.spec.pool, machine.namespace) if machine.spec.pool else None
        whose = Wanted(machine=machine.uid, cluster=cluster.uid, provider_id=machine.status.provider_id or "")
        if pool is None:
            return whose
        taints = tuple(Taint(key=t.key, value=t.value or "", effect=t.effect) for t in pool.spec.taints)
        return replace(whose, labels=pool.spec.labels, taints=taints)

    def _refuse(self, cluster: Cluster, name: str, want: Wanted | None, error: StatusError) -> None:
        machine = self.env.cache.get(Machine, name, cluster.namespace)
        if want is None or machine is None:
            return
        self._refused[(cluster.uid, name)] = (want, self.env.clock.awake() + AGAIN)
        message = (
            f"labels and taints of NodePool {machine.spec.pool} cannot be put on its Node: {error.message}; change them there"
        )
        self.env.events.event(machine, "Warning", "NodeNotInStep", message)

    def _leftovers(self, cluster: Cluster, known: Known, key: Key) -> float | None:
        """Nodes that we marked, whose Machine is no more and whose kubelet is silent. One that still works is left alone: a store
        that has lost its memory looks the same."""
        if known.api.ok is not True or cluster.deleting or paused(self.env, cluster):
            return None
        for view in self.nodes.all(cluster):
            ours = view.machine and view.annotations.get(CLUSTER) == cluster.uid
            if not ours or view.ready or self.env.cache.uid(Machine, view.machine) is not None:
                continue
            workload = known.workload
            assert workload is not None
            try:
                self._ask(cluster, key, f"delete node {view.name}", partial(workload.delete_node, view.name, view.uid))
            except (StatusError, SupplierError):
                return SLOW
            with self.nodes.lock:
                known.nodes.pop(view.name, None)
            self.env.events.event(cluster, "Normal", "NodeDeleted", f"Node {view.name} is deleted: its Machine is no more")
        return None

    # -- what others have asked for --------------------------------------------------------------------------------------

    def _token(self, cluster: Cluster, known: Known, key: Key) -> float | None:
        if not known.asking or known.api.ok is not True or paused(self.env, cluster):
            return None
        workload = known.workload
        assert workload is not None
        wall = self.env.clock.wall()
        try:
            token = self._ask(cluster, key, "make token", workload.token_create)
        except (StatusError, SupplierError):
            return FAST
        with self.nodes.lock:
            known.token, known.token_until = token.value, token.until - workload.ahead(wall)
            asking, known.asking = known.asking, set()
        for controller, who in asking:
            self.env.wake(controller, who)
        return None

    def _of_launches(self, cluster: Cluster, known: Known, key: Key) -> float | None:
        """Tokens that launches have been promised are made; those whose machines have joined, or went, are taken back. What is not
        taken back, because this process ended, ends by itself."""
        workload, now = known.workload, self.env.clock.wall()
        if known.api.ok is not True or workload is None or not (known.wanted or known.of_launch):
            return None
        for launch, wake in list(known.wanted.items()):
            try:
                token = self._ask(cluster, key, f"make token for {launch}", workload.token_create)
            except (StatusError, SupplierError):
                return FAST
            with self.nodes.lock:
                known.of_launch[launch] = token._replace(until=token.until - workload.ahead(now))
                known.wanted.pop(launch, None)
            self.env.wake(*wake)
        for launch, token in list(known.of_launch.items()):
            if token.until > now and not self._joined(cluster, launch):
                continue
            try:
                self._ask(cluster, key, f"take back token of {launch}", partial(workload.token_delete, token.value))
            except (StatusError, SupplierError):
                return SLOW
            with self.nodes.lock:
                known.of_launch.pop(launch, None)
        return SLOW if known.of_launch else None

    def _joined(self, cluster: Cluster, name: str) -> bool:
        """Nobody needs the launch's token any more. One that is not written yet is about to be."""
        launch = self.env.cache.get(Launch, name, cluster.namespace)
        if launch is None or launch.status.phase != "Settled":
            return False
        machines = [self.env.cache.uid(Machine, member.uid) for member in launch.spec.members]
        return all(m is None or m.deleting or m.status.is_true("Bootstrapped") for m in machines)

    def _gate(self, cluster: Cluster, known: Known, key: Key) -> float | None:
        return self.gates.step(cluster.uid, known, key)

    def _manifests(self, cluster: Cluster, known: Known, key: Key) -> float | None:
        return None if paused(self.env, cluster) else self.manifests.step(cluster, known, key)

    # -- below -----------------------------------------------------------------------------------------------------------

    def _ask(self, cluster: Cluster, key: Key, verb: str, fn: Callable[[], T], limit: float = 30.0) -> T:
        """The kubeconfig is in the token: what was asked with another one is of no use."""
        token = self.nodes.entry(cluster).digest
        return self.env.calls.background(
            pool_of(cluster.uid), f"the API of {cluster.name}", verb, fn, wake=(self.name, key), token=token, limit=limit
        )

    def _machines(self, cluster: Cluster) -> list[Machine]:
        machines: list[Machine] = self.env.cache.by(Machine, "cluster", f"{cluster.namespace}/{cluster.name}")
        return [m for m in machines if m.spec.role in MEMBERS]

    def _forget(self, key: Key) -> None:
        for uid in self.nodes.forget(key):
            self.gates.forget(uid)
            self.manifests.forget(uid)
            self.env.calls.end(pool_of(uid))
            self._due.pop(uid, None)
            self._misses.pop(uid, None)
            self._looking.discard(uid)
            self._refused = {who: what for who, what in self._refused.items() if who[0] != uid}


def _fast(known: Known) -> float:
    return min(FAST, max(FASTEST, PER_NODE * len(known.nodes)))


def view_of(node: Json) -> NodeView:
    metadata, spec, status = node["metadata"], node.get("spec", {}), node.get("status", {})
    conditions = status.get("conditions") or ()
    ready: Json = next((c for c in conditions if c["type"] == "Ready"), {})
    pressed = [c for c in conditions if c["type"] in PRESSED and c.get("status") == "True"]
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k.startswith("kubeup.dev/")}
    info = status.get("nodeInfo", {})
    return NodeView(
        name=metadata["name"],
        uid=metadata["uid"],
        ready={"True": True, "False": False}.get(ready.get("status", "")),
        reason=ready.get("reason", ""),
        message=ready.get("message", ""),
        pressed=tuple(f"{c['type']} ({c.get('message') or c.get('reason') or 'no reason'})" for c in pressed),
        since=parse_timestamp(ready.get("lastTransitionTime") or _NEVER),
        created=parse_timestamp(metadata.get("creationTimestamp") or _NEVER),
        machine=annotations.get(MACHINE, ""),
        kubelet_version=info.get("kubeletVersion", ""),
        pod_cidr=spec.get("podCIDR", ""),
        boot_id=info.get("bootID", ""),
        provider_id=spec.get("providerID", ""),
        unschedulable=bool(spec.get("unschedulable")),
        labels=metadata.get("labels") or {},
        taints=tuple(Taint(key=t["key"], value=t.get("value", ""), effect=t["effect"]) for t in spec.get("taints") or ()),
        annotations=annotations,
        version=metadata.get("resourceVersion", ""),
    )


def _looked(workload: Workload, wall: Callable[[], float]) -> Look:
    workload.readyz()
    version, nodes = workload.version(), workload.nodes()
    return Look(version, nodes, workload.ahead(wall()))


def _patched(workload: Workload, todo: dict[str, Wanted], uids: dict[str, str]) -> dict[str, Json | StatusError]:
    """Each Node is read again right before it is changed. One that refuses does not hold up the others."""
    done: dict[str, Json | StatusError] = {}
    for name, want in todo.items():
        try:
            node = workload.node(name)
            change = patch(node, want) if node["metadata"]["uid"] == uids[name] else None
            done[name] = workload.patch_node(name, change) if change else node
        except Unreachable:
            return done
        except StatusError as error:
            done[name] = error
    return done


def _of_member(event: Event[Any]) -> Iterator[Key]:
    if isinstance(event.object, NodePool) or event.object.spec.role in MEMBERS:
        yield Key(event.object.namespace, event.object.spec.cluster)


def _of_secret(event: Event[Any]) -> Iterator[Key]:
    if event.object.name.endswith(KUBECONFIG):
        yield Key(event.object.namespace, event.object.name.removesuffix(KUBECONFIG))

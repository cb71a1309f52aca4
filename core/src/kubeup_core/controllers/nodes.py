"""What is known of the workload clusters: their API, their Nodes, tokens to join with. In memory, one per process: `env.shared(Nodes)`.

Filled by `node.py`, which asks the workloads' APIs in the background; read by the controllers of machines and clusters, which never
wait for it: what is not known yet is None or "", and whoever asked is woken when it is. All of it is found out again after a restart.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..bootstrapper import Taint
from ..kinds import Cluster, Machine
from ..objects import parse_timestamp
from ..runtime.calls import Wakes
from ..runtime.controller import Env, Key
from ..workload import Token, Workload

MACHINE = "kubeup.dev/machine"
"""Annotation of a Node: the uid of the Machine that it stands for. A successor of the same name has another."""

ENOUGH = 600.0
"""Seconds that a bootstrap token must still be valid for to be given out."""

CLOCKS = 2.0
"""Seconds of error when two clocks are compared: both tell whole seconds."""


@dataclass(frozen=True, kw_only=True)
class NodeView:
    """A Node as its API shows it. Two are equal when nothing has changed that anybody here looks at.

    labels, taints    all of them; annotations: only kubeup's own

    ready    condition Ready: None when the kubelet has not been heard of for a while (Unknown)
    since    epoch seconds, by the cluster's own clock, of the last change of `ready`; created: likewise
    machine  uid in the annotation, "" when it carries none (yet)
    pressed  its other conditions that are True and should not be, "DiskPressure (what the kubelet says)"
    version  resourceVersion, as a precondition of changes
    """

    name: str
    uid: str
    ready: bool | None
    reason: str = ""
    message: str = ""
    pressed: tuple[str, ...] = ()
    since: float = 0.0
    created: float = 0.0
    machine: str = ""
    kubelet_version: str = ""
    pod_cidr: str = ""
    boot_id: str = ""
    provider_id: str = ""
    unschedulable: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    version: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True)
class Told:
    """A fact for a condition. ok None: nothing is known, and nothing may be concluded."""

    ok: bool | None
    reason: str
    message: str


@dataclass
class Known:
    """All about one cluster. Written by `node.py` only, under the book's lock.

    listed     awake time of the last complete listing of its Nodes; None: never
    ahead      seconds by which the cluster's clock is ahead of ours
    token      a bootstrap token, and epoch seconds until which it is valid; asking: who waits for one
    of_launch  tokens of launches whose machines join by themselves, by the launch's name; wanted: who waits for which
    gate_round what the last functional check was asked for; waiting: who is told its outcome
    """

    key: Key
    workload: Workload | None = None
    digest: str = ""
    api: Told = field(default_factory=lambda: Told(ok=None, reason="Starting", message="its API has not been asked yet"))
    version: str = ""
    nodes: dict[str, NodeView] = field(default_factory=dict)
    listed: float | None = None
    ahead: float = 0.0
    token: str = ""
    token_until: float = 0.0
    asking: set[Wakes] = field(default_factory=set)
    of_launch: dict[str, Token] = field(default_factory=dict)
    wanted: dict[str, Wakes] = field(default_factory=dict)
    gate: Told = field(default_factory=lambda: Told(ok=None, reason="NotChecked", message="nobody has asked for a check"))
    gate_round: str | None = None
    waiting: set[Wakes] = field(default_factory=set)
    addons: Told = field(default_factory=lambda: Told(ok=None, reason="Waiting", message="the cluster has not begun yet"))


class Nodes:
    """Thread-safe. Built without arguments by `env.shared`; the NodesController attaches it."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._env: Env | None = None
        self._known: dict[str, Known] = {}

    def attach(self, env: Env, controller: str) -> None:
        self._env, self._controller = env, controller

    # -- for the controllers of machines and clusters --------------------------------------------------------------------

    def of(self, machine: Machine) -> NodeView | None:
        """The Node of a machine as it was seen last. None: there is none, or nothing is known: see `health`."""
        known = self._of_machine(machine)
        view = known.nodes.get(machine.name) if known is not None else None
        return view if known is not None and view is not None and stands_for(view, machine, known.ahead) else None

    def health(self, machine: Machine) -> Told:
        """For the condition NodeHealthy. None as long as the API does not answer: a silent API says nothing about a machine."""
        known = self._of_machine(machine)
        if known is None or known.api.ok is not True:
            api = known.api if known is not None else None
            return Told(
                ok=None,
                reason="ApiUnreachable" if api is not None and api.ok is False else "NotKnown",
                message=f"nothing is known of its Node: {api.message if api is not None else 'the cluster has no API yet'}",
            )
        view = self.of(machine)
        if view is None and machine.status.node_ref:
            message = "its Node is gone from the cluster although the machine lives; restart its kubelet, or it is replaced"
            return Told(ok=False, reason="NodeGone", message=message)
        if view is None:
            return Told(ok=False, reason="NotJoined", message="there is no Node of it in the cluster yet")
        pressed = f"; it has {', '.join(view.pressed)}" if view.pressed else ""
        if view.ready:
            return Told(ok=True, reason="KubeletReady", message=f"its Node is Ready{pressed}")
        if view.ready is None:
            return Told(
                ok=False, reason="KubeletSilent", message=f"its kubelet has not been heard of: {view.message or view.reason}"
            )
        why = view.message or view.reason or "no reason"
        return Told(ok=False, reason="NodeNotReady", message=f"its Node is not Ready: {why}{pressed}")

    def api(self, cluster: Cluster) -> Told:
        """Whether the workload's API answers /readyz and lists its Nodes, through the endpoint in its kubeconfig."""
        known = self._known.get(cluster.uid)
        return known.api if known is not None else Told(ok=None, reason="Starting", message="its API has not been asked yet")

    def version(self, cluster: Cluster) -> str:
        """The lowest that runs: of the API server that answered last, "v1.34.1", and of all kubelets. "" before any answered."""
        with self.lock:
            known = self._known.get(cluster.uid)
            if known is None or not known.version:
                return ""
            found = [known.version, *(n.kubelet_version for n in known.nodes.values() if _NUMBERS.match(n.kubelet_version))]
        return min(found, key=_numbers)

    def all(self, cluster: Cluster) -> list[NodeView]:
        """Every Node of the cluster, also those of no machine of ours."""
        with self.lock:
            known = self._known.get(cluster.uid)
            return sorted(known.nodes.values(), key=lambda n: n.name) if known is not None else []

    def workload(self, cluster: Cluster) -> Workload | None:
        """A client of its API; None before there is a kubeconfig. Its methods block: call them by `env.calls.background` only."""
        known = self._known.get(cluster.uid)
        return known.workload if known is not None else None

    def token(self, cluster: Cluster, wake: Wakes) -> str:
        """A bootstrap token that is valid for ten minutes at least. "" while it is being made: `wake` is woken when it is there."""
        env = self._attached()
        with self.lock:
            known = self._known.get(cluster.uid)
            if known is not None and known.token and known.token_until - env.clock.wall() > ENOUGH:
                return known.token
            self._entry(cluster).asking.add(wake)
        env.wake(self._controller, Key(cluster.namespace, cluster.name))
        return ""

    def launch_token(self, cluster: Cluster, launch: str, wake: Wakes) -> Token | None:
        """A bootstrap token of one launch's own, for the user-data of machines that nobody reaches; `until` is by our clock. It is
        taken back when they have all joined. None while it is being made: `wake` is woken when it is there."""
        env = self._attached()
        with self.lock:
            known = self._entry(cluster)
            found = known.of_launch.get(launch)
            if found is not None and found.until - env.clock.wall() > ENOUGH:
                return found
            known.wanted[launch] = wake
        env.wake(self._controller, Key(cluster.namespace, cluster.name))
        return None

    def gate(self, cluster: Cluster, round_: str, wake: Wakes) -> Told:
        """Whether the cluster works, and does not only look well: a Service that is made now gets Endpoints.

        round_  what the check is for, such as the uid of the control plane that joined last: a new one is checked anew, the same one
                is not; one that failed is repeated by itself. `wake` is woken when it is known, and when it changes.
        """
        env = self._attached()
        with self.lock:
            known = self._entry(cluster)
            known.waiting.add(wake)
            if known.gate_round == round_:
                return known.gate
            known.gate_round = round_
            known.gate = Told(ok=None, reason="Checking", message="looks whether a new Service gets Endpoints")
        env.wake(self._controller, Key(cluster.namespace, cluster.name))
        return known.gate

    def addons(self, cluster: Cluster) -> Told:
        """For the condition AddonsReady: the bootstrapper's manifests and those in spec.manifests."""
        known = self._known.get(cluster.uid)
        return known.addons if known is not None else Told(ok=None, reason="Waiting", message="the cluster has not begun yet")

    # -- for node.py -----------------------------------------------------------------------------------------------------

    def entry(self, cluster: Cluster) -> Known:
        with self.lock:
            return self._entry(cluster)

    def forget(self, key: Key) -> list[str]:
        """A Cluster of this name is no more. -> the uids of those that were known."""
        with self.lock:
            gone = [uid for uid, known in self._known.items() if known.key == key]
            for uid in gone:
                workload = self._known.pop(uid).workload
                if workload is not None:
                    workload.close()
        return gone

    def close(self) -> None:
        with self.lock:
            for known in self._known.values():
                if known.workload is not None:
                    known.workload.close()
            self._known.clear()

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _entry(self, cluster: Cluster) -> Known:
        return self._known.setdefault(cluster.uid, Known(key=Key(cluster.namespace, cluster.name)))

    def _of_machine(self, machine: Machine) -> Known | None:
        cluster = self._attached().cache.get(Cluster, machine.spec.cluster, machine.namespace)
        return self._known.get(cluster.uid) if cluster is not None else None

    def _attached(self) -> Env:
        assert self._env is not None, "the NodesController is not there"
        return self._env


_NUMBERS = re.compile(r"v(\d+)\.(\d+)\.(\d+)")


def _numbers(version: str) -> tuple[int, ...]:
    found = _NUMBERS.match(version)
    return tuple(map(int, found.groups())) if found is not None else ()


def stands_for(view: NodeView, machine: Machine, ahead: float) -> bool:
    """Whether it is this machine's Node, and not one that a machine of the same name has left behind. ahead: see Known.

    A predecessor was gone before this machine was made: a Node that was registered, or became Ready, after that is this one's.
    """
    made = machine.metadata.creation_timestamp
    if view.machine == machine.uid or made is None:
        return True
    alive = max(view.created, view.since if view.ready else 0.0)
    return alive - ahead + CLOCKS >= parse_timestamp(made)


def pool_of(uid: str) -> str:
    """Whose threads ask a cluster's API."""
    return f"workload/{uid}"


class Workloads:
    """How a cluster's API is reached: `env.shared(Workloads)`. Tests put another `connect` in."""

    def connect(self, cluster: Cluster, kubeconfig: str) -> Workload:
        """A client; asks nothing yet. Raises login.ConfigError."""
        from ..workload_http import connect  # httpx is loaded where there is a workload cluster, and nowhere else

        return connect(kubeconfig)

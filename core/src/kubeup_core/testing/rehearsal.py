"""Kubernetes clusters in a Harness: a bootstrapper whose steps do nothing, and whose members appear in the workload in memory.

    rehearsal = Rehearsal()
    with Harness(tmp_path, plugins=rehearsal.plugins()) as harness:
        rehearsal.follow(harness)

Steps run in the simulated machines, in virtual time (`harness.cloud.guest.jobs` plans how long each takes, and which fails). A machine
on which INIT or JOIN was done registers as a Node, and from the first INIT on the workload's API answers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from ..bootstrapper import NO_SECRETS, Addon, ClusterPlan, EtcdMember, File, NodePlan, Secrets, Step, Task
from ..errors import InvalidSpec, Unknown
from ..pki import Pair, make_authority, sign_client
from ..plugins import BootstrapperType, Plugins, discover
from ..supplier import Problem

if TYPE_CHECKING:
    from .harness import Harness

NAME = "rehearsal"
_MARK = "# rehearsal: "
_YEAR = 365 * 86400.0


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid")
    fault: str = ""


class Rehearsal:
    """`plugins` has it as the bootstrapper `rehearsal`. INIT and JOIN need what real ones need: keys, an endpoint, a token."""

    def __init__(self) -> None:
        self.joined: list[str] = []
        """Names of the machines on which INIT or JOIN was done, in order; one that did it twice is there twice."""
        self.etcd: dict[str, str] = {}
        """Its members: name -> address. A control plane is one from its INIT or JOIN on, until it is taken out."""
        self.certificates_made: dict[str, float] = {}
        """When a machine made its own last: name of the host -> epoch seconds. They live for a year."""
        self.external = False
        """etcd is somebody else's."""
        self.more: dict[Task, tuple[Step, ...]] = {}
        """Steps that a test adds to a task's."""

    def plugins(self, base: Plugins | None = None) -> Plugins:
        """What is installed, and this."""
        build: Callable[[], Any] = lambda: self  # noqa: E731
        own = BootstrapperType(name=NAME, config=Config, build=build, distribution="kubeup-rehearsal", version="1")
        base = base or discover()
        return replace(base, bootstrappers={**base.bootstrappers, NAME: own})

    def follow(self, harness: Harness) -> None:
        """Nodes of this harness's workloads come from its machines. The API of a cluster is silent until its first INIT."""

        def done(machine: Any, step: Any) -> None:
            line = next((line for line in step.script.splitlines() if line.startswith(_MARK)), None)
            if line is None:
                return
            node = json.loads(line.removeprefix(_MARK))
            self.certificates_made[machine.name] = harness.clock.wall()
            if "renewed" in node:
                return
            if "restored" in node:
                self.etcd = {node["name"]: node["address"]}
                harness.workload(node["cluster"]).fault = ""
                return
            workload = harness.workload(node["cluster"])
            if "upgraded" in node:
                workload.join(node["name"], version=node["upgraded"])
                if node["role"] == "controlPlane":
                    workload.server_version = node["upgraded"]
                return
            workload.fault = "" if workload.fault == "unreachable" else workload.fault
            workload.join(
                node["name"],
                labels=node["labels"],
                taints=tuple(node["taints"]),
                version=node["version"],
                provider_id=node["providerID"],
            )
            self.joined.append(node["name"])
            if node["role"] == "controlPlane":
                self.etcd[node["name"]] = node["address"]

        def etcd_list(machine: Any, script: str, stdin: bytes) -> tuple[int, bytes]:
            return 0, json.dumps([{"id": f"id-{n}", "name": n, "address": a} for n, a in self.etcd.items()]).encode()

        def etcd_remove(machine: Any, script: str, stdin: bytes) -> tuple[int, bytes]:
            self.etcd.pop(script.rpartition(" id-")[2].strip(), None)
            return 0, b""

        def certificates(machine: Any, script: str, stdin: bytes) -> tuple[int, bytes]:
            made = self.certificates_made.get(machine.name)
            if made is None:
                return 1, b"there are none"
            half = _YEAR / 2
            rotated = made + (harness.clock.wall() - made) // half * half  # by the kubelet itself
            text = f"certificate apiserver renewed\n{_leaf(made)}certificate kubelet rotated\n{_leaf(rotated)}"
            return 0, text.encode()

        harness.cloud.guest.on("^rehearsal certificates", certificates)
        harness.cloud.guest.on("^rehearsal etcd list", etcd_list)
        harness.cloud.guest.on("^rehearsal etcd remove", etcd_remove)
        harness.cloud.guest.jobs.watchers.append(done)

    @staticmethod
    def silent(harness: Harness, cluster: str = "demo") -> None:
        """No API yet: it answers from the first INIT on."""
        harness.workload(cluster).fault = "unreachable"

    # -- the contract ----------------------------------------------------------------------------------------------------

    def check(self, cluster: ClusterPlan) -> Sequence[Problem]:
        return ()

    def newest(self) -> str:
        return "v1.34.1"

    def hops(self, have: str, want: str) -> Sequence[str]:
        return () if have == want else (want,)

    def steps(self, task: Task, cluster: ClusterPlan, node: NodePlan, secrets: Secrets = NO_SECRETS) -> Sequence[Step]:
        if cluster.config.get("fault"):
            raise InvalidSpec(str(cluster.config["fault"]), path="spec.kubernetes.config.fault", remedy="leave it out")
        if task is Task.PREPARE:
            steps = [
                Step(name="runtime", title="installs a container runtime", script=":"),
                Step(name="kubelet", title=f"installs kubelet {cluster.version}", script=f": {cluster.version}"),
            ]
        elif task in (Task.INIT, Task.JOIN):
            steps = [self._member(task, cluster, node, secrets)]
        elif task is Task.UPGRADE:
            about = {
                "cluster": cluster.name,
                "name": node.name,
                "role": node.role,
                "upgraded": cluster.version,
                "first": node.first,
            }
            steps = [Step(name=task.value, title="upgrades it", script=f"{_MARK}{json.dumps(about, sort_keys=True)}\n")]
        elif task is Task.RENEW:
            about = {"cluster": cluster.name, "name": node.name, "renewed": True}
            steps = [Step(name="renew", title="renews them", script=f"{_MARK}{json.dumps(about, sort_keys=True)}\n")]
        elif task is Task.RESTORE:
            about = {"cluster": cluster.name, "name": node.name, "address": node.address, "restored": True}
            steps = [Step(name="restore", title="restores it", script=f"{_MARK}{json.dumps(about, sort_keys=True)}\n")]
        else:
            steps = [Step(name=task.value, title=f"does {task.value}", script=f": {cluster.version}")]
        return (*steps, *self.more.get(task, ()))

    def _member(self, task: Task, cluster: ClusterPlan, node: NodePlan, secrets: Secrets) -> Step:
        lacks = [] if cluster.host and cluster.ca else ["the endpoint and the authority"]
        lacks += ["the keys"] if node.role == "controlPlane" and "ca.key" not in secrets.pki else []
        lacks += ["a token"] if task is Task.JOIN and not secrets.token else []
        lacks += ["no keys, which a worker is never given"] if node.role == "worker" and secrets.pki else []
        if lacks:
            raise InvalidSpec(f"{task.value} of {node.name} needs {', '.join(lacks)}")
        about = {
            "cluster": cluster.name,
            "name": node.name,
            "role": node.role,
            "address": node.address,
            "version": cluster.version,
            "labels": dict(node.labels),
            "taints": [{"key": t.key, "value": t.value, "effect": t.effect} for t in node.taints],
            "providerID": node.provider_id,
        }
        files = [
            File(path=f"/etc/kubernetes/pki/{name}", content=pem.encode(), secret=True) for name, pem in secrets.pki.items()
        ]
        if secrets.token:
            files.append(File(path="/etc/kubernetes/token", content=secrets.token.encode(), secret=True))
        return Step(
            name=task.value,
            title="makes it a member of the cluster",
            script=f"{_MARK}{json.dumps(about, sort_keys=True)}\n",
            files=tuple(files),
            remedy="look at the kubelet's log",
        )

    def addons(self, cluster: ClusterPlan) -> Sequence[Addon]:
        return ()

    def certificates(self, cluster: ClusterPlan) -> str:
        return "rehearsal certificates"

    def etcd_list(self, cluster: ClusterPlan) -> str:
        return "" if self.external else "rehearsal etcd list"

    def etcd_members(self, output: bytes) -> Sequence[EtcdMember]:
        try:
            return [EtcdMember(id=m["id"], name=m["name"], address=m["address"]) for m in json.loads(output)]
        except (ValueError, TypeError, KeyError) as error:
            raise Unknown("this is no list of members") from error

    def etcd_remove(self, member: EtcdMember) -> str:
        return f"rehearsal etcd remove {member.id}"


@lru_cache(maxsize=8)
def _signer(years: int) -> Pair:
    return make_authority("rehearsal", years * _YEAR)


@lru_cache(maxsize=64)
def _leaf(begins: float) -> str:
    """A certificate of a year, in PEM."""
    return sign_client(_signer(int(begins // _YEAR)), "rehearsal", (), begins, _YEAR).certificate

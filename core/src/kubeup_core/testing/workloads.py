"""Workload clusters in memory, for the Harness: a kube-apiserver as far as `workload.Workload` asks, and the controllers behind it.

A Link, so that all of `workload.py` runs as it does against a real API; what a real one answers is tested where one can be started.
Pods end, are made anew elsewhere and Services get Endpoints by the Harness' clock, whenever somebody asks.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from ..kinds import Cluster
from ..objects import parse_timestamp, timestamp
from ..runtime.clock import FakeClock
from ..statuses import AlreadyExists, Cause, Conflict, NotFound, TooManyRequests, Unauthorized, Unavailable
from ..workload import Json, Unreachable, Workload

_OBJECT = re.compile(r"(?P<all>/(?:api/v1|apis/[^/]+/[^/]+))(?:/namespaces/(?P<ns>[^/]+))?/(?P<plural>[a-z]+)/(?P<name>[^/]+)")
_PLURALS = {
    "v1": {
        "Pod": "pods",
        "Service": "services",
        "ConfigMap": "configmaps",
        "Secret": "secrets",
        "ServiceAccount": "serviceaccounts",
    },
    "apps/v1": {"Deployment": "deployments", "DaemonSet": "daemonsets", "StatefulSet": "statefulsets"},
    "rbac.authorization.k8s.io/v1": {"Role": "roles", "RoleBinding": "rolebindings"},
}
_CLUSTER_WIDE = {
    "v1": {"Namespace": "namespaces", "Node": "nodes", "PersistentVolume": "persistentvolumes"},
    "rbac.authorization.k8s.io/v1": {"ClusterRole": "clusterroles", "ClusterRoleBinding": "clusterrolebindings"},
}


class FakeWorkload:
    """One cluster. Outlives the process of a Harness, as a real one would.

    fault             "" | "unreachable" | "denied" | "notReady": what every request gets
    controllers_work  False: what is made is stored, and nothing comes of it
    ahead             seconds by which its clock is ahead
    """

    def __init__(self, clock: FakeClock, version: str = "v1.34.1") -> None:
        self.clock = clock
        self.server_version = version
        self.fault = ""
        self.controllers_work = True
        self.ahead = 0.0
        self.requests: list[str] = []
        """Those that change something: "PATCH /api/v1/nodes/a"."""
        self._objects: dict[str, Json] = {}
        self._numbers = itertools.count(1)
        self._budgets: dict[str, tuple[str, Mapping[str, str], int]] = {}

    # -- what happens in the cluster -------------------------------------------------------------------------------------

    def join(
        self,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        taints: tuple[Mapping[str, str], ...] = (),
        version: str = "",
        provider_id: str = "",
        ready: bool = True,
    ) -> None:
        """A kubelet registers. A Node of this name that is there stays what it is, as with a real kubelet."""
        path = f"/api/v1/nodes/{name}"
        if path not in self._objects:
            metadata = {"name": name, "labels": {"kubernetes.io/hostname": name, **(labels or {})}}
            spec: Json = {"taints": [dict(t) for t in taints]} if taints else {}
            if provider_id:
                spec["providerID"] = provider_id
            self._store(path, {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec, "status": {}})
        info = {"kubeletVersion": version or self.server_version, "bootID": f"boot-{next(self._numbers)}"}
        self._objects[path]["status"]["nodeInfo"] = info
        self.condition(name, "True" if ready else "False", "KubeletReady" if ready else "KubeletNotReady")

    def condition(self, name: str, status: str, reason: str, message: str = "", type_: str = "Ready") -> None:
        """Its Node's condition: "True", "False", or "Unknown" when the kubelet is silent."""
        node = self._objects[f"/api/v1/nodes/{name}"]
        now = timestamp(self._now())
        said = {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": now}
        others = [c for c in node["status"].get("conditions", ()) if c["type"] != type_]
        node["status"]["conditions"] = sorted([*others, said], key=lambda c: bool(c["type"] != "Ready"))
        self._touch(node)

    def silence(self, name: str) -> None:
        self.condition(name, "Unknown", "NodeStatusUnknown", "Kubelet stopped posting node status.")

    def pod(
        self,
        name: str,
        node: str,
        *,
        namespace: str = "default",
        owner: str = "ReplicaSet",
        labels: Mapping[str, str] | None = None,
        phase: str = "Running",
        grace: float = 0.0,
        mirror: bool = False,
    ) -> None:
        """owner: kind of its controller, "" for none. grace: seconds that it takes to end."""
        metadata: Json = {"name": name, "namespace": namespace, "labels": dict(labels or {})}
        if owner:
            metadata["ownerReferences"] = [
                {"kind": owner, "name": "owner", "uid": "o", "apiVersion": "apps/v1", "controller": True}
            ]
        if mirror:
            metadata["annotations"] = {"kubernetes.io/config.mirror": "x"}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "status": {"phase": phase}}
        self._store(f"/api/v1/namespaces/{namespace}/pods/{name}", {**body, "spec": {"nodeName": node, "grace": grace}})

    def budget(self, name: str, labels: Mapping[str, str], min_available: int, *, namespace: str = "default") -> None:
        """A PodDisruptionBudget."""
        self._budgets[f"{namespace}/{name}"] = (namespace, dict(labels), min_available)

    def pods(self, node: str | None = None) -> list[str]:
        """Names of the pods on a Node; without one, of all."""
        self._pass()
        found = (o for path, o in self._objects.items() if "/pods/" in path)
        return sorted(o["metadata"]["name"] for o in found if node is None or o["spec"].get("nodeName") == node)

    def node(self, name: str) -> Json:
        return self._objects[f"/api/v1/nodes/{name}"]

    def nodes(self) -> list[str]:
        return sorted(o["metadata"]["name"] for path, o in self._objects.items() if path.startswith("/api/v1/nodes/"))

    def found(self, path: str) -> Json | None:
        return self._objects.get(path)

    # -- the Link --------------------------------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: Any = None, content_type: str = ""
    ) -> Any:
        self._refuse(path)
        if method != "GET":
            self.requests.append(f"{method} {path}")
        self._pass()
        if method == "GET":
            return self._get(path, params or {})
        if path.endswith("/eviction"):
            return self._evict(path.removesuffix("/eviction"), body)
        if method == "POST":
            return self._post(path, body)
        if method == "DELETE":
            return self._delete(path, body or {})
        return self._patch(path, body, create="apply" in content_type)

    def now(self) -> float:
        return self._now()

    def close(self) -> None:
        return None

    def _refuse(self, path: str) -> None:
        match self.fault:
            case "unreachable":
                raise Unreachable("https://fake:6443 has not answered in time (ConnectTimeout)")
            case "denied":
                raise Unauthorized("Unauthorized")
            case "notReady" if path == "/readyz":
                raise Unavailable("etcd failed: reason withheld")

    def _get(self, path: str, params: Mapping[str, str]) -> Any:
        if path == "/readyz":
            return "ok"
        if path == "/version":
            return {"gitVersion": self.server_version}
        if path == "/api/v1" or re.fullmatch(r"/apis/[^/]+/[^/]+", path):
            return self._discovery(path.removeprefix("/apis/").removeprefix("/api/"))
        if path in self._objects:
            return deepcopy(self._objects[path])
        if _OBJECT.fullmatch(path) and not path.endswith(("/namespaces",)) and self._collection(path) is None:
            raise NotFound(f"{path} not found")
        return {"metadata": {}, "items": [deepcopy(o) for o in self._list(path, params)]}

    def _list(self, path: str, params: Mapping[str, str]) -> Iterator[Json]:
        root, _, plural = path.rpartition("/")
        inside = re.compile(rf"{re.escape(root)}(/namespaces/[^/]+)?/{plural}/[^/]+")
        node = params.get("fieldSelector", "").removeprefix("spec.nodeName=")
        label = params.get("labelSelector", "")
        for name, obj in sorted(self._objects.items()):
            if not inside.fullmatch(name) or (node and obj["spec"].get("nodeName") != node):
                continue
            if not label or label in (obj["metadata"].get("labels") or {}):
                yield obj

    @staticmethod
    def _collection(path: str) -> str | None:
        """Whether a path that looks like an object's is a namespace's collection: /api/v1/namespaces/NS/pods."""
        return path if re.fullmatch(r"/(?:api/v1|apis/[^/]+/[^/]+)/namespaces/[^/]+/[a-z]+", path) else None

    def _discovery(self, version: str) -> Json:
        served = [(kind, plural, True) for kind, plural in _PLURALS.get(version, {}).items()]
        served += [(kind, plural, False) for kind, plural in _CLUSTER_WIDE.get(version, {}).items()]
        if not served:
            raise NotFound("the server could not find the requested resource")
        return {"resources": [{"kind": kind, "name": plural, "namespaced": inside} for kind, plural, inside in served]}

    def _post(self, path: str, body: Json) -> Json:
        full = f"{path}/{body['metadata']['name']}"
        if full in self._objects:
            raise AlreadyExists(f"{full} already exists")
        namespace = re.search(r"/namespaces/([^/]+)/", full)
        metadata = {**body["metadata"], **({"namespace": namespace[1]} if namespace else {})}
        return deepcopy(self._store(full, {**deepcopy(body), "metadata": metadata}))

    def _patch(self, path: str, body: Json, *, create: bool) -> Json:
        current = self._objects.get(path)
        if current is None:
            if not create:
                raise NotFound(f"{path} not found")
            return deepcopy(self._store(path, deepcopy(body)))
        expected = body.get("metadata", {}).get("resourceVersion")
        if expected is not None and expected != current["metadata"]["resourceVersion"]:
            raise Conflict("the object has been modified; please apply your changes to the latest version and try again")
        _merge(current, body)
        self._touch(current)
        return deepcopy(current)

    def _delete(self, path: str, options: Json) -> Json:
        current = self._objects.get(path)
        if current is None:
            raise NotFound(f"{path} not found")
        uid = options.get("preconditions", {}).get("uid")
        if uid is not None and uid != current["metadata"]["uid"]:
            raise Conflict(f"Precondition failed: UID in precondition: {uid}, UID in object meta: {current['metadata']['uid']}")
        del self._objects[path]
        return {}

    def _evict(self, path: str, body: Json) -> Json:
        pod = self._objects.get(path)
        if pod is None:
            raise NotFound(f"{path} not found")
        for name, (namespace, labels, needed) in self._budgets.items():
            if namespace != pod["metadata"]["namespace"] or not labels.items() <= pod["metadata"]["labels"].items():
                continue
            healthy = len(list(self._healthy(namespace, labels)))
            if healthy - 1 < needed:
                text = f"The disruption budget {name.partition('/')[2]} needs {needed} healthy pods and has {healthy} currently"
                raise TooManyRequests(
                    "Cannot evict pod as it would violate the pod's disruption budget.",
                    causes=[Cause("DisruptionBudget", text)],
                )
        pod["metadata"].setdefault("deletionTimestamp", timestamp(self._now() + pod["spec"].get("grace", 0)))
        self._touch(pod)
        self._pass()
        return {}

    # -- controllers and kubelets ----------------------------------------------------------------------------------------

    def _pass(self) -> None:
        """What has happened since somebody asked last."""
        for path, pod in list(self._objects.items()):
            end = pod["metadata"].get("deletionTimestamp") if "/pods/" in path else None
            if end is None or parse_timestamp(end) > self._now() or self._silent(pod["spec"].get("nodeName")):
                continue
            del self._objects[path]
            if self.controllers_work and any(o["kind"] == "ReplicaSet" for o in pod["metadata"].get("ownerReferences", ())):
                self._elsewhere(pod)
        for path, service in list(self._objects.items()):
            if "/services/" in path and self.controllers_work and service["spec"].get("selector"):
                endpoints = path.replace("/services/", "/endpoints/")
                if endpoints not in self._objects:
                    subsets = [{"addresses": [{"ip": "192.0.2.1"}]}]
                    self._store(endpoints, {"metadata": {"name": service["metadata"]["name"]}, "subsets": subsets})

    def _elsewhere(self, pod: Json) -> None:
        free = [n for n in self.nodes() if not self._silent(n) and not self.node(n)["spec"].get("unschedulable")]
        metadata = pod["metadata"]
        self.pod(
            f"{metadata['name'].partition('.')[0]}.{next(self._numbers)}",
            free[0] if free else "",
            namespace=metadata["namespace"],
            labels=metadata["labels"],
            phase="Running" if free else "Pending",
            grace=pod["spec"].get("grace", 0),
        )

    def _silent(self, node: str | None) -> bool:
        found = self._objects.get(f"/api/v1/nodes/{node}")
        return found is not None and found["status"]["conditions"][0]["status"] == "Unknown"

    def _healthy(self, namespace: str, labels: Mapping[str, str]) -> Iterator[Json]:
        inside = f"/api/v1/namespaces/{namespace}/pods/"
        for pod in [pod for path, pod in self._objects.items() if path.startswith(inside)]:
            matches = labels.items() <= pod["metadata"]["labels"].items()
            if matches and pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]:
                yield pod

    # -- storing ---------------------------------------------------------------------------------------------------------

    def _store(self, path: str, obj: Json) -> Json:
        metadata = obj["metadata"]
        metadata["uid"] = f"uid-{next(self._numbers)}"
        metadata["creationTimestamp"] = timestamp(self._now())
        self._touch(obj)
        self._objects[path] = obj
        return obj

    def _touch(self, obj: Json) -> None:
        obj["metadata"]["resourceVersion"] = str(next(self._numbers))

    def _now(self) -> float:
        return self.clock.wall() + self.ahead


class FakeWorkloads:
    """In the place of `controllers.nodes.Workloads`: `clusters` holds them by name; one that is asked for is there."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.clusters: dict[str, FakeWorkload] = {}

    def __getitem__(self, cluster: str) -> FakeWorkload:
        return self.clusters.setdefault(cluster, FakeWorkload(self.clock))

    def connect(self, cluster: Cluster, kubeconfig: str) -> Workload:
        return Workload(self[cluster.name])


def _merge(target: Json, patch: Json) -> None:
    """RFC 7386, in place."""
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        elif isinstance(value, dict) and isinstance(target.get(name), dict):
            _merge(target[name], value)
        else:
            target[name] = {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value

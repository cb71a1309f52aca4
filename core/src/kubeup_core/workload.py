"""The API of a workload cluster, as far as kubeup uses it: Nodes, pods, eviction, tokens, server-side apply, a functional check.

Used by `controllers/node.py`, `drain.py` and `manifests.py`, in threads (`env.calls.background`): every method here blocks, for
some seconds at most. How requests get there is the Link: `workload_http.py`, or an API in memory (`testing/rehearsal.py`).

Raises StatusError for what the API answered (Unauthorized and Forbidden: it does not let us in), Unreachable when nobody did.
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import yaml

from .objects import timestamp
from .statuses import BadRequest, NotFound, Unavailable

MANAGER = "kubeup"
PAGE = "500"
TOKEN_SECONDS = 1800.0
GATE_LABEL = "kubeup.dev/gate"

MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
Json = dict[str, Any]


class Unreachable(Unavailable):
    """Nobody answered: no connection, none in time, or one that cannot be trusted."""


class Link(Protocol):
    """How requests get to the API. Thread-safe."""

    def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: Any = None, content_type: str = ""
    ) -> Any:
        """The JSON of the answer (its text where it is none). Raises StatusError, Unreachable."""
        ...

    def now(self) -> float:
        """Epoch seconds by the server's own clock, as its last answer told it."""
        ...

    def close(self) -> None: ...


class Token(NamedTuple):
    """A bootstrap token; until: epoch seconds by the server's clock."""

    value: str
    until: float


@dataclass(frozen=True)
class Pod:
    """What a drain has to know of a pod. controller: kind of its controlling owner. mirror: a static pod's image in the API."""

    namespace: str
    name: str
    uid: str
    phase: str
    controller: str = ""
    mirror: bool = False
    leaving: bool = False

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Workload:
    """Thread-safe."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._resources: dict[str, dict[str, Json]] = {}
        self._version = ""

    def close(self) -> None:
        self._link.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Any:
        """Any request for JSON, for what has no method here."""
        return self._link.request(method, path, params=params, body=body, content_type=content_type)

    def ahead(self, wall: float) -> float:
        """Seconds by which the server's clock is ahead of ours."""
        return self._link.now() - wall

    # -- the API itself --------------------------------------------------------------------------------------------------

    def readyz(self) -> None:
        """Raises Unavailable while the API server is not ready to serve."""
        self.request("GET", "/readyz")

    def version(self) -> str:
        """What answers: "v1.34.1". One of several control planes: they may differ during an upgrade."""
        self._version = str(self.request("GET", "/version")["gitVersion"])
        return self._version

    # -- Nodes -----------------------------------------------------------------------------------------------------------

    def nodes(self) -> list[Json]:
        return list(self.items("/api/v1/nodes"))

    def node(self, name: str) -> Json:
        found: Json = self.request("GET", f"/api/v1/nodes/{name}")
        return found

    def patch_node(self, name: str, patch: Json) -> Json:
        """A JSON merge patch. With metadata.resourceVersion in it: Conflict when the Node has changed since."""
        patched: Json = self.request("PATCH", f"/api/v1/nodes/{name}", params=_FIELDS, body=patch, content_type=MERGE)
        return patched

    def cordon(self, name: str) -> None:
        """No new pods. Succeeds when there is no such Node."""
        try:
            self.patch_node(name, {"spec": {"unschedulable": True}})
        except NotFound:
            return

    def uncordon(self, name: str) -> None:
        self.patch_node(name, {"spec": {"unschedulable": None}})

    def delete_node(self, name: str, uid: str = "") -> None:
        """Succeeds when it is gone. With a uid: another Node of this name stays (Conflict)."""
        self._delete(f"/api/v1/nodes/{name}", uid)

    # -- pods ------------------------------------------------------------------------------------------------------------

    def pods_on(self, node: str) -> list[Pod]:
        return [_pod(item) for item in self.items("/api/v1/pods", {"fieldSelector": f"spec.nodeName={node}"})]

    def evict(self, pod: Pod) -> None:
        """Ask for its eviction; succeeds when it is gone, or another one of its name is there.

        Raises TooManyRequests when a disruption budget forbids it now: the causes name it.
        """
        version = "policy/v1" if _minor(self._version or self.version()) >= (1, 22) else "policy/v1beta1"
        body = {
            "apiVersion": version,
            "kind": "Eviction",
            "metadata": {"name": pod.name, "namespace": pod.namespace},
            "deleteOptions": {"preconditions": {"uid": pod.uid}},
        }
        try:
            self.request("POST", f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}/eviction", body=body)
        except NotFound:
            return

    # -- what a workload has made at the provider ------------------------------------------------------------------------

    def load_balancers(self) -> list[Json]:
        """Services of type LoadBalancer, of all namespaces."""
        return [item for item in self.items("/api/v1/services") if item.get("spec", {}).get("type") == "LoadBalancer"]

    def volumes(self) -> list[Json]:
        """PersistentVolumes."""
        return list(self.items("/api/v1/persistentvolumes"))

    # -- joining ---------------------------------------------------------------------------------------------------------

    def token_create(self, seconds: float = TOKEN_SECONDS) -> Token:
        """A new bootstrap token to join with: a Secret in kube-system, which the cluster removes when it has expired.

        The time is the server's: a token must not be over at once because clocks differ.
        """
        token_id, secret = _letters(6), _letters(16)
        until = self._link.now() + seconds
        data = {
            "description": "made by kubeup for machines that join",
            "token-id": token_id,
            "token-secret": secret,
            "expiration": timestamp(until),
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
        }
        metadata = {"name": f"bootstrap-token-{token_id}", "namespace": "kube-system"}
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "bootstrap.kubernetes.io/token",
            "metadata": metadata,
            "stringData": data,
        }
        self.request("POST", "/api/v1/namespaces/kube-system/secrets", params=_FIELDS, body=body)
        return Token(f"{token_id}.{secret}", until)

    def token_delete(self, token: str) -> None:
        """Nobody joins with it any more. Succeeds when it is gone."""
        self._delete(f"/api/v1/namespaces/kube-system/secrets/bootstrap-token-{token.partition('.')[0]}")

    # -- manifests -------------------------------------------------------------------------------------------------------

    def apply(self, manifest: str) -> list[str]:
        """Server-side apply of every document, in order. -> what was applied, as "Kind namespace/name".

        Conflicts with other managers are won: what is declared here holds. Raises BadRequest for what is no manifest, NotFound for a
        kind that the cluster does not serve (yet: its definition may have been applied a moment ago).
        """
        return [self._apply(document) for document in documents(manifest)]

    def _apply(self, document: Json) -> str:
        metadata = document["metadata"]
        resource = self._resource(document["apiVersion"], document["kind"])
        namespace = (metadata.get("namespace") or "default") if resource["namespaced"] else ""
        inside = f"/namespaces/{namespace}" if namespace else ""
        path = f"{_root(document['apiVersion'])}{inside}/{resource['name']}/{metadata['name']}"
        self.request("PATCH", path, params={**_FIELDS, "force": "true"}, body=document, content_type=APPLY)
        return f"{document['kind']} {namespace + '/' if namespace else ''}{metadata['name']}"

    def _resource(self, api_version: str, kind: str) -> Json:
        """Plural and scope of a kind, as discovery tells; asked again for a kind that was not there before."""
        known = self._resources.get(api_version, {})
        if kind not in known:
            try:
                served = self.request("GET", _root(api_version))["resources"]
            except NotFound:
                served = []
            known = {r["kind"]: r for r in served if "/" not in r["name"]}
            self._resources[api_version] = known
        if kind not in known:
            raise NotFound(f"the cluster does not serve {kind} of {api_version}")
        return known[kind]

    # -- whether it works ------------------------------------------------------------------------------------------------

    def gate_start(self) -> str:
        """Make a Service over the API servers' own pods. -> its name. Those of checks that were never ended go first."""
        path = "/api/v1/namespaces/kube-system/services"
        for old in self.items(path, {"labelSelector": GATE_LABEL}):
            self.gate_end(old["metadata"]["name"])
        name = f"kubeup-gate-{_letters(6)}"
        spec = {"selector": {"component": "kube-apiserver"}, "ports": [{"port": 443, "targetPort": 6443}]}
        metadata = {"name": name, "labels": {GATE_LABEL: ""}}
        self.request(
            "POST", path, params=_FIELDS, body={"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}
        )
        return name

    def gate_look(self, name: str) -> bool:
        """Whether the Service has got Endpoints: the controllers see what the API servers are told. Addresses that are not ready
        count: in a new cluster the kubelet says of its static pods only after a minute or so that they are."""
        try:
            found = self.request("GET", f"/api/v1/namespaces/kube-system/endpoints/{name}")
        except NotFound:
            return False
        return any(subset.get("addresses") or subset.get("notReadyAddresses") for subset in found.get("subsets") or ())

    def gate_end(self, name: str) -> None:
        self._delete(f"/api/v1/namespaces/kube-system/services/{name}")

    # -- below -----------------------------------------------------------------------------------------------------------

    def items(self, path: str, params: Mapping[str, str] | None = None) -> Iterator[Json]:
        """All objects of a collection, page by page."""
        query = {"limit": PAGE, **(params or {})}
        while True:
            page = self.request("GET", path, params=query)
            yield from page.get("items") or ()
            token = page.get("metadata", {}).get("continue")
            if not token:
                return
            query = {**query, "continue": token}

    def _delete(self, path: str, uid: str = "") -> None:
        options: Json = {"kind": "DeleteOptions", "apiVersion": "v1"}
        if uid:
            options["preconditions"] = {"uid": uid}
        try:
            self.request("DELETE", path, body=options)
        except NotFound:
            return


def documents(manifest: str) -> Sequence[Json]:
    """The objects of a YAML text, Lists taken apart. Raises BadRequest, naming the document."""
    try:
        loaded = [d for d in yaml.load_all(manifest, Loader=_LOADER) if d is not None]
    except yaml.YAMLError as error:
        raise BadRequest(f"it is not YAML: {' '.join(str(error).split())}") from error
    found: list[Json] = []
    for index, document in enumerate(loaded, 1):
        items = document.get("items") if isinstance(document, dict) and str(document.get("kind")).endswith("List") else None
        for item in items if items is not None else [document]:
            if not isinstance(item, dict) or not (item.get("apiVersion") and item.get("kind")):
                raise BadRequest(f"document {index} is not an object of Kubernetes: apiVersion and kind are missing")
            if not isinstance(item.get("metadata"), dict) or not item["metadata"].get("name"):
                raise BadRequest(f"document {index}, a {item['kind']}, has no metadata.name")
            found.append(item)
    return found


_FIELDS = {"fieldManager": MANAGER}
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _pod(item: Json) -> Pod:
    metadata = item["metadata"]
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        phase=item.get("status", {}).get("phase", ""),
        controller=next((o["kind"] for o in metadata.get("ownerReferences") or () if o.get("controller")), ""),
        mirror="kubernetes.io/config.mirror" in (metadata.get("annotations") or {}),
        leaving="deletionTimestamp" in metadata,
    )


def _root(api_version: str) -> str:
    return f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"


def _minor(version: str) -> tuple[int, int]:
    match = re.match(r"v(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _letters(count: int) -> str:
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(count))

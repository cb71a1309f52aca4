"""What a Kubernetes cluster has made at its provider by itself, before the cluster is deleted: balancers of Services, dynamic volumes.

A part of the Cluster controller. They are made by controllers inside the cluster, carry none of kubeup's marks, and nobody deletes them
once the cluster is gone; so the cluster is asked to, as long as its API answers. `spec.onDelete` says what is kept.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from ..errors import SupplierError
from ..kinds import Cluster, Machine
from ..kinds.machine import ABANDON
from ..runtime.calls import InProgress
from ..runtime.controller import Env, Key
from ..statuses import NotFound, StatusError
from ..workload import Json, Workload
from .nodes import Nodes, pool_of
from .troubles import SOON, Trouble, busy

PROVISIONED = "pv.kubernetes.io/provisioned-by"
"""Annotation of volumes that were made for a claim; others were put there by a person, and are that person's."""

SHOWN = 3


class Leftovers:
    def __init__(self, env: Env, controller: str) -> None:
        self.env = env
        self.controller = controller
        self.nodes = env.shared(Nodes)
        self._over: set[str] = set()

    def step(self, cluster: Cluster, key: Key) -> Trouble | None:
        """What is still being deleted; None when nothing is, or when it cannot be asked for."""
        spec = cluster.spec.on_delete
        balancers, volumes = spec.workload_load_balancers == "Delete", spec.workload_volumes == "Delete"
        if (
            cluster.uid in self._over
            or not (balancers or volumes)
            or ABANDON in cluster.annotations
            or not self._lives(cluster)
        ):
            return None
        api, workload = self.nodes.api(cluster), self.nodes.workload(cluster)
        if api.ok is None and api.reason != "NoKubeconfig":
            return Trouble(reason="Deleting", message=f"asks the cluster what it has made: {api.message}", after=SOON)
        if not api.ok or workload is None:
            self._skip(cluster, api.message)
            return None
        try:
            left = self.env.calls.background(
                pool_of(cluster.uid),
                f"the API of {cluster.name}",
                "delete what it made",
                partial(clear, workload, balancers=balancers, volumes=volumes),
                wake=(self.controller, key),
            )
        except InProgress as running:
            return busy(running.after)
        except (StatusError, SupplierError) as error:
            return Trouble(reason="Deleting", message=f"asks the cluster to delete what it has made: {error}", after=SOON)
        if not left:
            self._over.add(cluster.uid)
            return None
        names = ", ".join(left[:SHOWN]) + (f" and {len(left) - SHOWN} more" if len(left) > SHOWN else "")
        message = (
            f"the cluster deletes what it has made at its provider: {names}; to keep that instead, set Retain in spec.onDelete"
        )
        return Trouble(reason="DeletingWorkloadResources", message=message, after=SOON)

    def forget(self, uid: str) -> None:
        self._over.discard(uid)

    def _lives(self, cluster: Cluster) -> bool:
        """It has begun, and there is a control plane that could answer."""
        status = cluster.status.control_plane
        machines = self.env.cache.by(Machine, "cluster", f"{cluster.namespace}/{cluster.name}")
        alive = any(m.spec.role == "controlPlane" and not m.deleting for m in machines)
        return status is not None and status.initialized and alive

    def _skip(self, cluster: Cluster, why: str) -> None:
        message = (
            f"its API does not answer ({why}), so balancers and volumes that the cluster has made by itself, if there are any, stay at "
            "the provider; look there"
        )
        self.env.events.event(cluster, "Warning", "WorkloadResourcesLeft", message)
        self._over.add(cluster.uid)


def clear(workload: Workload, *, balancers: bool, volumes: bool) -> list[str]:
    """Ask for the deletion of all of it. -> what is there still. Blocks: for a thread."""
    left: list[str] = []
    for service in workload.load_balancers() if balancers else ():
        metadata = service["metadata"]
        _delete(workload, service, f"/api/v1/namespaces/{metadata['namespace']}/services/{metadata['name']}")
        left.append(f"Service {metadata['namespace']}/{metadata['name']}")
    for volume in workload.volumes() if volumes else ():
        claim = volume.get("spec", {}).get("claimRef")
        made = PROVISIONED in (volume["metadata"].get("annotations") or {})
        if made and claim and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
            _release(workload, claim["namespace"], claim["name"])
            left.append(f"PersistentVolume {volume['metadata']['name']}")
    return left


def _release(workload: Workload, namespace: str, claim: str) -> None:
    """Its provisioner deletes a volume when nobody claims it, and a claim goes when no pod uses it. Pods that their controllers
    make anew are not scheduled: their claim is on its way out."""
    inside = f"/api/v1/namespaces/{namespace}"
    with suppress(NotFound):
        path = f"{inside}/persistentvolumeclaims/{claim}"
        _delete(workload, workload.request("GET", path), path)
    for pod in workload.items(f"{inside}/pods"):
        mounts = (v.get("persistentVolumeClaim") or {} for v in pod.get("spec", {}).get("volumes") or ())
        if any(mount.get("claimName") == claim for mount in mounts):
            _delete(workload, pod, f"{inside}/pods/{pod['metadata']['name']}")


def _delete(workload: Workload, item: Json, path: str) -> None:
    if "deletionTimestamp" in item["metadata"]:
        return
    with suppress(NotFound):
        workload.request("DELETE", path, body={"kind": "DeleteOptions", "apiVersion": "v1"})

"""What the status of a Cluster says as a whole. Pure, but for what is passed in; called by `cluster.py`."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..kinds import Cluster
from ..kinds.cluster import ClusterStatus
from ..plugins import install_line
from .network import CREATING, DELETING, READY, Members
from .network_rules import reachable
from .troubles import Trouble


def cluster_blocks(
    cluster: Cluster, bootstrappers: Collection[str] = (), status: ClusterStatus | None = None
) -> Trouble | None:
    """Why no machine may be created for this cluster now; None when nothing speaks against it. Pure.

    For the pool controller: ask before creating Machines, and show the reason as a condition of the pool. `bootstrappers` are the
    installed ones; without its bootstrapper a machine of a Kubernetes cluster could never join, and would only cost money.
    Scaling down and deleting go on whatever this says. (Whether a pool's machines could be reached is `network_rules.reachable`.)
    """
    if cluster.deleting:
        message = f"Cluster {cluster.name} is being deleted, and with it everything that belongs to it"
        return Trouble(reason="ClusterDeleting", message=message)
    kubernetes = cluster.spec.kubernetes
    if kubernetes is not None and kubernetes.bootstrapper not in bootstrappers:
        message = (
            f"no plugin for the bootstrapper {kubernetes.bootstrapper} is installed, so machines could never become nodes and none "
            f"are made; install it: {install_line(f'kubeup-{kubernetes.bootstrapper}')}, or leave out spec.kubernetes for plain "
            "machines"
        )
        return Trouble(reason="BootstrapperMissing", message=message, stalled=True)
    valid = (status or cluster.status).condition("KubernetesValid")
    if kubernetes is not None and valid is not None and valid.status != "True":
        return Trouble(reason=valid.reason, message=valid.message, stalled=True)
    if cluster.spec.paused:
        message = f"nothing is changed at any place; set spec.paused: false in Cluster {cluster.name} to go on"
        return Trouble(reason="Paused", message=message)
    return None


def describe(
    cluster: Cluster,
    status: ClusterStatus,
    members: Members,
    troubles: Mapping[str, Trouble],
    now: float,
    bootstrappers: Collection[str] = (),
    kubernetes: Trouble | None = None,
) -> Trouble:
    """Fill counts and NetworkReady. -> where the cluster is as a whole, for `troubles.stand`.

    kubernetes  what the cluster itself waits for, beyond its machines
    """
    count(status, members)
    _networks(cluster, status, troubles, now)
    return (
        cluster_blocks(cluster, bootstrappers, status)
        or next((found for _, found in sorted(troubles.items())), None)
        or _apart(cluster, members)
        or _unfinished(status)
        or kubernetes
        or _machines(cluster, status, members)
    )


def count(status: ClusterStatus, members: Members) -> None:
    status.machines.total = len(members.machines)
    status.machines.ready = sum(1 for m in members.machines if m.status.is_true("Ready") and not m.deleting)


def _apart(cluster: Cluster, members: Members) -> Trouble | None:
    for pool in sorted(members.pools, key=lambda p: p.name):
        problem = reachable(cluster, pool)
        if problem is not None:
            return Trouble(reason="Unreachable", message=f"{problem.message}; {problem.remedy}", stalled=True)
    return None


def _unfinished(status: ClusterStatus) -> Trouble | None:
    condition = status.condition("NetworkReady")
    if condition is None or condition.status == "True":
        return None
    return Trouble(reason="NetworkNotReady", message=condition.message)


def _machines(cluster: Cluster, status: ClusterStatus, members: Members) -> Trouble:
    wanted = sum(p.spec.replicas for p in members.pools if not p.deleting)
    wanted += sum(1 for m in members.machines if not m.spec.pool and not m.deleting)
    text = f"{status.machines.ready} of {wanted} machines are Ready"
    if not members.pools and not members.machines:
        message = f"nothing to do; create a NodePool with spec.cluster: {cluster.name} for machines"
        return Trouble(reason="NoMachines", message=message)
    if status.machines.ready < wanted:
        return Trouble(
            reason="MachinesNotReady", message=f"{text}; kubectl get machines -n {cluster.namespace} shows the others"
        )
    return Trouble(reason="Ready", message=text)


def _networks(cluster: Cluster, status: ClusterStatus, troubles: Mapping[str, Trouble], now: float) -> None:
    by_state: dict[str, list[str]] = {}
    for record in status.networks:
        by_state.setdefault(record.state, []).append(record.provider)
    making, removing = by_state.pop(CREATING, []), by_state.pop(DELETING, [])
    by_state.pop(READY, None)
    failed = [name for names in by_state.values() for name in names]
    if troubles:
        name, found = min(troubles.items())
        result = False, found.reason, f"at Provider {name}: {found.message}"
    elif failed:
        result = False, "Failed", f"the network at {', '.join(failed)} failed; delete it there, and it is made again"
    elif making:
        result = False, "Creating", f"the network at {', '.join(making)} is being made"
    elif removing:
        where = ", ".join(removing)
        result = True, "Ready", f"all networks in use are ready; the one at {where} is no longer used and is being deleted"
    else:
        result = True, "Ready", "all networks are ready" if status.networks else "no network is needed"
    status.set_condition("NetworkReady", *result, now=now, generation=cluster.metadata.generation)

"""The bootstrapper that kubeup calls: checks a plan, names the hops of an upgrade, and hands out steps, addons and etcd's scripts.

Without state. The steps are in `steps.py`, kubeadm's configuration in `documents.py`, the version table in `versions.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from kubeup_core import InvalidSpec, Problem, SupplierError
from kubeup_core.bootstrapper import NO_SECRETS, Addon, ClusterPlan, EtcdMember, NodePlan, Secrets, Step, Task

from . import bundle, documents, etcd, flannel, sources, steps, versions
from .config import KubeadmConfig


class Kubeadm:
    """See `kubeup_core.bootstrapper.Bootstrapper` for what each method promises."""

    def check(self, cluster: ClusterPlan) -> Sequence[Problem]:
        try:
            known = versions.release(cluster.version)
        except InvalidSpec as error:
            return (_problem(error),)
        config = KubeadmConfig.model_validate(cluster.config)
        source, problems = sources.source(cluster), []
        if source == "bundle":
            if cluster.bundle is None:
                problems.append(
                    Problem(
                        path="spec.kubernetes.bundle",
                        message="source is bundle, but no bundle is named",
                        remedy="make one with `kubeup bundle create`",
                    )
                )
            else:
                fetched = sources.is_url(cluster.bundle)  # proven by its hash, on each machine
                problems += [] if fetched else [_problem(e) for e in bundle.faults(cluster.bundle, cluster.version)]
        if source == "packages" and sources.gone(cluster):
            problems.append(
                Problem(
                    path="spec.kubernetes.repository",
                    message=f"the community's repositories no longer have packages of {cluster.version}",
                    remedy="name a repository that has them, or use a bundle",
                )
            )
        if source in ("packages", "auto"):
            problems += _unproven(cluster, config)
        problems += _proxy(known, config)
        try:
            for role in ("controlPlane", "worker"):
                node = NodePlan(name="check", role=role)
                documents.init(cluster, node, config)
        except SupplierError as error:
            problems.append(_problem(error))
        return tuple(problems)

    def newest(self) -> str:
        return versions.NEWEST

    def hops(self, have: str, want: str) -> Sequence[str]:
        return versions.hops(have, want)

    def steps(self, task: Task, cluster: ClusterPlan, node: NodePlan, secrets: Secrets = NO_SECRETS) -> Sequence[Step]:
        config = KubeadmConfig.model_validate(cluster.config)
        match task:
            case Task.PREPARE:
                return tuple(steps.prepare(cluster, node, config))
            case Task.INIT:
                return tuple(steps.init(cluster, node, config, secrets))
            case Task.JOIN:
                return tuple(steps.join(cluster, node, config, secrets))
            case Task.SETTLE:
                return tuple(steps.settle(cluster, node, config))
            case Task.UPGRADE:
                return tuple(steps.upgrade(cluster, node, config))
            case Task.RENEW:
                return tuple(steps.renew(config))
            case Task.SNAPSHOT:
                return tuple(steps.snapshot())
            case Task.RESTORE:
                return tuple(steps.restore(cluster, node, config))
            case Task.LEAVE:
                return tuple(steps.leave())

    def addons(self, cluster: ClusterPlan) -> Sequence[Addon]:
        found = [Addon(name="flannel", manifest=flannel.manifest(cluster))] if cluster.cni == "flannel" else []
        archive = cluster.bundle
        if archive is not None and sources.source(cluster) == "bundle" and not sources.is_url(archive):
            found += [Addon(name=f"bundle/{name}", manifest=text) for name, text in bundle.manifests(archive)]
        return tuple(found)

    def certificates(self, cluster: ClusterPlan) -> str:
        return steps.certificates(KubeadmConfig.model_validate(cluster.config))

    def etcd_list(self, cluster: ClusterPlan) -> str:
        return "" if KubeadmConfig.model_validate(cluster.config).etcd is not None else etcd.list_script()

    def etcd_members(self, output: bytes) -> Sequence[EtcdMember]:
        return etcd.members(output)

    def etcd_remove(self, member: EtcdMember) -> str:
        return etcd.remove_script(member)


def _unproven(cluster: ClusterPlan, config: KubeadmConfig) -> list[Problem]:
    if config.packages.key_sha256 or not sources.key_url(cluster, config).startswith("http://"):
        return []
    return [
        Problem(
            path="spec.kubernetes.config.packages.keySha256",
            message="the repository's key would come over http, where anybody on the way could put another one",
            remedy="write the sha256 of Release.key here, or a keyUrl with https",
        )
    ]


def _proxy(known: versions.Release, config: KubeadmConfig) -> list[Problem]:
    if config.proxy_mode != "nftables" or known.nftables == "yes":
        return []
    if known.nftables == "gate" and config.feature_gates.get("NFTablesProxyMode"):
        return []
    gated, remedy = "", "choose iptables or ipvs"
    if known.nftables == "gate":
        gated, remedy = " without its feature gate", f"{remedy}, or set featureGates: {{NFTablesProxyMode: true}}"
    message = f"kube-proxy v1.{known.minor} does not have the mode nftables{gated}"
    return [Problem(path="spec.kubernetes.config.proxyMode", message=message, remedy=remedy)]


def _problem(error: SupplierError) -> Problem:
    return Problem(path=getattr(error, "path", ""), message=error.message, remedy=error.remedy)

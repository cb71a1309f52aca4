"""A bootstrapper for an imaginary Kubernetes distribution, `toyd`: one binary that is server and agent. All of it is data and shell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from shlex import quote

from kubeup_core import BootstrapperRegister, InvalidSpec, Problem, Unknown, hookimpl
from kubeup_core.bootstrapper import NO_SECRETS, Addon, ClusterPlan, EtcdMember, File, NodePlan, Secrets, Step, Task
from pydantic import BaseModel, ConfigDict


class ToydConfig(BaseModel):
    """What people write into Cluster.spec.kubernetes.config."""

    model_config = ConfigDict(extra="forbid")
    url: str = "https://downloads.example/toyd"


class Toyd:
    def check(self, cluster: ClusterPlan) -> Sequence[Problem]:
        if cluster.source == "bundle":
            return [Problem(path="spec.kubernetes.source", message="toyd has no bundles", remedy="leave it out")]
        return []

    def newest(self) -> str:
        return "v1.34.1"

    def hops(self, have: str, want: str) -> Sequence[str]:
        if want < have:
            raise InvalidSpec(f"toyd cannot go back from {have} to {want}", path="spec.kubernetes.version")
        return () if have == want else (want,)

    def steps(self, task: Task, cluster: ClusterPlan, node: NodePlan, secrets: Secrets = NO_SECRETS) -> Sequence[Step]:
        config = ToydConfig.model_validate(cluster.config)
        match task:
            case Task.PREPARE | Task.UPGRADE:
                return [
                    Step(
                        name="toyd",
                        title=f"installs toyd {cluster.version}",
                        script=f"curl -fsSL {quote(config.url)}/{cluster.version}/{node.arch} -o /usr/local/bin/toyd.new\n"
                        "chmod 0755 /usr/local/bin/toyd.new\nmv /usr/local/bin/toyd.new /usr/local/bin/toyd",
                        check=f'test "$(toyd --version 2>/dev/null)" = {cluster.version}',
                        remedy=f"make {config.url} reachable from the machine, or set spec.kubernetes.config.url",
                    )
                ]
            case Task.INIT | Task.JOIN:
                keys = [
                    File(path=f"/etc/toyd/pki/{name}", content=pem.encode(), secret=True) for name, pem in secrets.pki.items()
                ]
                token = File(path="/etc/toyd/token", content=secrets.token.encode(), secret=True)
                how = "server" if node.role == "controlPlane" else "agent"
                begin = "--begin" if task is Task.INIT else f"--join https://{cluster.host}:{cluster.port}"
                return [
                    Step(
                        name="member",
                        title=f"starts toyd as {how}",
                        script=f"toyd install {how} {begin} --name {quote(node.name)}",
                        check="toyd is-member",
                        files=(*keys, token),
                        remedy="read `journalctl -u toyd` on the machine",
                    )
                ]
            case _:
                return []

    def addons(self, cluster: ClusterPlan) -> Sequence[Addon]:
        return []

    def certificates(self, cluster: ClusterPlan) -> str:
        return ""

    def etcd_list(self, cluster: ClusterPlan) -> str:
        return "toyd members --json"

    def etcd_members(self, output: bytes) -> Sequence[EtcdMember]:
        try:
            return [EtcdMember(id=m["id"], name=m["name"], address=m["address"]) for m in json.loads(output)]
        except (ValueError, TypeError, KeyError) as error:
            raise Unknown("toyd printed no list of members") from error

    def etcd_remove(self, member: EtcdMember) -> str:
        return f"toyd remove --if-there {quote(member.id)}"


@hookimpl
def kubeup_register_bootstrappers(register: BootstrapperRegister) -> None:
    register.bootstrapper(name="toyd", config=ToydConfig, build=Toyd)

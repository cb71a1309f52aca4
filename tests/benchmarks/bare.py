"""The same Kubernetes cluster as `clusters.py` makes, by hand: containers, and in them the bootstrapper's own commands.

What a careful person's script would do, and no more: make the machines, send the bundle, run the steps (machines side by side where
nothing forbids it, control planes one at a time), wait until every Node is Ready. No store, no controllers, no checks in between.
The machines are those of the docker provider, so that both sides run the same commands on the same containers.
"""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from kubeup_core import Context, Launch, Mark, Member, NetworkSpec, Scope, Suppliers, Template
from kubeup_core.bootstrapper import NO_SECRETS, Archive, ClusterPlan, NodePlan, Peer, Secrets, Step, Task
from kubeup_core.pki import make_authority, make_key_pair
from kubeup_kubeadm.bootstrapper import Kubeadm

TOKEN = "abcdef.0123456789abcdef"
BALANCER = """
defaults
  mode tcp
  timeout connect 2s
  timeout client 1h
  timeout server 1h
frontend api
  bind :6443
  default_backend planes
backend planes
  option httpchk GET /readyz
"""


@dataclass(frozen=True)
class Box:
    """A container and what it is in the cluster."""

    id: str
    plan: NodePlan


def bare(host: str, image: str, kubernetes: Mapping[str, Any], control_planes: int, workers: int) -> float:
    """Seconds from nothing until all Nodes are Ready. host: of the engine; image: of machines."""
    os.environ["DOCKER_HOST"] = host
    with _place(host, image) as (suppliers, mark):
        began = time.monotonic()
        planes, others, balancer = _machines(suppliers, mark, control_planes, workers)
        first = planes[0]
        plan = ClusterPlan(
            name="bare",
            version=kubernetes["version"],
            host=balancer.plan.address if balancer else first.plan.address,
            bundle=Archive(path=kubernetes["bundle"]["path"], sha256=kubernetes["bundle"]["sha256"]),
            config=kubernetes["config"],
            schedulable=not workers,
        )
        pki = _pki()
        plan = replace(plan, ca=pki["ca.crt"])
        if balancer:
            _balance(balancer, planes)
        _together((*planes, *others), lambda box: _run(box, Task.PREPARE, plan, NO_SECRETS))
        _run(replace(first, plan=replace(first.plan, first=True)), Task.INIT, plan, Secrets(pki=pki))
        _sh(
            first.id,
            f"kubectl --kubeconfig=/etc/kubernetes/admin.conf get --raw /readyz >/dev/null && kubeadm token create {TOKEN}",
        )
        with ThreadPoolExecutor(max(1, workers)) as pool:
            joining = [pool.submit(_run, box, Task.JOIN, plan, Secrets(token=TOKEN)) for box in others]
            for number, box in enumerate(planes[1:], 1):
                peers = tuple(Peer(name=p.plan.name, address=p.plan.address) for p in planes[:number])
                _run(box, Task.JOIN, replace(plan, control_planes=peers), Secrets(pki=pki, token=TOKEN))
                joined = planes[: number + 1]
                names = tuple(Peer(name=p.plan.name, address=p.plan.address) for p in joined)
                for plane in joined:
                    _run(plane, Task.SETTLE, replace(plan, control_planes=names), NO_SECRETS)
            for join in joining:
                join.result()
        _all_ready(first, control_planes + workers)
        return time.monotonic() - began


def _machines(
    suppliers: Suppliers, mark: Callable[[str], Mark], planes: int, workers: int
) -> tuple[list[Box], list[Box], Box | None]:
    """In one call, as nobody waits for one before the next; with their addresses, and systemd up in each."""
    assert suppliers.networks is not None
    network = suppliers.networks.ensure(
        NetworkSpec(mark=mark("Network"), name="bare", cidr="", rules=(), ssh_keys=(), overrides={})
    )
    sizes = {
        "controlPlane": (planes, 2.0, 2 << 30),
        "worker": (workers, 1.0, 1 << 30),
        "loadBalancer": (int(planes > 1), 1.0, 1 << 28),
    }
    made: dict[str, list[Box]] = {}
    for role, (count, cpu, memory) in sizes.items():
        want = Template(cpu=cpu, memory=memory, disk=20 << 30, arch="", image="debian-12", spot=False, overrides={})
        launch = Launch(
            mark=mark("Machine"), token="bare", template=want, offer=suppliers.machines.offers(want)[0], role=role,
            members=tuple(Member(name=f"{role.lower()}-{i}") for i in range(count)), user_data=b"", network=network.data,
        )  # fmt: skip
        if count and any(result.error for result in suppliers.machines.launch(launch)):
            raise SystemExit("the engine does not make the machines of the bare commands")
        made[role] = [Box(id="", plan=NodePlan(name=m.name, role=role)) for m in launch.members]
    seen = {s.name: s for s in suppliers.machines.observe(Scope(installation=mark("Machine").installation)).items}
    for boxes in made.values():
        for number, box in enumerate(boxes):
            state = next(s for name, s in seen.items() if name.startswith(f"{box.plan.name}-"))
            plan = replace(box.plan, address=state.internal[0], provider_id=state.provider_id)
            boxes[number] = Box(id=state.ref.id, plan=plan)
            _wait(lambda id=state.ref.id: _ok(id, "systemctl is-active -q dbus"))  # type: ignore[misc]
    return made["controlPlane"], made["worker"], next(iter(made["loadBalancer"]), None)


def _balance(balancer: Box, planes: Sequence[Box]) -> None:
    servers = [
        f"  server {p.plan.name} {p.plan.address}:6443 check check-ssl verify none inter 1s rise 1 fall 3" for p in planes
    ]
    _sh(balancer.id, "cat >/etc/haproxy/haproxy.cfg && systemctl start haproxy", BALANCER + "\n".join(servers) + "\n")


def _run(box: Box, task: Task, plan: ClusterPlan, secrets: Secrets) -> None:
    for step in Kubeadm().steps(task, plan, box.plan, secrets):
        _step(box, step)


def _step(box: Box, step: Step) -> None:
    for file in step.files:
        put = f"mkdir -p \"$(dirname '{file.path}')\" && cat >'{file.path}' && chmod {file.mode:o} '{file.path}'"
        if file.source:
            with open(file.source, "rb") as source:
                _exec(box.id, put, source)
        else:
            _sh(box.id, put, file.content)
    if not step.check or not _ok(box.id, f"set -eu\n{step.check}"):
        _sh(box.id, f"set -eu\n{step.script}", what=f"{step.name} on {box.plan.name}")


def _all_ready(first: Box, count: int) -> None:
    ready = "kubectl --kubeconfig=/etc/kubernetes/admin.conf get nodes --no-headers | awk '$2 == \"Ready\"' | wc -l"
    _wait(lambda: _sh(first.id, ready).strip() == str(count))


# -- below ---------------------------------------------------------------------------------------------------------------


@contextmanager
def _place(host: str, image: str) -> Iterator[tuple[Suppliers, Callable[[str], Mark]]]:
    """The engine's suppliers, under an installation's mark of its own; all that was made is taken away."""
    from kubeup_docker import DockerConfig, build

    installation = uuid.uuid4().hex[:12]
    suppliers = build(DockerConfig(host=host), Context(installation=installation, images={"debian-12": image}))
    assert suppliers.networks is not None

    def mark(kind: str) -> Mark:
        return Mark(installation=installation, cluster="bare", cluster_name="bare", kind=kind, maker=str(uuid.uuid4()))

    try:
        yield suppliers, mark
    finally:
        scope = Scope(installation=installation)
        suppliers.machines.delete([s.ref for s in suppliers.machines.observe(scope).items])
        _wait(lambda: not suppliers.machines.observe(scope).items)
        for network in suppliers.networks.observe(scope).items:
            suppliers.networks.delete(network.ref)
        suppliers.close()


def _pki() -> dict[str, str]:
    now = time.time()
    authorities = {name: make_authority(name, now) for name in ("ca", "etcd/ca", "front-proxy-ca")}
    found = {
        f"{name}.{end}": text
        for name, pair in authorities.items()
        for end, text in (("crt", pair.certificate), ("key", pair.key))
    }
    accounts = make_key_pair()
    return found | {"sa.pub": accounts.certificate, "sa.key": accounts.key}


def _together(boxes: Sequence[Box], work: Callable[[Box], None]) -> None:
    with ThreadPoolExecutor(len(boxes)) as pool:
        list(pool.map(work, boxes))


def _sh(container: str, script: str, stdin: str | bytes = b"", what: str = "") -> str:
    done = _exec(container, script, stdin.encode() if isinstance(stdin, str) else stdin)
    if done.returncode:
        raise SystemExit(f"{what or script} gave {done.returncode}: {done.stdout.decode()[-2000:]}")
    return done.stdout.decode()


def _ok(container: str, script: str) -> bool:
    return _exec(container, script, b"").returncode == 0


def _exec(container: str, script: str, stdin: Any) -> subprocess.CompletedProcess[bytes]:
    command = ["docker", "exec", "-i", container, "sh", "-c", script]
    given = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **given)  # type: ignore[call-overload,no-any-return]


def _wait(holds: Callable[[], bool]) -> None:
    while not holds():
        time.sleep(0.2)

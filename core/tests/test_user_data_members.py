"""Members of a Kubernetes cluster that their user-data prepares, and joins where nobody reaches them: in the harness."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from kubeup_core.bootstrapper import NO_SECRETS, File, Step, Task
from kubeup_core.errors import NotReady
from kubeup_core.executor import Keys
from kubeup_core.kinds import Cluster, Launch, Machine, NodePool, Secret
from kubeup_core.plugins import ExecutorType
from kubeup_core.supplier import Access
from kubeup_core.testing.harness import Harness
from kubeup_core.testing.rehearsal import NAME, Rehearsal

pytest.importorskip("kubeup_sim", reason="the simulated cloud is the distribution kubeup-sim: pip install kubeup-sim")

CP = "demo-control-plane-0"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n"


@pytest.fixture
def harness(rehearsed: Harness) -> Harness:
    return rehearsed


def cluster(harness: Harness, workers: int = 2, *, access=None, kubernetes=None, machine=None, **pool) -> None:
    """Control planes at Provider `sim`, whose machines are reached; workers at `far`, whose machines are not."""
    harness.provider()
    config = {"file": harness.account}
    spec = {"type": "sim", "config": config, "access": access or {"kind": "none"}}
    harness.apply({"kind": "Provider", "metadata": {"name": "far"}, "spec": spec})
    spec = {"provider": "sim", "kubernetes": {"version": "v1.34.1", "bootstrapper": NAME, **(kubernetes or {})}}
    spec |= {"network": {"routed": True}, "machine": machine or {}}
    harness.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": spec})
    pool = {"cluster": "demo", "replicas": workers, "provider": "far", "spread": "none", **pool}
    harness.apply({"kind": "NodePool", "metadata": {"name": "workers"}, "spec": pool})


def config(user_data: bytes) -> dict:
    text = gzip.decompress(user_data) if user_data[:2] == b"\x1f\x8b" else user_data
    assert text.startswith(b"#cloud-config\n")
    return json.loads(text.partition(b"\n")[2])


def seeds(harness: Harness) -> list[dict[str, str]]:
    """What is in the archives of all user-data: path -> text."""
    found = []
    for secret in kept(harness):
        for file in config(base64.b64decode((secret.data or {})["user-data"])).get("write_files", ()):
            if file["path"].endswith("/seed"):
                with tarfile.open(fileobj=io.BytesIO(base64.b64decode(file["content"])), mode="r:gz") as tar:
                    found.append({m.name: (tar.extractfile(m) or io.BytesIO()).read().decode() for m in tar.getmembers()})
    return found


def kept(harness: Harness) -> list[Secret]:
    return [secret for secret in harness.all(Secret) if secret.name.startswith("userdata-")]


def state(harness: Harness, name: str) -> str:
    found = harness.find(Machine, name)
    return found.status.state if found is not None else ""


def said(harness: Harness, pool: str = "workers") -> str:
    found = harness.find(NodePool, pool)
    return " ".join(c.message for c in found.status.conditions) if found is not None else ""


def joined(harness: Harness, rehearsal: Rehearsal, count: int, within: float = 900) -> None:
    harness.until(
        lambda: len(harness.machines()) == count and all(m.status.is_true("Ready") for m in harness.machines()), within
    )
    assert len(rehearsal.joined) == len(set(rehearsal.joined)) == count


# -- nobody reaches them -------------------------------------------------------------------------------------------------


def test_workers_without_a_way_in_join_by_their_user_data(harness, rehearsal):
    cluster(harness, 3)
    joined(harness, rehearsal, 4)
    workers = [m for m in harness.machines() if m.spec.role == "worker"]
    for machine in workers:
        assert machine.status.access is not None
        assert machine.status.access.kind == "none"
        assert harness.condition(Machine, machine.name, "Reachable")[:2] == ("Unknown", "NoAccess")
        assert harness.condition(Machine, machine.name, "Bootstrapped")[:2] == ("True", "NodeJoined")
        assert machine.status.node_ref is not None
        assert harness.workload().node(machine.name)["spec"]["providerID"] == machine.status.provider_id
    assert {m.status.launch for m in workers} == {workers[0].status.launch}, "one launch, one blob"
    (seed,) = seeds(harness)
    assert [line.split()[:2] for line in seed["members"].splitlines()] == [[str(i), m.name] for i, m in enumerate(workers)]
    assert all(harness.cloud.guest.jobs.runs[(m.name, step)] == 1 for m in workers for step in ("runtime", "kubelet", "join"))


def test_they_wait_for_the_cluster_to_begin_before_they_cost_money(harness, rehearsal):
    harness.cloud.guest.jobs.slow["init"] = 300
    cluster(harness)
    harness.advance(200)
    assert [launch.spec.role for launch in harness.launches()] == ["controlPlane"]
    assert "told at their first boot how to join: it waits until demo-control-plane-0 has begun the cluster" in said(harness)
    joined(harness, rehearsal, 3)


def test_each_launch_has_a_token_of_its_own_that_is_taken_back_when_all_have_joined(harness, rehearsal):
    cluster(harness, 2)
    harness.until(lambda: seeds(harness))
    (seed,) = seeds(harness)
    (token,) = {text for path, text in seed.items() if path.endswith("/file0")}
    path = f"/api/v1/namespaces/kube-system/secrets/bootstrap-token-{token.partition('.')[0]}"
    assert harness.workload().found(path) is not None
    joined(harness, rehearsal, 3)
    harness.advance(60)
    assert harness.workload().found(path) is None
    harness.edit(NodePool, "workers", spec={"replicas": 3})
    joined(harness, rehearsal, 4)
    assert len({text for seed in seeds(harness) for path, text in seed.items() if path.endswith("/file0")}) == 2


def test_a_token_that_was_over_before_its_machine_joined_is_a_condition_and_another_launch(harness, rehearsal):
    harness.cloud.guest.jobs.slow["join"] = 9000
    cluster(harness, 1, repair={"bootTimeout": "3h"})
    harness.until(lambda: state(harness, "workers-0") == "Joining", 900)
    harness.crash()
    harness.until(lambda: harness.messages("workers-0"), 3600)
    harness.cloud.guest.jobs.slow.clear()
    (message, *_) = harness.messages("workers-0")
    assert message.startswith("TokenExpired: its user-data has a token that was valid until ")
    joined(harness, rehearsal, 2, 3600)
    assert len([launch for launch in harness.launches() if launch.spec.role == "worker"]) == 2


def test_one_that_never_joins_has_its_boot_timeout(harness, rehearsal):
    harness.cloud.guest.jobs.slow["join"] = 9000
    cluster(harness, 1)
    harness.until(lambda: harness.messages("workers-0"), 1200)
    harness.cloud.guest.jobs.slow.clear()
    assert harness.messages("workers-0")[0].startswith("BootTimeout: it prepares itself and joins by its user-data")
    joined(harness, rehearsal, 2, 1200)


def test_a_step_that_fails_is_tried_again_by_the_machine_itself(harness, rehearsal):
    harness.cloud.guest.jobs.fail("runtime", machine="workers-1", times=4)
    cluster(harness, 2)
    joined(harness, rehearsal, 3)
    assert harness.cloud.guest.jobs.runs[("workers-1", "runtime")] == 5


def test_nothing_is_concluded_while_the_clusters_api_is_silent(harness, rehearsal):
    harness.cloud.guest.jobs.slow["join"] = 100
    cluster(harness, 1)
    harness.until(lambda: state(harness, "workers-0") == "Joining", 900)
    harness.workload().fault = "notReady"
    harness.advance(3600)
    assert harness.get(Machine, "workers-0").status.state == "Joining"
    assert harness.rented() == sorted([CP, "workers-0"])
    harness.workload().fault = ""
    harness.until(lambda: harness.get(Machine, "workers-0").status.is_true("Ready"), 600)


def test_an_upgrade_replaces_them_one_at_a_time(harness, rehearsal):
    cluster(harness, 2)
    joined(harness, rehearsal, 3)
    before = {m.name: m.uid for m in harness.machines()}
    harness.edit(Cluster, "demo", spec={"kubernetes": {"version": "v1.35.0"}})
    least = []

    def upgraded() -> bool:
        workers = [m for m in harness.machines() if m.spec.role == "worker"]
        least.append(sum(1 for m in workers if m.status.is_true("Ready") and not m.deleting))
        nodes = harness.workload().nodes()
        versions = {harness.workload().node(n)["status"]["nodeInfo"]["kubeletVersion"] for n in nodes}
        return versions == {"v1.35.0"} and least[-1] == 2

    harness.until(upgraded, 1800)
    assert min(least) == 1
    after = {m.name: m.uid for m in harness.machines()}
    assert after[CP] == before[CP], "control planes are upgraded in place"
    assert not {u for n, u in before.items() if n != CP} & set(after.values())


def test_a_crash_at_any_write_makes_no_machine_twice(harness, rehearsal):
    cluster(harness, 2)
    for _ in range(12):
        harness.advance(2)
        harness.crash()
    joined(harness, rehearsal, 3)
    assert len(harness.rented()) == 3


def test_a_batch_shrinks_to_what_the_place_takes(harness, rehearsal):
    steps = rehearsal.steps

    def by_name(task, plan, node, secrets=NO_SECRETS):
        made = steps(task, plan, node, secrets)
        return [replace(s, script=f"# {_noise(node.name)}\n{s.script}") if s.name == "join" else s for s in made]

    rehearsal.steps = by_name
    cluster(harness, 4)
    joined(harness, rehearsal, 5)
    assert sorted(len(launch.spec.members) for launch in harness.launches() if launch.spec.role == "worker") == [2, 2]


def _noise(name: str) -> str:
    """Text that does not become much smaller."""
    return "".join(hashlib.sha256(f"{name}{i}".encode()).hexdigest() for i in range(120))


# -- reached later, over SSH ---------------------------------------------------------------------------------------------


class Ssh:
    """An executor into simulated machines. closed: nobody gets in yet."""

    def __init__(self) -> None:
        self.harness: Harness | None = None
        self.closed = False
        self.sent: list[str] = []

    def build(self, keys: Keys) -> Ssh:
        return self

    def execute(self, access: Access, script: str, stdin: bytes, timeout: float) -> Iterator[bytes | int]:
        if self.closed:
            raise NotReady("connection refused", retry_after=2.0)
        assert self.harness is not None
        cloud = self.harness.cloud
        ids = [m.status.id or "" for m in self.harness.machines()]
        machine = next(v.machine for v in cloud.compute.get(ids).items if v.machine.internal == access.address)
        self.sent += [machine.hostname] if stdin else []
        code, output = cloud.guest.run(machine, script, stdin)
        yield output
        yield code

    def upload(self, access: Access, path: str, content: Iterable[bytes], mode: int, timeout: float) -> None:
        raise NotImplementedError

    def host_key(self, access: Access, timeout: float) -> str:
        return "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8mYkJ3Tt0VQYw3Yh1nZ2m0Zk5Yk3l1n0c9d8e7f6a5"

    def close(self) -> None:
        pass


@pytest.fixture
def ssh():
    return Ssh()


@pytest.fixture
def by_ssh(tmp_path, rehearsal, ssh):
    """Cluster demo of one control plane and two workers, all reached over SSH."""
    kind = ExecutorType(kind="ssh", build=ssh.build, distribution="kubeup-ssh-executor", version="1")
    plugins = replace(rehearsal.plugins(), executors={"ssh": kind})
    with Harness(tmp_path, plugins=plugins, cloud={"boot_seconds": (1, 1), "access": "ssh", "console": False}) as harness:
        ssh.harness = harness
        rehearsal.follow(harness)
        rehearsal.silent(harness)
        spec = {"type": "sim", "config": {"file": harness.account}, "access": {"address": "private", "hostKeys": "firstUse"}}
        harness.apply({"kind": "Provider", "metadata": {"name": "sim"}, "spec": spec})
        kubernetes = {"version": "v1.34.1", "bootstrapper": NAME}
        harness.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "sim", "kubernetes": kubernetes}})
        pool = {"cluster": "demo", "replicas": 2, "spread": "none"}
        harness.apply({"kind": "NodePool", "metadata": {"name": "workers"}, "spec": pool})
        yield harness
        assert [(item, error) for item, error in [*harness.failed, *harness.manager.failed]] == []


def test_what_user_data_has_prepared_is_skipped_over_access(by_ssh, rehearsal, ssh):
    ssh.closed = True
    by_ssh.until(lambda: len([r for r in by_ssh.cloud.guest.jobs.runs if r[1] == "kubelet"]) == 3, 300)
    by_ssh.advance(10)
    ssh.closed = False
    joined(by_ssh, rehearsal, 3)
    assert set(by_ssh.cloud.guest.jobs.runs.values()) == {1}
    assert sorted(ssh.sent) == sorted(rehearsal.joined), "only INIT and JOIN had to be sent"
    assert not any("file0" in path for seed in seeds(by_ssh) for path in seed), "no token, no key"


def test_whoever_is_first_nothing_is_done_twice(by_ssh, rehearsal, ssh):
    joined(by_ssh, rehearsal, 3)
    assert set(by_ssh.cloud.guest.jobs.runs.values()) == {1}


def test_a_step_that_failed_by_user_data_is_tried_again_over_access(by_ssh, rehearsal, ssh):
    by_ssh.cloud.guest.jobs.fail("runtime", machine="workers-0", times=2)
    joined(by_ssh, rehearsal, 3)
    assert by_ssh.cloud.guest.jobs.runs[("workers-0", "runtime")] == 3


def test_what_does_not_fit_goes_over_access(by_ssh, rehearsal, ssh):
    by_ssh.cloud.configure({"user_data_limit": 1000})
    joined(by_ssh, rehearsal, 3)
    assert seeds(by_ssh) == []
    assert sorted(ssh.sent) == sorted([*rehearsal.joined, *rehearsal.joined])


def test_steps_with_secret_files_go_over_access(by_ssh, rehearsal, ssh):
    file = File(path="/etc/key", content=PEM.encode(), secret=True)
    rehearsal.more[Task.PREPARE] = (Step(name="login", title="logs in", script=":", files=(file,)),)
    joined(by_ssh, rehearsal, 3)
    assert seeds(by_ssh) == []
    assert not any(b"PRIVATE" in base64.b64decode((s.data or {})["user-data"]) for s in kept(by_ssh))


def test_hosts_that_take_no_user_data_are_reached_all_the_same(by_ssh, rehearsal, ssh):
    by_ssh.cloud.configure({"user_data_limit": 0})
    by_ssh.crash()
    joined(by_ssh, rehearsal, 3)
    assert kept(by_ssh) == []


# -- refused, before anything is made ------------------------------------------------------------------------------------


def test_control_planes_without_a_way_in_are_refused(harness):
    harness.provider(access="none")
    kubernetes = {"version": "v1.34.1", "bootstrapper": NAME}
    harness.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "sim", "kubernetes": kubernetes}})
    harness.advance(60)
    assert "control planes get their keys over one; use a Provider whose machines are reached by ssh" in said(
        harness, "demo-control-plane"
    )
    assert harness.launches() == []


def test_a_large_file_of_kubeups_own_machine_is_refused_with_what_to_do(harness, rehearsal, tmp_path):
    bundle = tmp_path / "bundle.tar"
    bundle.write_bytes(b"x")
    file = File(
        path="/opt/bundle", source=str(bundle), sha256="2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    )
    rehearsal.more[Task.PREPARE] = (Step(name="bundle", title="unpacks", script=":", files=(file,)),)
    cluster(harness, 1)
    harness.until(lambda: "bundle.tar lies on the machine that kubeup runs on; name the bundle by a URL" in said(harness), 30)
    harness.until(lambda: harness.find(Machine, CP) and harness.get(Machine, CP).status.is_true("Ready"), 600)
    assert [launch.spec.role for launch in harness.launches()] == ["controlPlane"]


def test_a_file_from_a_secret_is_refused(harness):
    harness.apply(
        {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "s"}, "data": {"k": base64.b64encode(b"v").decode()}}
    )
    cluster(harness, 1, machine={"files": [{"path": "/etc/x", "secretRef": {"name": "s", "key": "k"}}]})
    harness.until(lambda: "the file /etc/x comes from a Secret" in said(harness), 600)


def test_a_private_key_in_a_step_is_refused(harness, rehearsal):
    rehearsal.more[Task.PREPARE] = (Step(name="odd", title="is odd", script=f"cat >/key <<X\n{PEM}X\n"),)
    cluster(harness, 1)
    harness.until(lambda: "the step odd holds a private key" in said(harness), 600)
    assert "AAAA" not in said(harness)


def test_a_place_that_takes_no_user_data_is_refused(harness):
    harness.cloud.configure({"user_data_limit": 0})
    cluster(harness, 1)
    harness.until(lambda: "no way into its machines, and they take no user-data" in said(harness), 600)


def test_what_is_too_long_for_one_machine_is_refused(harness, rehearsal):
    harness.cloud.configure({"user_data_limit": 2000})
    cluster(harness, 1)
    harness.until(lambda: "and the place takes 2000; use a Provider whose machines are reached" in said(harness), 600)


def test_a_provider_may_leave_a_way_in_unused(harness):
    cluster(harness, 1)
    places = harness.manager.env.places
    harness.until(lambda: all((p := places.get(name)) is not None and p.usable for name in ("sim", "far")))
    assert [places.get(name).access for name in ("sim", "far")] == ["execute", "none"]


# -- never a private key -------------------------------------------------------------------------------------------------


def test_no_key_is_in_any_user_data_nor_a_token_but_for_workers_that_nobody_reaches(harness, rehearsal):
    cluster(harness, 2)
    joined(harness, rehearsal, 3)
    private = [
        value
        for secret in harness.all(Secret)
        for value in (base64.b64decode(v).decode() for v in (secret.data or {}).values())
        if "PRIVATE KEY" in value
    ]
    assert private, "the cluster has keys"
    told = [base64.b64decode((s.data or {})["user-data"]) for s in kept(harness)]
    assert len(told) == 1
    texts = [json.dumps(config(data)) for data in told] + [text for seed in seeds(harness) for text in seed.values()]
    assert not any("PRIVATE KEY" in text for text in texts)
    assert harness.all(Launch)

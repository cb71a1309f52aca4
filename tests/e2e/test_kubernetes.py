"""Real Kubernetes on a real engine, through the command as a person types it: up, broken, healed, scaled, changed, and down to nothing.

The cluster is Kubernetes built from Debian's source package, given as an offline bundle: machines on a network without the internet
do the same. There is no CoreDNS in Debian, so the clusters of these tests have no cluster DNS. With KUBEUP_TEST_OFFICIAL=vX.Y.Z they
take the community's packages and images instead. All of them are in this one file, so that one process runs them, one after another:
two clusters at once on two cores are slow enough to fail.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.client import HTTPException, HTTPSConnection
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeup_artifacts.build import cache

pytestmark = [pytest.mark.docker, pytest.mark.kubectl, pytest.mark.slow]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "docs/examples/docker.yaml"
MIXED = ROOT / "docs/examples/mixed.yaml"
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
OFFICIAL = os.environ.get("KUBEUP_TEST_OFFICIAL", "")
BUILT, NEWER = "v1.20.2", "v1.20.3"
BUSYBOX = "docker.io/library/busybox:1.36" if OFFICIAL else "kubeup.local/busybox:1.35"


@pytest.fixture(scope="session")
def bundle(
    kubernetes_bundle_inputs: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, Any]]:
    """version -> `spec.kubernetes` of a cluster made from an offline bundle of that version."""
    folder = tmp_path_factory.mktemp("bundles")

    def made(version: str) -> dict[str, Any]:
        if OFFICIAL:
            return {"version": OFFICIAL}
        from kubeup_kubeadm.bundle import create

        file = folder / f"{version}.tar"
        digest = create(kubernetes_bundle_inputs(version), version, "amd64", file) if not file.exists() else _sha256(file)
        config = {
            "imageRepository": "kubeup.local", "images": {"etcd": "3.4.23-0"}, "dns": False, "minimumDisk": "512Mi",
        }  # fmt: skip
        return {"version": version, "bundle": {"path": str(file), "sha256": digest}, "config": config}

    return made


@pytest.fixture
def packages(kubernetes_repository: Any, kubernetes_registry: Any) -> Callable[[str], dict[str, Any]]:
    """version -> `spec.kubernetes` of a cluster made from a signed Debian repository and a registry: what those online have."""
    here = _address()
    repository = kubernetes_repository.url(here) + "/core:/stable:/v{minor}/{format}/"
    with urllib.request.urlopen(repository.format(minor="1.20", format="deb") + "Release.key") as answer:
        key = hashlib.sha256(answer.read()).hexdigest()
    config = {
        "imageRepository": "kubeup.local", "images": {"etcd": "3.4.23-0"}, "dns": False, "minimumDisk": "512Mi",
        "packages": {"keySha256": key},
        "registryMirrors": {"kubeup.local": [kubernetes_registry.url(here)]},
    }  # fmt: skip
    return lambda version: {"version": version, "source": "packages", "repository": repository, "config": config}


@pytest.fixture
def machines(kubeup: Any, docker_node: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The engine on which containers are machines with systemd; kubeup uses it. What a test that failed has left is taken away, and
    shown first: what kubeup says of it, and the ends of the machines' logs."""
    kubeup.env.update(docker_node.env)
    engine = replace(docker_node, only=kubeup.marked)
    yield engine
    left = engine.ps() if kubeup.state.exists() else []
    if not left:
        return
    for command in (*(_log(docker_node.host, c["Id"]) for c in left), ["kubeup", "logs"], ["kubeup", "why", "cluster/demo"]):
        said = subprocess.run(command, env=kubeup.env | {"PATH": PATH}, capture_output=True, text=True, check=False, timeout=60)
        print(f"\n$ {' '.join(command)}\n{said.stdout[-3000:]}{said.stderr[-1000:]}")
    subprocess.run(["kubeup", "down", "--yes"], env=kubeup.env | {"PATH": PATH}, capture_output=True, check=False, timeout=240)
    for container in engine.ps():
        engine.remove(container["Id"])


def cluster(kubernetes: dict[str, Any], control_planes: int, workers: int, image: str, **spec: Any) -> str:
    documents: list[dict[str, Any]] = [
        {"kind": "Provider", "metadata": {"name": "engine"}, "spec": {"type": "docker", "images": {"debian-12": image}}},
        {
            "kind": "Cluster",
            "metadata": {"name": "demo"},
            "spec": {
                "provider": "engine",
                "kubernetes": kubernetes,
                "controlPlane": {"replicas": control_planes, "machine": {"cpu": 2, "memory": "2Gi"}},
                **spec,
            },
        },
    ]
    if workers:
        pool = {"cluster": "demo", "replicas": workers, "machine": {"cpu": 1, "memory": "1Gi"}}
        documents.append({"kind": "NodePool", "metadata": {"name": "workers"}, "spec": pool})
    return yaml.safe_dump_all({"apiVersion": "kubeup.dev/v1alpha1", **d} for d in documents)


class Workload:
    """kubectl against the new cluster, with the kubeconfig that kubeup gives."""

    def __init__(self, kubeup: Any, cluster: str = "demo") -> None:
        self._kubeup = kubeup
        line = kubeup("kubeconfig", cluster).strip()
        self.file = line.partition("KUBECONFIG=")[2]

    def kubectl(self, *args: str, stdin: str = "", code: int = 0) -> str:
        return str(self._kubeup.kubectl("--kubeconfig", self.file, "--request-timeout=20s", *args, stdin=stdin, code=code))

    def get(self, what: str, *args: str) -> Any:
        return json.loads(self.kubectl("get", what, *args, "-o", "json"))

    def nodes(self) -> dict[str, dict[str, Any]]:
        return {n["metadata"]["name"]: n for n in self.get("nodes")["items"]}

    def ready(self) -> set[str]:
        return {name for name, node in self.nodes().items() if _true(node, "Ready")}

    def answers(self) -> bool:
        command = ["kubectl", "--kubeconfig", self.file, "--request-timeout=5s", "get", "--raw", "/readyz"]
        return subprocess.run(command, env=self._kubeup.env | {"PATH": PATH}, capture_output=True, timeout=20).returncode == 0

    @contextmanager
    def watched(self) -> Iterator[list[float]]:
        """Asks the API all the time meanwhile; yields the lengths of its silences in seconds, complete at the end. A question that
        gets no answer is held open for five seconds, which is part of the silence."""
        silences: list[float] = []
        over = threading.Event()

        def ask() -> None:
            since = time.monotonic()
            while not over.is_set():
                if self.answers():
                    silences.append(time.monotonic() - since)
                    since = time.monotonic()
                over.wait(0.5)
            silences.append(time.monotonic() - since)

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield silences
        finally:
            over.set()
            thread.join()


WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {labelSelector: {matchLabels: {app: web}}, topologyKey: kubernetes.io/hostname}
      containers:
      - name: web
        image: BUSYBOX
        command: [sh, -c, "mkdir -p /www; echo $POD > /www/index.html; exec httpd -f -p 8080 -h /www"]
        env: [{name: POD, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]
        readinessProbe: {httpGet: {port: 8080, path: /}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
""".replace("BUSYBOX", BUSYBOX)


def test_three_control_planes_and_two_workers_come_up_heal_scale_get_their_etcd_back_and_go(
    kubeup: Any, until: Callable[..., None], machines: Any, bundle: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    etcd = {"snapshots": {"to": f"file://{tmp_path}/snapshots", "every": "100h"}}
    file = kubeup.write(cluster(bundle(BUILT), 3, 2, machines.image, etcd=etcd))
    out = kubeup("up", "-f", file, "--timeout", "15m", seconds=960)
    assert "export KUBECONFIG=" in out
    workload = Workload(kubeup)
    control_planes = {m["metadata"]["name"] for m in kubeup.machines() if m["spec"]["role"] == "controlPlane"}
    assert len(control_planes) == 3
    assert workload.ready() == {m["metadata"]["name"] for m in kubeup.machines() if m["spec"]["role"] != "loadBalancer"}
    assert len({n["status"]["nodeInfo"]["machineID"] for n in workload.nodes().values()}) == 5

    _reach_each_other(workload, until)

    # A label and a taint of the pool appear on its Nodes; what somebody else set there stays.
    workload.kubectl("label", "node", "workers-0", "theirs=yes")
    patch = {"spec": {"labels": {"tier": "web"}, "taints": [{"key": "only", "value": "web", "effect": "PreferNoSchedule"}]}}
    kubeup.kubectl("patch", "nodepool", "workers", "--type=merge", "-p", json.dumps(patch))
    until(lambda: _labelled(workload, "workers-0") and _labelled(workload, "workers-1"), "labels and taints on the Nodes", 120)
    assert workload.nodes()["workers-0"]["metadata"]["labels"]["theirs"] == "yes"

    # A worker's container is deleted by hand.
    victim = _machine(kubeup, "workers-1")
    machines.remove(victim["status"]["id"])
    until(lambda: _replaced(kubeup, "workers", victim, 2), "another worker", 300)
    until(lambda: len([n for n in workload.ready() if n.startswith("workers-")]) == 2, "two workers Ready", 120)

    # A control plane's container is killed: it is replaced, etcd has three members, and the API answered all the while.
    with workload.watched() as silences:
        victim = _machine(kubeup, min(control_planes))
        machines.remove(victim["status"]["id"])
        until(lambda: _replaced(kubeup, victim["spec"]["pool"], victim, 3), "another control plane", 480)
        until(lambda: len(_etcd(workload)) == 3, "three members of etcd", 120)
    assert max(silences) < 20, f"the API was silent for {max(silences):.0f} s"
    assert len(_etcd(workload)) == 3

    # Up to four workers, then down to one: what goes is drained first.
    kubeup.kubectl("scale", "nodepool", "workers", "--replicas=4")
    until(lambda: len(_joined(kubeup, "workers") & _workers(workload)) == 4, "four workers", 300)
    kubeup.kubectl("scale", "nodepool", "workers", "--replicas=1")
    until(lambda: len([n for n in workload.nodes() if n.startswith("workers-")]) == 1, "one worker's Node", 300)
    events = kubeup.get("events")["items"]
    drained = {e["involvedObject"]["name"] for e in events if e["reason"] == "Drained"}
    assert len(drained) == 3, [
        (e["involvedObject"]["name"], e["reason"], e["message"]) for e in events if "rain" in e["reason"]
    ]

    # Two of three control planes are destroyed: without a quorum, etcd comes back out of a snapshot.
    workload.kubectl("create", "configmap", "precious", "--from-literal=what=data")
    kubeup("etcd", "snapshot", "demo", seconds=180)
    workload.kubectl("delete", "configmap", "precious")
    worker = next(m for m in kubeup.machines() if m["spec"]["role"] == "worker")["metadata"]["uid"]
    planes = [m for m in kubeup.machines() if m["spec"]["role"] == "controlPlane"]
    for lost in planes[:2]:
        machines.remove(lost["status"]["id"])
    until(lambda: not workload.answers(), "an API that is silent", 120)

    out = kubeup("etcd", "restore", "demo", "--yes", "--timeout", "15m", seconds=960)
    assert "is restored, and cluster demo is Ready" in out
    assert workload.get("configmap", "precious")["data"] == {"what": "data"}
    until(lambda: len(_etcd(workload)) == 3, "three members of etcd", 120)
    expected = {m["metadata"]["name"] for m in kubeup.machines() if m["spec"]["role"] != "loadBalancer"}
    until(lambda: workload.ready() == expected, "the Nodes of all machines Ready, and no other Node", 180)
    assert next(m for m in kubeup.machines() if m["spec"]["role"] == "worker")["metadata"]["uid"] == worker
    former = {m["metadata"]["uid"] for m in planes}
    assert len([m for m in kubeup.machines() if m["metadata"]["uid"] in former]) == 1

    kubeup("down", "--yes", seconds=300)
    assert machines.ps() == []
    assert machines.networks() == []
    assert machines.volumes() == []


@pytest.mark.skipif(bool(OFFICIAL), reason="not offered: the community's own repository is in use")
def test_one_node_from_a_signed_repository_runs_pods_its_etcd_is_kept_and_it_is_upgraded_in_place(
    kubeup: Any, until: Callable[..., None], machines: Any, packages: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    etcd = {"snapshots": {"to": f"file://{tmp_path}/snapshots", "every": "1h", "keep": 3}}
    file = kubeup.write(cluster(packages(BUILT), 1, 0, machines.image, etcd=etcd))
    kubeup("up", "-f", file, "--timeout", "10m", seconds=660)
    workload = Workload(kubeup)
    (node,) = workload.nodes().values()
    assert _true(node, "Ready")
    assert node["status"]["nodeInfo"]["kubeletVersion"] == BUILT
    assert not node["spec"].get("taints"), "without a pool the control plane runs pods"
    assert _held(machines) == BUILT
    web = WEB.replace("replicas: 2", "replicas: 1")
    workload.kubectl("apply", "-f", "-", stdin=web)
    workload.kubectl("rollout", "status", "deployment/web", "--timeout=120s")

    assert ".etcd-snapshot" in kubeup("etcd", "snapshot", "demo", seconds=180)
    (snapshot, *_) = (tmp_path / "snapshots").glob("*.etcd-snapshot")
    assert snapshot.stat().st_size > 100_000
    assert snapshot.name in kubeup("etcd", "list", "demo")

    file = kubeup.write(cluster(packages(NEWER), 1, 0, machines.image, etcd=etcd))
    kubeup("up", "-f", file, "--timeout", "10m", seconds=660)
    (node,) = workload.nodes().values()
    assert node["status"]["nodeInfo"]["kubeletVersion"] == NEWER
    assert _held(machines) == NEWER
    assert NEWER in workload.kubectl("version")
    assert kubeup.get("cluster", "demo")["status"]["version"] == NEWER

    # Its certificates are renewed on demand, and the new ones are served.
    before = _certificate(workload)
    kubeup.kubectl("annotate", "cluster", "demo", "kubeup.dev/renew-certificates=one")
    until(lambda: kubeup.get("cluster", "demo")["status"]["controlPlane"]["renewal"]["request"] == "one", "renewed", 480)
    assert _certificate(workload) != before
    assert "apiserver as served" in kubeup("certificates", "demo")

    kubeup("down", "--yes", seconds=300)
    assert machines.ps() == []


def test_workers_that_nobody_reaches_join_by_their_user_data(
    kubeup: Any, until: Callable[..., None], machines: Any, bundle: Callable[[str], dict[str, Any]]
) -> None:
    """Two Providers of one engine: kubeup runs nothing on the machines of the second, whose user-data is all that they are told."""
    kubernetes = bundle(BUILT)
    with _served(Path(kubernetes["bundle"]["path"]).parent if "bundle" in kubernetes else kubeup.home) as url:
        if "bundle" in kubernetes:
            kubernetes = kubernetes | {"bundle": {**kubernetes["bundle"], "path": f"{url}/{BUILT}.tar"}}
        quiet = {"type": "docker", "images": {"debian-12": machines.image}, "access": {"kind": "none"}}
        pool = {"cluster": "demo", "replicas": 2, "provider": "quiet", "machine": {"cpu": 1, "memory": "1Gi"}}
        more = [
            {"kind": "Provider", "metadata": {"name": "quiet"}, "spec": quiet},
            {"kind": "NodePool", "metadata": {"name": "workers"}, "spec": pool},
        ]
        text = cluster(kubernetes, 1, 0, machines.image) + "---\n"
        text += yaml.safe_dump_all({"apiVersion": "kubeup.dev/v1alpha1", **d} for d in more)
        kubeup("up", "-f", kubeup.write(text), "--timeout", "10m", seconds=660)
        workload = Workload(kubeup)
        assert _workers(workload) == {"workers-0", "workers-1"}
        for name in ("workers-0", "workers-1"):
            status = _machine(kubeup, name)["status"]
            assert workload.nodes()[name]["spec"]["providerID"] == status["providerID"]
            assert status["access"]["kind"] == "none"
            assert tuple(
                next(c["reason"] for c in status["conditions"] if c["type"] == t) for t in ("Reachable", "Bootstrapped")
            ) == ("NoAccess", "NodeJoined")
        workload.kubectl("apply", "-f", "-", stdin=WEB.replace("replicas: 2", "replicas: 1"))
        workload.kubectl("rollout", "status", "deployment/web", "--timeout=120s")

        # Their token is taken back, and gone from the machines.
        tokens = ("secrets", "-n", "kube-system", "--field-selector", "type=bootstrap.kubernetes.io/token")
        until(lambda: workload.get(*tokens)["items"] == [], "no token is left", 120)
        victim = _machine(kubeup, "workers-1")
        assert _inside(machines.host, victim["status"]["id"], "ls /var/lib/kubeup/boot").split() == [
            "lock", "log", "members", "start", "whoami",
        ]  # fmt: skip

        # One that is deleted by hand is replaced, by a launch with a token of its own.
        machines.remove(victim["status"]["id"])
        until(lambda: _replaced(kubeup, "workers", victim, 2), "another worker", 300)
        until(lambda: len(_workers(workload)) == 2, "two workers Ready", 120)
        kubeup("down", "--yes", seconds=300)
    assert machines.ps() == []


def test_a_cluster_on_hosts_that_somebody_owns_with_a_pair_of_balancers_survives_one_and_leaves_them_clean(
    kubeup: Any, until: Callable[..., None], machines: Any, bundle: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    """docs/examples/mixed.yaml: the hosts are containers with systemd and sshd; Provider rack knows them only as addresses that it may
    log in to. A second pool is made by the docker provider, in the hosts' network. What is the test's own is told to the file: where
    the hosts are, the free address and the network, machines that are small, and Kubernetes as a bundle."""
    key = tmp_path / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    hosts = _hosts(kubeup, machines, 4, key.with_suffix(".pub").read_text().strip())
    shared = f"{next(iter(hosts.values()))['address'].rpartition('.')[0]}.250"
    rack = {
        "key": {"path": str(key)},
        "hosts": [{"name": n, "address": h["address"], "hostKey": h["key"]} for n, h in hosts.items()],
    }
    small = {"cpu": 1, "memory": "512Mi", "disk": "1Gi"}
    network = next(iter(hosts.values()))["network"]
    documents = list(yaml.safe_load_all(MIXED.read_text()))
    spec = {d["metadata"]["name"]: d["spec"] for d in documents}
    spec["rack"]["config"] = rack
    spec["engine"]["images"] = {"debian-12": machines.image}
    spec["demo"] |= {"kubernetes": bundle(BUILT), "machine": small, "overrides": {"docker": {"network": network}}}
    spec["demo"]["endpoint"]["host"] = shared
    file = kubeup.write(yaml.safe_dump_all(documents), "rack.yaml")
    try:
        kubeup("up", "-f", file, "--timeout", "12m", seconds=780)
        workload = Workload(kubeup)
        assert f"https://{shared}:6443" in Path(workload.file).read_text()
        assert workload.ready() == {"demo-control-plane-0", "workers-0", "more-0"}
        assert kubeup("providers", "hosts", "rack").count("Claimed") == 4
        _reach_each_other(workload, until)

        # The machine that holds the API's address stops.
        def holds(name: str) -> bool:
            return bool(_inside(machines.host, hosts[name]["id"], f"ip -o address show to {shared}").strip())

        balancers = {
            h["name"] for p in kubeup.get("providers")["items"] for h in p["status"].get("hosts") or ()
            if str(h.get("machine")).startswith("demo-api-lb")
        }  # fmt: skip
        assert len(balancers) == 2
        (holder,) = [name for name in balancers if holds(name)]
        (other,) = balancers - {holder}
        began = time.monotonic()
        _docker(machines.host, "pause", hosts[holder]["id"])
        until(lambda: _ready_there(shared), "the API answers", 60)
        silence = time.monotonic() - began
        print(f"the machine with the API's address stopped, and the API answered again after {silence:.1f} s")
        assert holds(other)
        assert silence < 5
        _docker(machines.host, "unpause", hosts[holder]["id"])
        until(lambda: [holds(name) for name in (holder, other)].count(True) == 1, "one machine has the address", 60)

        # keepalived is killed where it holds the address, so that systemd has to take it off there.
        (holder,) = [name for name in balancers if holds(name)]
        (other,) = balancers - {holder}
        _inside(machines.host, hosts[holder]["id"], "pkill -9 keepalived")
        until(lambda: [holds(name) for name in (holder, other)] == [False, True], "only the other machine has the address", 60)
        until(lambda: _ready_there(shared), "the API answers", 60)

        # It goes, and its hosts are as they were.
        kubeup.kubectl("delete", "cluster", "demo", "--wait=false")
        until(lambda: kubeup("providers", "hosts", "rack").count(" Free ") == 4, "four free hosts", 300)
        for host in hosts.values():
            folders = "/etc/kubernetes /var/lib/etcd /var/lib/kubeup /etc/kubeup/haproxy"
            left = f"ls -d {folders} 2>/dev/null; pgrep -l 'kube|etcd|haproxy|keepalived'"
            assert _inside(machines.host, host["id"], f"{left}; true").split() == []
            assert shared not in _inside(machines.host, host["id"], "ip -o address")
    finally:
        for host in hosts.values():
            subprocess.run(["docker", "-H", machines.host, "unpause", host["id"]], capture_output=True, check=False)
        _given_back(kubeup, until, "demo")
    assert machines.ps() == []


def test_the_example_for_docker_runs_on_hosts_when_that_line_alone_is_changed(
    kubeup: Any, until: Callable[..., None], machines: Any, bundle: Callable[[str], dict[str, Any]], tmp_path: Path
) -> None:
    """`make local` runs docs/examples/docker.yaml on the engine, further below; here it runs on hosts that let a key in."""
    key = tmp_path / "id_ed25519"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    hosts = _hosts(kubeup, machines, 3, key.with_suffix(".pub").read_text().strip())
    entries = [{"name": n, "address": h["address"], "hostKey": h["key"]} for n, h in hosts.items()]
    rack = {"type": "ssh", "config": {"key": {"path": str(key)}, "hosts": entries}}
    provider = {"apiVersion": "kubeup.dev/v1alpha1", "kind": "Provider", "metadata": {"name": "rack"}, "spec": rack}
    kubeup("apply", "-f", kubeup.write(yaml.safe_dump(provider), "rack.yaml"))
    line = "provider: docker"
    text = EXAMPLE.read_text()
    assert text.count(line) == 1
    documents = list(yaml.safe_load_all(text.replace(line, "provider: rack")))
    documents[0]["spec"]["kubernetes"] = bundle(BUILT)
    try:
        kubeup("up", "-f", kubeup.write(yaml.safe_dump_all(documents)), "--timeout", "12m", seconds=780)
        workload = Workload(kubeup, documents[0]["metadata"]["name"])
        assert len(workload.ready()) == 3
        assert {m["status"]["resolved"]["provider"] for m in kubeup.machines() if m["spec"]["cluster"] == "local"} == {"rack"}
        _reach_each_other(workload, until)
        kubeup.kubectl("delete", "cluster", "local", "--wait=false")
        until(lambda: kubeup("providers", "hosts", "rack").count(" Free ") == 3, "three free hosts", 300)
    finally:
        _given_back(kubeup, until, "local")
    assert machines.ps() == []


def _held(machines: Any) -> str:
    """The version of the packages on the one machine, which a person's `apt-get upgrade` leaves alone."""
    (machine,) = machines.ps()
    said = _inside(machines.host, machine["Id"], "dpkg -s kubelet | sed -n 's/^Version: //p'; apt-mark showhold").split()
    assert {"kubeadm", "kubelet"} <= set(said[1:])
    return f"v{said[0].partition('-')[0]}"


def _given_back(kubeup: Any, until: Callable[..., None], cluster: str) -> None:
    """The cluster on the hosts goes, and then the hosts: a cluster is gone when all its hosts have said so."""
    kubeup.kubectl("patch", "cluster", "yard", "--type=merge", "-p", '{"spec": {"paused": false}}')
    for name in (cluster, "yard"):
        kubeup.kubectl("delete", "cluster", name, "--ignore-not-found", "--wait=false")
        until(
            lambda name=name: name not in {c["metadata"]["name"] for c in kubeup.get("clusters")["items"]},
            f"{name} is gone",
            300,
        )


def _hosts(kubeup: Any, machines: Any, count: int, key: str) -> dict[str, dict[str, str]]:
    """Containers that stand for hosts, which let this key in: name -> address, key (the host's), id (the container's) and network."""
    documents = [
        {
            "kind": "Provider",
            "metadata": {"name": "engine"},
            "spec": {"type": "docker", "images": {"debian-12": machines.image}},
        },
        {"kind": "Cluster", "metadata": {"name": "yard"}, "spec": {"provider": "engine"}},
        {
            "kind": "NodePool",
            "metadata": {"name": "host"},
            "spec": {"cluster": "yard", "replicas": count, "machine": {"cpu": 2, "memory": "2Gi", "sshKeys": [key]}},
        },
    ]
    text = yaml.safe_dump_all({"apiVersion": "kubeup.dev/v1alpha1", **d} for d in documents)
    kubeup("up", "-f", kubeup.write(text, "yard.yaml"), "--timeout", "5m", seconds=330)
    found = {}
    for machine in kubeup.machines():
        status = machine["status"]
        address = next(a["address"] for a in status["addresses"] if a["type"] == "InternalIP")
        told = "until [ -s /etc/ssh/ssh_host_ed25519_key.pub ]; do sleep 1; done; cut -d ' ' -f 1,2 /etc/ssh/ssh_host_ed25519_key.pub"
        public = _inside(machines.host, status["id"], told).strip()
        (network,) = machines.call("GET", f"/containers/{status['id']}/json")["NetworkSettings"]["Networks"]
        found[machine["metadata"]["name"]] = {"address": address, "key": public, "id": status["id"], "network": network}
    kubeup.kubectl("patch", "cluster", "yard", "--type=merge", "-p", '{"spec": {"paused": true}}')
    return found


def _docker(host: str, *words: str) -> None:
    subprocess.run(["docker", "-H", host, *words], capture_output=True, check=True, timeout=60)


def test_make_local_ends_with_the_nodes_of_a_new_cluster(
    kubeup: Any, docker_node: Any, kubernetes_bundle_inputs: Any, tmp_path: Path
) -> None:
    kubernetes_bundle_inputs("v1.20.2")  # built once, before the clock of this test's commands runs
    own = {"KUBEUP_TEST_CACHE": str(cache()), "KUBEUP_LOCAL": str(tmp_path / "local"), "PATH": os.environ["PATH"]}
    kubeup.env.update({**docker_node.env, **own})

    def local(verb: str, seconds: float) -> str:
        command = [sys.executable, "tests/artifacts", verb]
        done = subprocess.run(command, cwd=ROOT, env=kubeup.env, capture_output=True, text=True, timeout=seconds, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    try:
        out = local("local", 1500)
        ours = replace(docker_node, only=kubeup.marked)
        nodes = [line.split() for line in out.splitlines() if line.startswith(("local-control-plane-", "workers-"))]
        assert [(name, state) for name, state, *_ in nodes] == [
            ("local-control-plane-0", "Ready"), ("workers-0", "Ready"), ("workers-1", "Ready"),
        ]  # fmt: skip
        assert f"export KUBECONFIG={kubeup.state}/kubeconfig-local" in out
    finally:
        local("local-down", 300)
    assert ours.ps() == []


# -- below -----------------------------------------------------------------------------------------------------------------


def _true(obj: dict[str, Any], type_: str) -> bool:
    return any(c["type"] == type_ and c["status"] == "True" for c in obj["status"].get("conditions") or ())


def _machine(kubeup: Any, name: str) -> dict[str, Any]:
    return next(m for m in kubeup.machines() if m["metadata"]["name"] == name)


def _replaced(kubeup: Any, pool: str, victim: dict[str, Any], count: int) -> bool:
    ready = [m for m in kubeup.machines(ready=True) if m["spec"].get("pool") == pool]
    return len(ready) == count and victim["metadata"]["uid"] not in {m["metadata"]["uid"] for m in ready}


def _reach_each_other(workload: Workload, until: Callable[..., None]) -> None:
    """Pods on two nodes, through a Service."""
    workload.kubectl("apply", "-f", "-", stdin=WEB)
    workload.kubectl("rollout", "status", "deployment/web", "--timeout=120s")
    pods = workload.get("pods", "-l", "app=web")["items"]
    assert len({p["spec"]["nodeName"] for p in pods}) == 2
    address = workload.get("service", "web")["spec"]["clusterIP"]
    ask = f"for i in 1 2 3 4 5 6 7 8; do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {address} 80 | tail -n 1; done"
    names = {p["metadata"]["name"] for p in pods}
    for name in names:
        until(
            lambda name=name: set(workload.kubectl("exec", name, "--", "sh", "-c", ask).split()) == names,
            "both pods answer",
            120,
        )


def _joined(kubeup: Any, pool: str) -> set[str]:
    """Machines whose bootstrap is over and whose Node kubeup has seen: from here on they are drained before they go."""
    own = [m for m in kubeup.machines() if m["spec"].get("pool") == pool]
    return {m["metadata"]["name"] for m in own if _true(m, "Bootstrapped") and m["status"].get("nodeRef")}


def _workers(workload: Workload) -> set[str]:
    return {name for name in workload.nodes() if name.startswith("workers-")} & workload.ready()


def _labelled(workload: Workload, name: str) -> bool:
    node = workload.nodes()[name]
    taints = [(t["key"], t["effect"]) for t in node["spec"].get("taints") or ()]
    return node["metadata"]["labels"].get("tier") == "web" and ("only", "PreferNoSchedule") in taints


def _etcd(workload: Workload) -> list[str]:
    """Names of the healthy members, as etcd itself tells them."""
    pods = [p for p in workload.get("pods", "-n", "kube-system", "-l", "component=etcd")["items"] if _true(p, "Ready")]
    if not pods:
        return []
    pki = "/etc/kubernetes/pki/etcd"
    health = [
        "etcdctl", "--endpoints", "https://127.0.0.1:2379", "--cacert", f"{pki}/ca.crt", "--cert", f"{pki}/peer.crt",
        "--key", f"{pki}/peer.key", "endpoint", "health", "--cluster", "-w", "json",
    ]  # fmt: skip
    version3 = () if OFFICIAL else ("busybox", "env", "ETCDCTL_API=3")  # the community's image has etcdctl alone, a newer one
    said = workload.kubectl("exec", "-n", "kube-system", pods[0]["metadata"]["name"], "--", *version3, *health)
    members, _ = json.JSONDecoder().raw_decode(said)  # what was said to stderr stands behind it
    return [member["endpoint"] for member in members if member["health"]]


def _certificate(workload: Workload) -> str:
    """The certificate that the API server shows."""
    (cluster,) = yaml.safe_load(Path(workload.file).read_text())["clusters"]
    host, _, port = cluster["cluster"]["server"].removeprefix("https://").rpartition(":")
    return ssl.get_server_certificate((host, int(port)), timeout=30)


def _ready_there(address: str) -> bool:
    """Whether the API says so on a new connection, within a second; anybody may ask that."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = HTTPSConnection(address, 6443, timeout=1, context=context)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _log(host: str, container: str) -> list[str]:
    script = "journalctl -n 8 --no-pager -o cat -u kubelet -u containerd -u haproxy | cut -c-160"
    return ["docker", "-H", host, "exec", container, "sh", "-c", script]


def _inside(host: str, container: str, script: str) -> str:
    command = ["docker", "-H", host, "exec", container, "sh", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """URL of a folder, as machines reach it."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{_address()}:{server.server_port}"
        finally:
            server.shutdown()


def _address() -> str:
    """An address of this machine that its containers reach: the one that its own route to elsewhere begins with."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])


def _sha256(file: Path) -> str:
    from kubeup_kubeadm.bundle import file_hash

    return str(file_hash(file))

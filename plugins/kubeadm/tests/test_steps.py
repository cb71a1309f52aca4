"""The steps as data: which, in which order, and what may be in them. That they work is proven on machines, elsewhere."""

import shutil
import subprocess
from importlib.resources import files

import pytest
import yaml
from kubeup_core import InvalidSpec
from kubeup_core.bootstrapper import Archive, Peer, Task
from kubeup_kubeadm import build

BOOTSTRAPPER = build()
BUNDLE = Archive(path="/bundles/k.tar", sha256="ab" * 32)
BY_URL = Archive(path="https://files.example.org/k.tar", sha256="ab" * 32)
SOURCES = {"bundle": {"bundle": BUNDLE}, "packages": {}, "preinstalled": {}, "auto": {}}


def names(steps) -> list[str]:
    return [step.name for step in steps]


@pytest.fixture
def every(plan, node, secrets):
    """All steps of all tasks, roles, sources and a few versions."""

    def make(*versions: str):
        for version in versions:
            for source, given in SOURCES.items():
                peers = (Peer(name="demo-1", address="10.0.0.11"), Peer(name="demo-2", address="10.0.0.12"))
                config = {"registryMirrors": {"docker.io": ["http://10.0.0.1:5000"]}}
                cluster = plan(version, source=source, control_planes=peers, config=config, **given)
                for task in Task:
                    for role in ("controlPlane", "worker"):
                        for first in (True, False):
                            yield from BOOTSTRAPPER.steps(task, cluster, node(role, first=first), secrets)

    return make


def test_a_machine_is_prepared_in_this_order(plan, node):
    with_bundle = plan("v1.20.2", source="bundle", bundle=BUNDLE)
    assert names(BOOTSTRAPPER.steps(Task.PREPARE, with_bundle, node())) == [
        "machine", "bundle", "system", "kubernetes", "containerd", "kubelet", "images-1-20-2",
    ]  # fmt: skip
    assert "bundle" not in names(BOOTSTRAPPER.steps(Task.PREPARE, plan(source="packages"), node()))


def test_a_bundle_by_url_is_fetched_by_the_machine_and_nothing_is_sent(plan, node):
    cluster = plan("v1.20.2", bundle=BY_URL)
    assert BOOTSTRAPPER.check(cluster) == ()
    (step,) = [s for s in BOOTSTRAPPER.steps(Task.PREPARE, cluster, node()) if s.name == "bundle"]
    assert step.files == ()
    assert "URL=https://files.example.org/k.tar" in step.script


def test_init_and_join_are_in_this_order(plan, node, secrets):
    assert names(BOOTSTRAPPER.steps(Task.INIT, plan(), node("controlPlane"), secrets)) == ["clock", "network", "init", "ready"]
    assert names(BOOTSTRAPPER.steps(Task.JOIN, plan(), node("controlPlane"), secrets)) == ["reach", "network", "join", "ready"]
    assert names(BOOTSTRAPPER.steps(Task.JOIN, plan(), node(), secrets)) == ["reach", "network", "join"]
    assert "network" not in names(BOOTSTRAPPER.steps(Task.JOIN, plan(cni="none"), node(), secrets))


def test_an_upgrade_swaps_kubeadm_first_and_the_kubelet_last(plan, node):
    cluster = plan("v1.20.3", source="bundle", bundle=BUNDLE)
    assert names(BOOTSTRAPPER.steps(Task.UPGRADE, cluster, node("controlPlane", first=True))) == [
        "runtime-1-20-3", "bundle", "kubeadm-1-20-3", "containerd-1-20-3", "images-1-20-3", "upgrade-1-20-3",
        "kubelet-1-20-3", "unit-1-20-3", "restart-1-20-3", "ready-1-20-3",
    ]  # fmt: skip
    first, other = (
        next(
            s
            for s in BOOTSTRAPPER.steps(Task.UPGRADE, cluster, node("controlPlane", first=is_first))
            if s.name.startswith("upgrade")
        )
        for is_first in (True, False)
    )
    assert "FIRST=yes" in first.script
    assert "FIRST=no" in other.script


def test_only_the_first_control_plane_of_1_20_settles_when_the_second_has_joined(plan, node):
    def settle(version: str, name: str, planes: int) -> list[str]:
        peers = tuple(Peer(name=f"demo-{i}", address=f"10.0.0.{i}") for i in range(1, planes + 1))
        return names(BOOTSTRAPPER.steps(Task.SETTLE, plan(version, control_planes=peers), node("controlPlane", name=name)))

    assert settle("v1.20.2", "demo-1", 2) == ["settle"]
    assert settle("v1.20.2", "demo-2", 2) == []
    assert settle("v1.20.2", "demo-1", 3) == []
    assert settle("v1.21.0", "demo-1", 2) == []


def test_names_are_labels_that_are_there_once(plan, node, secrets):
    for task in Task:
        given = names(BOOTSTRAPPER.steps(task, plan(), node("controlPlane", first=True), secrets))
        assert len(set(given)) == len(given)
        assert all(name.replace("-", "").isalnum() and name == name.lower() for name in given)


def test_every_step_has_a_title_a_remedy_and_a_time_limit(every):
    for step in every("v1.20.2", "v1.36.4"):
        assert step.title
        assert step.remedy
        assert 0 < step.timeout <= 1200


def test_the_same_plan_gives_the_same_steps(plan, node, secrets):
    cluster = plan(config={"featureGates": {"B": True, "A": False}, "registryMirrors": {"b": ["http://b"], "a": ["http://a"]}})
    for task in Task:
        assert BOOTSTRAPPER.steps(task, cluster, node(), secrets) == BOOTSTRAPPER.steps(task, cluster, node(), secrets)


def test_preparing_is_the_same_before_and_after_the_endpoint_is_known(plan, node):
    assert BOOTSTRAPPER.steps(Task.PREPARE, plan(host="", ca=""), node()) == BOOTSTRAPPER.steps(Task.PREPARE, plan(), node())


def test_secrets_are_in_secret_files_only(every, secrets):
    texts = [*secrets.pki.values(), secrets.token]
    texts.remove(secrets.pki["ca.crt"])
    for step in every("v1.20.2", "v1.36.4"):
        for text in texts:
            assert text not in step.script + step.check
            assert not [file for file in step.files if text.encode() in file.content and not file.secret]
        for file in step.files:
            assert not file.secret or (file.mode == 0o600 and file.path.startswith("/run/"))


def test_preparing_needs_no_secret(plan, node, secrets):
    for step in BOOTSTRAPPER.steps(Task.PREPARE, plan(), node("controlPlane"), secrets):
        assert not [file for file in step.files if file.secret]


def test_workers_get_no_key(plan, node, secrets):
    from dataclasses import replace

    steps = BOOTSTRAPPER.steps(Task.JOIN, plan(), node(), replace(secrets, pki={}))
    assert not [file for step in steps for file in step.files if b"PRIVATE KEY" in file.content]


def test_values_cannot_become_commands(plan, node, secrets):
    evil = "x'; touch /evil; '"
    for step in BOOTSTRAPPER.steps(Task.JOIN, plan(host="h", pod_cidr=evil), node(name=evil), secrets):
        result = subprocess.run(["sh", "-n"], input=step.script, text=True, capture_output=True)
        assert result.returncode == 0
        assert "'\"'\"'" in step.script or evil not in step.script


def test_every_script_is_posix_shell(every):
    seen = set()
    for step in every("v1.20.2", "v1.29.3", "v1.36.4"):
        for text in {step.script, step.check} - seen - {""}:
            seen.add(text)
            result = subprocess.run(["dash", "-n"], input=text, text=True, capture_output=True)
            assert result.returncode == 0, f"{step.name}: {result.stderr}"
    assert len(seen) > 30


def test_shellcheck_finds_nothing():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (apt-get install shellcheck)")
    scripts = sorted((files("kubeup_kubeadm") / "scripts").glob("*.sh"))
    # variables and functions come from the scripts beside them; /etc/os-release is the machine's
    command = ["shellcheck", "--shell=sh", "--format=gcc", "--exclude=SC1091,SC2034,SC2153,SC2154,SC2317", *map(str, scripts)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stdout == ""


@pytest.mark.parametrize("version", ["v1.20.2", "v1.29.3", "v1.36.4"])
def test_configuration_files_are_yaml(version, plan, node, secrets):
    for task in (Task.INIT, Task.JOIN, Task.PREPARE):
        for step in BOOTSTRAPPER.steps(task, plan(version), node("controlPlane"), secrets):
            for file in step.files:
                if file.path.endswith(".yaml"):
                    assert all("kind" in document for document in yaml.safe_load_all(file.content))


def test_mirrors_are_told_to_containerd(plan, node):
    cluster = plan(config={"registryMirrors": {"docker.io": ["http://10.0.0.1:5000"]}})
    step = next(step for step in BOOTSTRAPPER.steps(Task.PREPARE, cluster, node()) if step.name == "containerd")
    assert step.files[0].path == "/etc/containerd/certs.d/docker.io/hosts.toml"
    text = step.files[0].content.decode()
    assert text.startswith('server = "https://registry-1.docker.io"')
    assert '[host."http://10.0.0.1:5000"]' in text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"version": "v1.19.1"}, "is not known to kubeup-kubeadm"),
        ({"version": "v1.36.4", "source": "bundle"}, "no bundle is named"),
        ({"version": "v1.20.2", "source": "packages"}, "no longer have packages of v1.20.2"),
        ({"version": "v1.36.4", "bundle": Archive(path="/nowhere/k.tar", sha256="0" * 64)}, "/nowhere/k.tar cannot be read"),
        ({"version": "v1.36.4", "repository": "http://mirror/"}, "the repository's key would come over http"),
        (
            {"version": "v1.36.4", "config": {"packages": {"keyUrl": "http://mirror/Release.key"}}},
            "the repository's key would come over http",
        ),
        ({"version": "v1.28.15", "config": {"proxyMode": "nftables"}}, "kube-proxy v1.28 does not have the mode nftables"),
        ({"version": "v1.30.1", "config": {"proxyMode": "nftables"}}, "nftables without its feature gate"),
        ({"version": "v1.30.1", "config": {"extraArgs": {"etcd": {"a": ["1", "2"]}}}}, "--a is given 2 times"),
    ],
)
def test_a_plan_that_cannot_work_is_one_clear_problem(given, message, plan):
    problems = BOOTSTRAPPER.check(plan(given.pop("version"), **given))
    assert len(problems) == 1
    assert message in problems[0].message
    assert problems[0].path.startswith("spec.kubernetes")
    assert problems[0].remedy


def test_a_plan_that_works_has_no_problem(plan):
    assert BOOTSTRAPPER.check(plan()) == ()
    assert BOOTSTRAPPER.check(plan("v1.20.2", source="packages", repository="https://mirror/v{minor}/{format}/")) == ()
    plain, gate = {"keySha256": "ab" * 32}, {"NFTablesProxyMode": True}
    for config in ({"packages": plain}, {"packages": {"keyUrl": "https://mirror/key"}}):
        assert BOOTSTRAPPER.check(plan(repository="http://mirror/", config=config)) == ()
    assert BOOTSTRAPPER.check(plan("v1.30.1", config={"proxyMode": "nftables", "featureGates": gate})) == ()
    assert BOOTSTRAPPER.check(plan("v1.31.0", config={"proxyMode": "nftables"})) == ()


def test_a_machine_without_a_version_that_nobody_has_packages_of_says_so(plan, node):
    steps = BOOTSTRAPPER.steps(Task.PREPARE, plan("v1.22.17"), node())
    step = next(step for step in steps if step.name == "kubernetes")
    text = step.script.replace("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "PATH=/nowhere")
    done = subprocess.run(["/bin/sh", "-eu"], input=text, capture_output=True, text=True)
    told = "kubeadm is not installed, and the community's repositories no longer have packages of v1.22.17"
    assert (done.returncode, done.stderr) == (1, f"kubeup: {told}\n")
    assert "name a repository that has it" in step.remedy
    named = BOOTSTRAPPER.steps(Task.PREPARE, plan("v1.22.17", repository="https://mirror/"), node())
    assert "DEB='https://mirror/ /'" in next(step for step in named if step.name == "kubernetes").script


def test_steps_of_an_unknown_version_are_refused(plan, node):
    with pytest.raises(InvalidSpec, match="is not known"):
        BOOTSTRAPPER.steps(Task.INIT, plan("v1.99.0"), node("controlPlane"))


def test_flannel_is_a_manifest_for_the_clusters_pods(plan):
    (addon,) = BOOTSTRAPPER.addons(plan(cni="flannel", pod_cidr="10.9.0.0/16"))
    kinds = [document["kind"] for document in yaml.safe_load_all(addon.manifest)]
    assert kinds == ["Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "ConfigMap", "DaemonSet"]
    assert '"Network": "10.9.0.0/16"' in addon.manifest.replace("\\", "")
    assert BOOTSTRAPPER.addons(plan()) == ()

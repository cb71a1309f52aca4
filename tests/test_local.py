"""`make local`: what it would do on different machines, how it does it there, and the cluster that it declares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from kubeup_artifacts import kubernetes, local, progress, system
from kubeup_artifacts.build import CannotBuild
from kubeup_artifacts.local import BUILD, ENGINE, EXAMPLE, Facts, decide, manifest, told

NOTHING = frozenset({*ENGINE, *BUILD})


def facts(**given: object) -> Facts:
    whole = {"installs": True, "engine": False, "community": True, "built": False, "lacks": frozenset(ENGINE), **given}
    return Facts(**whole)  # type: ignore[arg-type]


def test_a_bare_debian_as_root_gets_an_engine_and_the_communitys_kubernetes() -> None:
    plan = decide(facts())
    assert plan.install == ("docker.io", "iptables", "mmdebstrap")
    assert plan.start_engine
    assert not plan.build
    assert not plan.missing


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Has no engine, no systemd, an empty cache, and the commands in the folder that this is."""
    commands = tmp_path / "bin"
    commands.mkdir()
    monkeypatch.setattr(system, "PATH", str(commands))
    monkeypatch.setattr(local, "SYSTEMD", tmp_path / "no-systemd")
    for name, value in {
        "PATH": f"{commands}:/usr/bin:/bin", "KUBEUP_LOCAL": str(tmp_path / "local"), "KUBEUP_TEST_CACHE": str(tmp_path / "cache"),
        "DOCKER_HOST": f"unix://{tmp_path}/docker.sock",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return commands


def command(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_without_the_community_kubernetes_is_built_once() -> None:
    assert {"golang-go", "dpkg-dev"} <= set(decide(facts(community=False, lacks=NOTHING)).install)
    again = decide(facts(community=False, built=True, lacks=frozenset(BUILD)))
    assert again.build
    assert again.install == ()


def test_what_was_built_is_taken_on_a_machine_that_has_no_compiler_any_more(machine: Path) -> None:
    with pytest.raises(CannotBuild, match="golang-go"):
        kubernetes.built()
    before = Path(os.environ["KUBEUP_TEST_CACHE"], f"kubernetes-{'0' * 12}")
    for version in kubernetes.VERSIONS:
        for name in (*kubernetes.COMMANDS, "pause"):
            (before / version).mkdir(parents=True, exist_ok=True)
            (before / version / name).touch()
    assert kubernetes.built() == before
    (before / kubernetes.VERSIONS[1] / "kubelet").unlink()
    assert kubernetes.kept() is None


def test_packages_that_cannot_be_installed_end_it_with_what_apt_said(machine: Path) -> None:
    command(machine, "apt-get", 'echo "$@" >>"$0.calls"; [ "$1" = update ] || { echo "E: no such package" >&2; exit 100; }')
    with pytest.raises(CannotBuild, match=r"apt-get install failed \(100\): E: no such package"):
        local.install(["docker.io", "iptables"])
    install, update, again = (machine / "apt-get.calls").read_text().splitlines()
    assert install.endswith("--no-install-recommends docker.io iptables")
    assert (update, again) == ("update -qq", install)


def test_packages_that_can_be_installed_renew_no_lists(machine: Path) -> None:
    command(machine, "apt-get", 'echo "$@" >>"$0.calls"')
    local.install(["mmdebstrap"])
    assert len((machine / "apt-get.calls").read_text().splitlines()) == 1


def test_an_engine_that_ends_at_once_is_told_with_the_end_of_its_log(machine: Path) -> None:
    command(machine, "dockerd", "echo failed to start daemon: no space left on device >&2; exit 1")
    with pytest.raises(CannotBuild, match=r"ended at once, with code 1:\nfailed to start daemon: no space left"):
        local.start_engine()


def test_an_engine_that_answers_is_waited_for_and_goes_on_by_itself(
    machine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command(machine, "dockerd", f"touch {tmp_path}/answers; exec sleep 60")
    monkeypatch.setattr(local.engine, "answering", lambda: (tmp_path / "answers").exists() and "unix:///here")
    started = local.start_engine()
    assert started is not None
    with started:
        try:
            assert os.getsid(started.pid) == started.pid != os.getsid(0)
        finally:
            started.kill()


def test_a_service_that_does_not_start_is_told_at_once(machine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local, "SYSTEMD", tmp_path)
    command(machine, "systemctl", "exit 1")
    with pytest.raises(CannotBuild, match="systemctl status docker"):
        local.start_engine()


def test_the_community_is_asked_for_the_version_of_the_example(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "example.yaml").write_text("{kind: Cluster, spec: {kubernetes: {version: v1.99.1}}}")
    monkeypatch.setattr(local, "EXAMPLE", tmp_path / "example.yaml")
    assert local.packages() == "https://pkgs.k8s.io/core:/stable:/v1.99/deb/Release.key"


def test_on_a_terminal_a_step_is_a_bar_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr("sys.stderr", terminal)
        monkeypatch.setattr(progress.Step, "elapsed", 0.0)
        with progress.step("Image of machines", about=75):
            pass
        shown = ""
        while "done in" not in shown:
            shown += os.read(ours, 4096).decode()
    os.close(ours)
    first, *_, last = shown.split(progress.CLEAR)[1:]
    assert first == f"[{'.' * progress.BAR}]  0% Image of machines: 0 s, about 1:15 min left"
    assert last == "Image of machines: done in 0 s\r\n"


def test_a_bar_fills_with_what_is_done_and_fits_its_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    step = progress.Step("Build", about=100)
    monkeypatch.setattr(progress.Step, "elapsed", 60.0)
    step.share, step.note = 0.75, "750 of 1000 packages"
    assert step.bar(120) == f"[{'#' * 18}{'.' * 6}] 75% Build: 1:00 min, about 20 s left (750 of 1000 packages)"
    assert len(step.bar(40)) == 39


def test_an_engine_that_answers_is_used_and_not_installed() -> None:
    plan = decide(facts(engine=True, lacks=frozenset({"docker.io"})))
    assert plan.install == ()
    assert not plan.start_engine


def test_who_may_install_nothing_is_told_all_that_is_missing_at_once() -> None:
    plan = decide(facts(installs=False, community=False, lacks=NOTHING))
    text = "\n".join(plan.missing)
    for word in ("docker.io", "mmdebstrap", "golang-go", "DOCKER_HOST", "sudo make local", "pkgs.k8s.io"):
        assert word in text
    assert not plan.install


def test_an_installed_engine_that_does_not_run_is_a_persons_to_start_unless_root() -> None:
    assert "start Docker" in decide(facts(installs=False, lacks=frozenset())).missing[0]
    assert decide(facts(lacks=frozenset())).start_engine


def test_it_says_beforehand_what_it_will_do() -> None:
    lines = told(decide(facts(community=False, lacks=NOTHING)))
    assert "docker.io" in lines[0]
    assert "starts the Docker engine" in lines
    assert "source package" in lines[-1]


def test_the_cluster_is_the_example_and_with_a_bundle_only_its_kubernetes_differs() -> None:
    text = EXAMPLE.read_text()
    assert manifest(text, None) == text
    before, after = (list(yaml.safe_load_all(t)) for t in (text, manifest(text, {"path": "/b.tar", "sha256": "0" * 64})))
    assert after[0]["spec"].pop("kubernetes")["bundle"] == {"path": "/b.tar", "sha256": "0" * 64}
    before[0]["spec"].pop("kubernetes")
    assert before == after

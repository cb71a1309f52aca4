"""The steps as a runbook: what the controllers would run, without anything secret; and a script that does it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubeup_core.bootstrapper import File, Step, Task
from kubeup_core.controllers.runbook import TOKEN, Chapter, Objects, Runbook, script, shown
from kubeup_core.kinds import Cluster, LoadBalancer, Machine, NodePool, Secret
from kubeup_core.objects import ObjectMeta
from kubeup_core.testing.harness import Harness
from kubeup_core.testing.rehearsal import NAME, Rehearsal

pytest.importorskip("kubeup_sim", reason="the simulated cloud is the distribution kubeup-sim: pip install kubeup-sim")


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    rehearsal = Rehearsal()
    with Harness(tmp_path_factory.mktemp("h"), plugins=rehearsal.plugins(), cloud={"boot_seconds": (1, 1)}) as h:
        rehearsal.follow(h)
        h.provider()
        kubernetes = {"version": "v1.34.1", "bootstrapper": NAME}
        files = [
            {"path": "/etc/motd", "content": "hello\n"},
            {"path": "/etc/registry", "mode": "0600", "secretRef": {"name": "registry", "key": "password"}},
        ]
        template = {"files": files, "sshKeys": ["ssh-ed25519 AAAA me"]}
        spec = {"provider": "sim", "kubernetes": kubernetes, "controlPlane": {"replicas": 3}, "machine": template}
        h.client.create(
            Secret(metadata=ObjectMeta(name="registry", namespace="default"), data={"password": "aHVudGVyMi1odW50ZXIy"})
        )
        h.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": spec})
        h.apply({"kind": "NodePool", "metadata": {"name": "web"}, "spec": {"cluster": "demo", "replicas": 2}})
        h.until(lambda: h.get(Cluster, "demo").status.is_true("Ready"), 1800)
        yield h


def runbook(h: Harness) -> Runbook:
    objects = [o for kind in (Machine, NodePool, LoadBalancer, Secret) for o in h.all(kind)]
    return Runbook(Rehearsal(), h.get(Cluster, "demo"), Objects(objects))


def test_the_first_control_plane_begins_the_others_join_and_the_workers_come_last(harness: Harness) -> None:
    book = runbook(harness)
    machines = book.machines()
    assert [m.spec.role for m in machines] == ["controlPlane"] * 3 + ["worker"] * 2
    tasks = [(c.task, tuple(m.name for m in c.machines)) for c in book.chapters(machines)]
    first = harness.get(Cluster, "demo").status.control_plane.first
    assert [names for task, names in tasks if task is Task.INIT] == [(first,)]
    assert {name for task, names in tasks if task is Task.JOIN for name in names} == {m.name for m in machines} - {first}
    assert [task for task, _ in tasks] == sorted((task for task, _ in tasks), key=[Task.PREPARE, Task.INIT, Task.JOIN].index)


def test_machines_with_the_same_steps_share_a_chapter(harness: Harness) -> None:
    book = runbook(harness)
    (prepare,) = book.chapters(book.machines(), Task.PREPARE)
    assert len(prepare.machines) == 5


def test_nothing_in_a_runbook_is_secret(harness: Harness) -> None:
    book = runbook(harness)
    text = "".join(script([c], "x") for c in book.chapters(book.machines()))
    assert "PRIVATE KEY" not in text
    for secret in harness.all(Secret):
        for key, value in (secret.data or {}).items():
            assert key == "tls.crt" or value not in text


def test_the_templates_files_and_keys_come_before_the_bootstrappers_steps_and_secrets_are_named(harness: Harness) -> None:
    book = runbook(harness)
    (prepare,) = book.chapters(book.machines(), Task.PREPARE)
    assert [step.name for step in prepare.steps] == ["machine-files", "runtime", "kubelet"]
    contents = {file.path: file.content for file in prepare.steps[0].files}
    assert contents == {
        "/etc/motd": b"hello\n",
        "/etc/registry": b"(password of Secret default/registry)\n",
        "/etc/ssh/authorized_keys.d/root": b"ssh-ed25519 AAAA me\n",
    }
    text = script([prepare], "x")
    assert "put password of Secret default/registry into /etc/registry first" in text
    held = harness.get(Secret, "registry")
    assert "hunter2" not in text
    assert (held.data or {})["password"] not in text


def test_tasks_of_control_planes_have_no_steps_on_workers(harness: Harness) -> None:
    book = runbook(harness)
    workers = [m for m in book.machines() if m.spec.role == "worker"]
    assert book.chapters(workers, Task.SNAPSHOT) == []


# -- the script ------------------------------------------------------------------------------------------------------------


def run(steps: tuple[Step, ...], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    text = script([Chapter(task=Task.PREPARE, machines=(), steps=steps)], "a test")
    file = folder / "script.sh"
    file.write_text(text.replace('[ "$(id -u)" = 0 ]', "true"))
    return subprocess.run(
        ["sh", str(file)], capture_output=True, text=True, timeout=60, env={**os.environ, **environment}, check=False
    )


def test_a_script_puts_files_runs_steps_in_order_and_can_be_run_again(tmp_path: Path) -> None:
    log, conf = tmp_path / "log", tmp_path / "new" / "a file.conf"
    file = File(path=str(conf), content=b"it's $HOME\n\xc3\xa9", mode=0o600)
    steps = (
        Step(
            name="one",
            title="it's the first",
            script=f"cat '{conf}' >/dev/null\necho one >>{log}\ncat >/dev/null",
            files=(file,),
        ),
        Step(name="two", title="the second", script=f"echo two >>{log}", check=f"grep -q two {log}"),
    )
    done = run(steps, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[1/2] it's the first\n[2/2] the second\n"
    assert conf.read_bytes() == file.content
    assert conf.stat().st_mode & 0o777 == 0o600
    assert run(steps, tmp_path).returncode == 0
    assert log.read_text().split() == ["one", "two", "one"], "what its check finds done is not done again"


def test_a_script_stops_at_the_first_step_that_fails(tmp_path: Path) -> None:
    steps = (Step(name="a", title="a", script="false\ntrue"), Step(name="b", title="b", script=f"touch {tmp_path}/b"))
    assert run(steps, tmp_path).returncode != 0
    assert not (tmp_path / "b").exists()


def test_a_script_says_which_large_file_or_key_has_to_be_brought_first(tmp_path: Path) -> None:
    bundle, key = tmp_path / "bundle.tar", tmp_path / "ca.key"
    digest = hashlib.sha256(b"bundle").hexdigest()
    steps = (
        Step(name="a", title="a", script="true", files=(File(path=str(bundle), source="/here/b.tar", sha256=digest),)),
        Step(
            name="b",
            title="b",
            script="true",
            files=(File(path=str(key), content=b"(tls.key of Secret demo-ca)\n", secret=True),),
        ),
    )
    assert f"copy /here/b.tar of the machine that kubeup runs on to {bundle} first" in run(steps, tmp_path).stderr
    bundle.write_bytes(b"bundle")
    assert f"put tls.key of Secret demo-ca into {key} first" in run(steps, tmp_path).stderr
    key.write_text("a key")
    assert run(steps, tmp_path).returncode == 0
    assert key.read_text() == "a key"


def test_a_script_that_joins_asks_for_a_token_before_it_does_anything(tmp_path: Path) -> None:
    config, log = tmp_path / "run" / "join.yaml", tmp_path / "log"
    join = File(path=str(config), content=f"token: {TOKEN}\nname: a\n".encode(), mode=0o600, secret=True)
    steps = (
        Step(name="a", title="a", script=f"echo a >>{log}"),
        Step(name="join", title="joins", script=f"stat -c %a {config} >>{log}", files=(join,)),
    )
    for without in ({}, {"TOKEN": ""}):
        refused = run(steps, tmp_path, **without)
        assert refused.returncode != 0
        assert "TOKEN: make one on a control plane with: kubeadm token create" in refused.stderr
    wrong = run(steps, tmp_path, TOKEN="x/y")
    assert (wrong.returncode, "TOKEN is not a bootstrap token" in wrong.stderr) == (1, True)
    assert not log.exists(), "nothing was done"
    done = run(steps, tmp_path, TOKEN="012345.fedcba9876543210")
    assert done.returncode == 0, done.stderr
    assert config.read_text() == "token: 012345.fedcba9876543210\nname: a\n"
    assert log.read_text().split() == ["a", "600"]
    assert shown(join) == "token: (a bootstrap token)\nname: a\n"


def test_a_script_without_a_join_asks_for_no_token(tmp_path: Path) -> None:
    plain = File(path=str(tmp_path / "f"), content=f"as in {TOKEN}".encode())
    assert run((Step(name="a", title="a", script=":", files=(plain,)),), tmp_path).returncode == 0
    assert plain.content == (tmp_path / "f").read_bytes()

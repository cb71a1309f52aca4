"""What a machine does with the jobs in its user-data, for real: on this machine, in folders of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from kubeup_core.bootstrapper import Step
from kubeup_core.bootstrapping import results
from kubeup_core.bootstrapping.job import Job, pack, poll_script, unpack_script
from kubeup_core.bootstrapping.seed import at_boot, boot, seed


class Machine:
    """whoami: the shell that tells its members apart."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "var lib"
        self.console = folder / "console"
        self.folder = self.root / "boot"
        self.folder.mkdir(parents=True)

    def told(self, *members: tuple[str, list[Job]], whoami: str = "echo nobody") -> None:
        (self.folder / "seed").write_bytes(seed(members, whoami))
        files = ["start", "whoami", "members"]
        subprocess.run(["tar", "-xzf", "seed", *files], cwd=self.folder, check=True)

    def boots(self, tries: int = 1) -> int:
        """To its end; the exit code."""
        env = os.environ | {"KUBEUP_CONSOLE": str(self.console)}
        command = ["sh", str(self.folder / "start"), str(self.root), str(tries), "run"]
        return subprocess.run(command, env=env, stdout=subprocess.DEVNULL, timeout=120).returncode

    def poll(self, job: Job, attempt: int = 1) -> results.Polled:
        script = poll_script(job.name, attempt, 0, str(self.root))
        return results.read(subprocess.run(["sh", "-c", script], capture_output=True, check=True).stdout)


def step(name: str, script: str) -> Step:
    return Step(name=name, title=f"does {name}", script=script)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def trace(tmp_path):
    return tmp_path / "trace"


def test_jobs_run_in_order_once_and_the_seed_is_gone(machine, trace):
    prepare, join = pack([step("one", f"echo one >>{trace}")]), pack([step("two", f"echo two >>{trace}")])
    machine.told(("a", [prepare, join]))
    assert machine.boots() == 0
    assert trace.read_text().split() == ["one", "two"]
    assert not (machine.folder / "seed").exists()
    assert machine.boots() == 0
    assert trace.read_text().split() == ["one", "two"]
    assert "all steps of its user-data were done" in machine.console.read_text()


def test_access_later_finds_the_same_job_done(machine, trace):
    prepare = pack([step("one", f"echo one >>{trace}")])
    machine.told(("a", [prepare]))
    assert machine.boots() == 0
    assert machine.poll(prepare).lines[-1] == "finished"
    wider = pack([step("one", f"echo one >>{trace}"), step("two", f"echo two >>{trace}")])
    subprocess.run(["sh", "-c", unpack_script(wider.name, 0, str(machine.root))], input=wider.archive, check=True)
    end = time.monotonic() + 60
    while (polled := machine.poll(wider)).word != "over":
        assert time.monotonic() < end, polled
        time.sleep(0.1)
    assert [line.state for line in polled.lines[:-1] if line.state != "running"] == ["skipped", "done"]
    assert trace.read_text().split() == ["one", "two"]


def test_what_access_has_begun_is_waited_for_and_not_done_again(machine, trace, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    prepare = pack([step("one", f"echo one >>{trace}; cat {fifo} >>{trace}")])
    subprocess.run(["sh", "-c", unpack_script(prepare.name, 0, str(machine.root))], input=prepare.archive, check=True)
    assert machine.poll(prepare).word == "started"
    machine.told(("a", [prepare]))
    command = ["sh", str(machine.folder / "start"), str(machine.root), "1", "run"]
    began = subprocess.Popen(command, env=os.environ | {"KUBEUP_CONSOLE": str(machine.console)}, stdout=subprocess.DEVNULL)
    fifo.write_text("two\n")
    assert began.wait(60) == 0
    assert trace.read_text().split() == ["one", "two"]


@pytest.mark.parametrize("says", ["b", "b.example.org", "1"])
def test_members_are_told_apart_by_name_or_index(machine, trace, says):
    members = [(name, [pack([step("who", f"echo {name} >>{trace}")])]) for name in ("a", "b", "c")]
    machine.told(*members, whoami=f"echo {says}")
    assert machine.boots() == 0
    assert trace.read_text() == "b\n"


def test_one_that_does_not_know_yet_who_it_is_asks_again(machine, trace, tmp_path):
    members = [(name, [pack([step("who", f"echo {name} >>{trace}")])]) for name in ("a", "b")]
    machine.told(*members, whoami=f"[ -e {tmp_path}/asked ] && echo a; : >{tmp_path}/asked")
    assert machine.boots() == 0
    assert trace.read_text() == "a\n"
    assert "does not know yet which one it is" in machine.console.read_text()


def test_a_failed_step_is_told_on_the_console_and_tried_again_where_nobody_else_could(machine, trace):
    failing = pack([step("odd", f"echo try >>{trace}; echo because >&2; [ $(wc -l <{trace}) -ge 2 ]")])
    machine.told(("a", [failing]))
    assert machine.boots(tries=0) == 0
    assert trace.read_text().split() == ["try", "try"]
    assert "kubeup: step odd failed\nkubeup:   because\n" in machine.console.read_text()


def test_with_a_way_in_a_failure_is_left_to_whoever_comes_over_it(machine, trace):
    failing = pack([step("odd", f"echo try >>{trace}; false")])
    later = pack([step("later", f"echo later >>{trace}")])
    machine.told(("a", [failing, later]))
    assert machine.boots() == 1
    assert trace.read_text().split() == ["try"]
    assert machine.poll(failing).lines[-1] == "failed"
    assert machine.boots() == 0, "nothing is left to start at the next boot"


def test_a_machine_that_reboots_in_the_middle_goes_on(machine, trace, tmp_path):
    """The first boot ends while the second step runs: both the script and the runner are killed."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    hang = f"echo two >>{trace}; if [ -e {tmp_path}/again ]; then exit 0; fi; echo $$ >{fifo}; sleep 600"
    job = pack([step("one", f"echo one >>{trace}"), replace(step("two", hang), timeout=30)])
    machine.told(("a", [job]))
    command = ["sh", str(machine.folder / "start"), str(machine.root), "0", "run"]
    began = subprocess.Popen(command, env=os.environ | {"KUBEUP_CONSOLE": str(machine.console)}, stdout=subprocess.DEVNULL)
    running = int(fifo.read_text())
    began.kill()
    began.wait()
    _kill_runner(machine.root)
    os.killpg(running, 9)
    subprocess.run(["flock", str(machine.folder / "lock"), "true"], check=True, timeout=60)
    (tmp_path / "again").touch()
    assert machine.boots(tries=0) == 0
    assert trace.read_text().split() == ["one", "two", "two"]


def _kill_runner(root: Path) -> None:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(root).encode() in words and b"run" in words:
            os.kill(int(process.name), 9)


def test_starting_does_not_wait_for_the_steps(machine, trace, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    machine.told(("a", [pack([step("slow", f"cat {fifo} >{trace}")])]))
    env = os.environ | {"KUBEUP_CONSOLE": str(machine.console)}
    subprocess.run(["sh", str(machine.folder / "start"), str(machine.root), "1"], env=env, check=True, timeout=60)
    fifo.write_text("slow\n")  # it waits for this
    subprocess.run(["flock", str(machine.folder / "lock"), "true"], check=True, timeout=60)
    assert machine.boots() == 0
    assert trace.read_text() == "slow\n"


def test_the_same_jobs_give_the_same_bytes_and_alike_ones_are_small():
    jobs = [(f"m-{i}", [pack([step("who", f": {'text ' * 500} {i}")])]) for i in range(50)]
    assert seed(jobs, "hostname") == seed(jobs, "hostname")
    assert len(seed(jobs, "hostname")) < len(seed(jobs[:1], "hostname")) + 50 * 300


def test_at_every_boot_there_may_be_nothing_to_start():
    assert subprocess.run(["sh", "-c", at_boot(1)], timeout=60).returncode == 0
    assert subprocess.run(["sh", "-n"], input=boot().encode(), timeout=60).returncode == 0


def test_shellcheck_finds_nothing():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed (apt-get install shellcheck)")
    command = ["shellcheck", "--shell=sh", "--format=gcc", "--exclude=SC2034", "-"]
    for text in (boot(), at_boot(0)):
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout

"""The runner, for real: on this machine, in folders of its own. Bootstrap steps survive what befalls machines and callers."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from kubeup_core.bootstrapper import File, Step
from kubeup_core.bootstrapping import job as jobs
from kubeup_core.bootstrapping import results
from kubeup_core.bootstrapping.job import Job, pack
from kubeup_core.bootstrapping.results import Polled, StepResult
from kubeup_core.errors import InvalidSpec, Unknown

NOW = 1.8e9


class Machine:
    """What a machine does with the scripts that it is sent: runs them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "var lib"
        self.shell = "sh"

    def run(self, script: str, stdin: bytes = b"") -> tuple[int, bytes]:
        done = subprocess.run([self.shell, "-c", script], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout

    def send(self, job: Job) -> tuple[int, bytes]:
        return self.run(jobs.unpack_script(job.name, NOW, str(self.root)), job.archive)

    def poll(self, job: Job, attempt: int = 1, offset: int = 0) -> Polled:
        code, output = self.run(jobs.poll_script(job.name, attempt, offset, str(self.root)))
        assert code == 0, output
        return results.read(output)

    def put(self, job: Job, offset: int, data: bytes) -> tuple[int, str]:
        code, output = self.run(jobs.put_script(job.name, job.blobs[0], offset, str(self.root)), data)
        return code, output.decode().strip()

    def wait(self, job: Job, attempt: int = 1, word: str = "over") -> Polled:
        """Until the runner says so. It holds its lock while it runs."""
        end = time.monotonic() + 60
        while (polled := self.poll(job, attempt)).word != word:
            assert time.monotonic() < end, polled
            if word == "over":
                subprocess.run(["flock", str(self.root / "lock"), "true"], check=True)
        return polled

    def do(self, *steps: Step, attempt: int = 1) -> dict[str, str]:
        """Send and run to the end; what each step came to."""
        job = pack(steps)
        assert self.send(job)[0] == 0
        return states(self.wait(job, attempt))


def states(polled: Polled) -> dict[str, str]:
    return {line.step: line.state for line in polled.lines if isinstance(line, StepResult)}


def result(polled: Polled, name: str) -> StepResult:
    return [line for line in polled.lines if isinstance(line, StepResult) and line.step == name][-1]


def step(name: str, script: str, **more) -> Step:
    return Step(name=name, title=f"does {name}", script=script, **more)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


@pytest.fixture
def trace(tmp_path):
    """A file that steps write into: what really ran, in order."""
    return tmp_path / "trace"


def ran(trace: Path) -> list[str]:
    return trace.read_text().split() if trace.exists() else []


# -- going well ----------------------------------------------------------------------------------------------------------


def test_steps_run_in_order_and_each_result_is_told(machine, trace):
    job = pack([step("one", f"echo one >>{trace}; echo hello"), step("two", f"echo two >>{trace}")])
    assert machine.poll(job).word == "missing"
    assert machine.send(job) == (0, b"")
    assert machine.poll(job).word == "started"
    polled = machine.wait(job)
    assert ran(trace) == ["one", "two"]
    assert polled.lines[-1] == "finished"
    one = result(polled, "one")
    assert (one.state, one.exit_code, one.tail) == ("done", 0, "hello\n")


def test_kubeups_clock_and_the_machines_are_told_to_steps_with_each_sending_and_are_no_part_of_a_marker(machine, trace):
    job, before = pack([step("one", f"cat '{machine.root}/clock' >>{trace}")]), time.time()
    assert machine.send(job)[0] == 0
    machine.wait(job)
    theirs, here = map(float, ran(trace))
    assert theirs == NOW
    assert int(before) <= here <= time.time()
    later = jobs.unpack_script(job.name, NOW + 60, str(machine.root))
    assert machine.run(later, job.archive)[0] == 0
    assert (machine.root / "clock").read_text().startswith(f"{NOW + 60:.0f} ")
    assert states(machine.wait(job, 2)) == {"one": "skipped"}


def test_a_step_that_was_done_is_not_run_again_and_a_changed_one_is(machine, trace):
    one, two = step("one", f"echo one >>{trace}"), step("two", f"echo two >>{trace}")
    assert machine.do(one) == {"one": "done"}
    assert machine.do(one, two) == {"one": "skipped", "two": "done"}
    assert machine.do(step("one", f"echo other >>{trace}"), two) == {"one": "done", "two": "skipped"}
    assert ran(trace) == ["one", "two", "other"]


def test_asking_again_after_the_end_runs_nothing_and_tells_the_same(machine, trace):
    job = pack([step("one", f"echo one >>{trace}")])
    machine.send(job)
    first = machine.wait(job)
    assert machine.poll(job) == first
    assert ran(trace) == ["one"]


def test_results_are_read_on_from_an_offset(machine):
    job = pack([step("one", "true"), step("two", "true")])
    machine.send(job)
    whole = machine.wait(job)
    assert machine.poll(job, offset=whole.read).lines == ()


def test_a_check_that_succeeds_skips_the_step_without_any_marker(machine, trace):
    assert machine.do(step("one", f"echo one >>{trace}", check="true")) == {"one": "skipped"}
    assert ran(trace) == []


def test_a_check_that_fails_runs_a_step_that_was_done_before(machine, trace):
    one = step("one", f"echo one >>{trace}; touch {trace}.is", check=f"test -f {trace}.is")
    assert machine.do(one) == {"one": "done"}
    Path(f"{trace}.is").unlink()
    machine.do(one, step("more", "true"))
    assert ran(trace) == ["one", "one"]


def test_steps_have_a_shell_that_stops_at_the_first_failure_and_at_unset_names(machine):
    assert machine.do(step("one", "false\necho never")) == {"one": "failed"}
    assert machine.do(step("one", 'echo "$nobody_set_this"')) == {"one": "failed"}


def test_all_steps_can_be_done_anew_after_a_membership(machine, trace):
    one = step("one", f"echo one >>{trace}")
    machine.do(one)
    assert machine.run(jobs.forget_script(str(machine.root)))[0] == 0
    machine.do(one, step("two", "true"))
    assert ran(trace) == ["one", "one"]


def test_a_salt_makes_a_step_run_each_time(machine, trace):
    one = step("one", f"echo one >>{trace}")
    for salt in ("monday", "tuesday", "tuesday"):
        job = pack([one], salt)
        machine.send(job)
        machine.wait(job)
    assert ran(trace) == ["one", "one"]


# -- files ---------------------------------------------------------------------------------------------------------------


def test_files_are_there_before_the_script_with_their_modes(machine, tmp_path):
    path, secret = tmp_path / "etc/with space/app.conf", tmp_path / "pki/deep/ca.key"
    files = (
        File(path=str(path), content=b"\x00nasty\n\xff", mode=0o755),
        File(path=str(secret), content=b"SECRET", secret=True),
    )
    assert machine.do(step("one", f"test -x '{path}'", files=files)) == {"one": "done"}
    assert path.read_bytes() == b"\x00nasty\n\xff"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o755, 0o755)
    assert secret.read_bytes() == b"SECRET"
    assert (secret.stat().st_mode & 0o777, secret.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize("script", ["true", "false"])
def test_no_secret_is_left_in_the_runners_folder_however_it_ends(machine, tmp_path, script):
    file = File(path=str(tmp_path / "key"), content=b"TOP-SECRET", secret=True)
    machine.do(step("one", script, files=(file,)))
    left = [path for path in machine.root.rglob("*") if path.is_file() and b"TOP-SECRET" in path.read_bytes()]
    assert left == []


def test_another_secret_alone_does_not_make_a_step_undone(machine, trace, tmp_path):
    for token in (b"first", b"second"):
        file = File(path=str(tmp_path / "token"), content=token, secret=True)
        machine.do(step("join", f"echo join >>{trace}", files=(file,)))
    assert ran(trace) == ["join"]


def test_a_file_that_cannot_be_written_is_the_steps_failure_and_says_why(machine, tmp_path):
    (tmp_path / "plain").write_text("a file")
    job = pack([step("one", "true", files=(File(path=f"{tmp_path}/plain/below", content=b"x"),))])
    machine.send(job)
    failed = result(machine.wait(job), "one")
    assert failed.state == "failed"
    assert "plain" in failed.tail


def large(tmp_path: Path, content: bytes = bytes(range(256)) * 300) -> tuple[File, Path]:
    source = tmp_path / "bundle.tar"
    source.write_bytes(content)
    target = tmp_path / "opt/bundle.tar"
    return File(path=str(target), source=str(source), sha256=hashlib.sha256(content).hexdigest(), mode=0o600), target


def test_a_large_file_is_sent_in_pieces_resumed_verified_and_not_kept_twice(machine, tmp_path):
    file, target = large(tmp_path)
    job = pack([step("one", f"test -s {target}", files=(file,))])
    machine.send(job)
    data = Path(file.source).read_bytes()
    assert machine.poll(job).needs == {file.sha256: 0}
    assert machine.put(job, 0, data[:1000]) == (0, "1000")
    assert machine.put(job, 0, data[:1000]) == (0, "1000")  # the same piece again: its answer was lost
    assert machine.poll(job).needs == {file.sha256: 1000}
    assert machine.put(job, 1000, data[1000:]) == (0, str(len(data)))
    assert machine.poll(job).word == "started"
    assert states(machine.wait(job)) == {"one": "done"}
    assert target.read_bytes() == data
    assert list((machine.root / "blobs").iterdir()) == []


def test_a_large_file_that_arrived_broken_is_thrown_away(machine, tmp_path):
    file, _ = large(tmp_path)
    job = pack([step("one", "true", files=(file,))])
    machine.send(job)
    code, said = machine.put(job, 0, b"x" * job.blobs[0].size)
    assert (code, "does not have the sha256" in said) == (3, True)
    assert machine.poll(job).needs == {file.sha256: 0}


def test_a_large_file_of_a_step_that_was_done_is_not_asked_for_again(machine, tmp_path):
    file, _ = large(tmp_path)
    one = step("one", "true", files=(file,))
    job = pack([one])
    machine.send(job)
    machine.put(job, 0, Path(file.source).read_bytes())
    machine.wait(job)
    assert machine.do(one, step("two", "true")) == {"one": "skipped", "two": "done"}


# -- failing -------------------------------------------------------------------------------------------------------------


def test_a_failing_step_ends_the_job_with_its_exit_code_and_last_lines(machine, trace):
    job = pack([step("one", "seq 1 3000; echo no network >&2; exit 7"), step("two", f"echo two >>{trace}")])
    machine.send(job)
    polled = machine.wait(job)
    one = result(polled, "one")
    assert (one.state, one.exit_code) == ("failed", 7)
    assert one.tail.endswith("2999\n3000\nno network\n")
    assert len(one.tail) <= 4000
    assert polled.lines[-1] == "failed"
    assert ran(trace) == []


def test_another_attempt_is_sent_anew_and_goes_on_where_the_first_one_failed(machine, trace):
    steps = [step("one", f"echo one >>{trace}"), step("two", f"echo two >>{trace}; test -f {trace}.ok")]
    job = pack(steps)
    machine.send(job)
    assert states(machine.wait(job)) == {"one": "done", "two": "failed"}
    Path(f"{trace}.ok").touch()
    assert machine.poll(job, attempt=2).word == "missing"
    machine.send(job)
    assert states(machine.wait(job, attempt=2)) == {"one": "skipped", "two": "done"}
    assert ran(trace) == ["one", "two", "two"]


def test_a_step_is_stopped_with_all_it_started_when_its_time_is_over(machine, tmp_path):
    pid = tmp_path / "pid"
    job = pack([step("slow", f"sleep 600 & echo $! >{pid}; echo waiting; wait", timeout=1)])
    machine.send(job)
    slow = result(machine.wait(job), "slow")
    assert (slow.state, slow.tail) == ("late", "waiting\n")
    assert not alive(pid)


def test_a_step_that_ignores_being_asked_is_killed(machine):
    job = pack([step("stubborn", "trap '' TERM; while :; do sleep 60 & wait; done", timeout=1)])
    machine.send(job)
    assert result(machine.wait(job), "stubborn").state == "late"


def test_output_of_any_bytes_becomes_readable_text(machine):
    job = pack([step("one", r"printf '\033[31m\000\377\042}\r\n'; head -c 100 /dev/urandom; printf '\nend'; exit 1")])
    machine.send(job)
    tail = result(machine.wait(job), "one").tail
    assert tail.endswith("\nend")
    assert all(c.isprintable() or c in "\n\t" for c in tail)


# -- interrupted ---------------------------------------------------------------------------------------------------------


def alive(pid: Path) -> bool:
    """Whether a process runs. A killed one may not be reaped yet."""
    try:
        return "Z" not in Path(f"/proc/{int(pid.read_text())}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def runner_pid(machine: Machine) -> int:
    for proc in Path("/proc").iterdir():
        try:
            words = (proc / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if proc.name.isdigit() and str(machine.root).encode() in words and b"run" in words:
            return int(proc.name)
    raise AssertionError("no runner runs")


def started(machine: Machine, job: Job, fifo: Path) -> None:
    """Run the job until its step opens the fifo."""
    os.mkfifo(fifo)
    machine.send(job)
    machine.poll(job)
    fifo.read_text()


def test_a_runner_that_was_killed_alone_goes_on_and_ends_what_it_left_behind(machine, trace, tmp_path):
    fifo, pid = tmp_path / "fifo", tmp_path / "pid"
    hang = f"echo try >>{trace}; if [ -f {pid} ]; then exit 0; fi; echo $$ >{pid}; echo up >{fifo}; sleep 600"
    job = pack([step("one", f"echo one >>{trace}"), step("two", hang)])
    started(machine, job, fifo)
    os.kill(runner_pid(machine), signal.SIGKILL)
    assert alive(pid)
    assert machine.wait(job, word="started")
    assert states(machine.wait(job)) == {"one": "skipped", "two": "done"}
    assert ran(trace) == ["one", "try", "try"]
    assert not alive(pid)


def test_a_second_start_while_it_runs_starts_nothing_and_another_job_waits(machine, trace, tmp_path):
    fifo, go = tmp_path / "fifo", tmp_path / "go"
    os.mkfifo(go)
    job = pack([step("one", f"echo one >>{trace}; echo up >{fifo}; cat {go}")])
    other = pack([step("other", f"echo other >>{trace}")])
    started(machine, job, fifo)
    machine.send(other)
    assert machine.poll(job).word == "running"
    assert machine.poll(other).word == "busy"
    go.write_text("")
    machine.wait(job)
    machine.wait(other)
    assert ran(trace) == ["one", "other"]


def test_a_stale_note_of_another_process_ends_nobody(machine, tmp_path):
    bystander = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        machine.root.mkdir(parents=True)
        (machine.root / "step").write_text(f"{bystander.pid} 1\n")
        assert machine.do(step("one", "true")) == {"one": "done"}
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_line_that_was_torn_by_a_kill_does_not_hide_the_next(machine):
    job = pack([step("one", "true")])
    machine.send(job)
    (machine.root / "jobs" / job.name / "results.1").write_text('{"step":"one","sta')
    assert states(machine.wait(job)) == {"one": "done"}


def test_steps_that_were_sent_in_part_are_not_there(machine):
    job = pack([step("one", "true")])
    code, _ = machine.run(jobs.unpack_script(job.name, NOW, str(machine.root)), job.archive[: len(job.archive) // 2])
    assert code != 0
    assert machine.poll(job).word == "missing"
    assert machine.send(job)[0] == 0


@pytest.mark.parametrize("missing", [1, 8, 64])
def test_steps_that_were_sent_in_part_are_not_begun_by_the_same_call(missing, machine):
    job = pack([step("one", "true")])
    begin = jobs.begin_script(job.name, NOW, 1, 0, str(machine.root))
    code, said = machine.run(begin, job.archive[:-missing])
    assert code != 0, said
    assert machine.poll(job).word == "missing"
    code, said = machine.run(begin, job.archive)
    assert (code, results.read(said).word) == (0, "started")
    machine.wait(job)


@pytest.fixture
def full(tmp_path):
    """A file system of 128 KiB, for the runner's folder."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small file system")
    mount = tmp_path / "var lib"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(mount)], check=True)
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=True)


def test_a_disk_that_fills_up_is_told_and_goes_on_when_there_is_room(machine, full):
    job = pack([step("fill", f"cat /dev/zero >'{full}/junk'")])
    machine.send(job)
    fill = result(machine.wait(job), "fill")
    assert fill.state == "failed"
    assert machine.poll(job).lines[-1] == "failed"
    Path(full, "junk").unlink()
    assert machine.do(step("one", "true")) == {"one": "done"}


def test_a_disk_that_is_full_already_is_told_at_once(machine, full):
    job = pack([step("one", "true")])
    assert machine.send(job)[0] == 0
    Path(full, "junk").write_bytes(b"x" * (16 * 1024))
    subprocess.run(f"cat /dev/zero >'{full}/junk' 2>/dev/null", shell=True)
    code, said = machine.run(jobs.poll_script(job.name, 1, 0, str(machine.root)))
    assert code != 0
    assert b"no space" in said.lower()


def test_the_logs_of_the_last_jobs_stay_and_older_ones_go(machine):
    for number in range(25):
        (machine.root / "jobs" / f"old{number}").mkdir(parents=True)
    machine.do(step("one", "true"))
    assert len(list((machine.root / "jobs").iterdir())) == 20


# -- what is never sent --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([step("One", "true")], "DNS label"),
        ([step("one", "true"), step("one", "true")], "there twice"),
        ([step("one", "true", files=(File(path="etc/x"),))], "absolute path"),
        ([step("one", "true", files=(File(path="/etc/x\ny"),))], "absolute path"),
        ([step("one", "true", files=(File(path="/etc/x", source="/dev/null"),))], "without its sha256"),
        ([step("one", "true", files=(File(path="/x", source="/nowhere/x", sha256="0" * 64),))], "No such file"),
    ],
)
def test_steps_that_cannot_be_sent_are_refused_before(bad, message):
    with pytest.raises(InvalidSpec, match=message):
        pack(bad)


@pytest.mark.parametrize("output", [b"", b"bash: sh: not found\n", b"kubeup-runner 1 \n", b"kubeup-runner 2 over\n", b"\xff\n"])
def test_an_answer_that_is_none_of_a_runner_is_an_unknown_outcome(output):
    with pytest.raises(Unknown):
        results.read(output)


def test_the_same_steps_make_the_same_job_and_a_secret_another_one_of_the_same_kind():
    first, again = (pack([step("one", "true", files=(File(path="/t", content=b"a", secret=True),))]) for _ in range(2))
    other = pack([step("one", "true", files=(File(path="/t", content=b"b", secret=True),))])
    assert (first.name, first.archive) == (again.name, again.archive)
    assert first.name != other.name
    assert first.public == other.public

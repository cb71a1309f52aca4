"""Jobs of steps inside simulated machines: what kubeup's runner does on a real one, in the cloud's own time, without a shell.

A part of `guest.py`. It understands the four things that a runner is asked (steps that arrive, large files that arrive, how far a job
is, forget) and answers as one; nothing is executed. Jobs that came with a machine's user-data it runs by itself. Each step takes
`seconds`, or fails, or hangs, as a test has planned. What is done survives a reboot, what runs does not, as on a real machine. Kept
in this process only.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from .records import Machine

_UNPACK = re.compile(r'mkdir -p "\$jobs/([0-9a-f]+)"')
_ASK = re.compile(r"runner=.*/jobs/([0-9a-f]+)/runner\n.*exec sh \"\$runner\" \S+ (poll|put) (\S+) (\d+) (\d+)")
_FORGET = re.compile(r"rm -rf /var/lib/kubeup/done ")
_SEED = "/var/lib/kubeup/boot/seed"
_AT_BOOT = "/var/lib/cloud/scripts/per-boot/kubeup"


@dataclass(frozen=True)
class Step:
    """name, digest and limit (seconds) as sent; script: its text, for those who look on; blobs: large files that it needs."""

    name: str
    digest: str
    limit: int
    script: str
    blobs: tuple[str, ...] = ()


@dataclass
class _Plan:
    """What happens to steps that fit, so often."""

    machine: str
    step: str
    times: int
    code: int | None
    output: str


@dataclass
class _Run:
    """An attempt of a job: where it is, since when, and what it has told."""

    steps: list[Step]
    boots: int
    at: int = 0
    since: float = 0.0
    told: bytes = b""
    over: bool = False

    def tell(self, **line: object) -> None:
        self.told += json.dumps(line, separators=(",", ":")).encode() + b"\n"


@dataclass
class _Machine:
    staged: dict[str, list[Step]] = field(default_factory=dict)
    runs: dict[tuple[str, str], _Run] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    blobs: dict[str, bytes] = field(default_factory=lambda: defaultdict(bytes))
    busy: tuple[str, str] | None = None
    told: list[str] | None = None
    attempt: int = 1


class Jobs:
    """`cloud.guest.jobs`. seconds: how long a step takes, by name where it is named in `slow`."""

    def __init__(self) -> None:
        self.seconds = 1.0
        self.slow: dict[str, float] = {}
        self.runs: Counter[tuple[str, str]] = Counter()
        """How often each step was run, by (host name, step): the proof that nothing was done twice."""
        self.watchers: list[Callable[[Machine, Step], None]] = []
        """Called when a step was done, with the machine that it was done on."""
        self._plans: list[_Plan] = []
        self._machines: dict[str, _Machine] = defaultdict(_Machine)
        self._seeds: dict[str, tuple[bytes, int]] = {}

    def fail(self, step: str, *, machine: str = "*", times: int = 1, code: int = 1, output: str = "it failed\n") -> None:
        """Steps that fit end like this, so often. step, machine: globs of its name and of the host's."""
        self._plans.append(_Plan(machine, step, times, code, output))

    def hang(self, step: str, *, machine: str = "*", times: int = 1) -> None:
        """Steps that fit never end by themselves."""
        self._plans.append(_Plan(machine, step, times, None, ""))

    def seed(self, token: str, user_data: bytes) -> None:
        """Machines of this launch have jobs to run by themselves, where their user-data says so."""
        text = gzip.decompress(user_data) if user_data[:2] == b"\x1f\x8b" else user_data
        if _SEED.encode() in text:
            files = {f["path"]: base64.b64decode(f["content"]) for f in json.loads(text.partition(b"\n")[2])["write_files"]}
            self._seeds[token] = (files[_SEED], int(files[_AT_BOOT].split()[-1]))

    def boot(self, machine: Machine, now: float) -> None:
        """What a running machine has done since the last look by its user-data. A failed job is tried again at the next look."""
        if machine.token not in self._seeds:
            return
        here = self._machines[machine.id]
        if here.told is None:
            here.told = self._sown(machine, here)
        tries = self._seeds[machine.token][1]
        while here.told:
            job, attempt = here.told[0], str(here.attempt)
            self._poll(machine, here, now, job, attempt, 0)
            run = here.runs.get((job, attempt))
            if run is None or not run.over:
                return
            if not run.told.endswith(b'{"state":"finished"}\n'):
                if here.attempt == tries:
                    here.told.clear()
                    return
                here.attempt += 1
                here.staged.setdefault(job, run.steps)
                return
            here.told.pop(0)
            here.attempt = 1

    def answer(self, machine: Machine, now: float, script: str, stdin: bytes) -> tuple[int, bytes] | None:
        """None: the script is none of a runner's."""
        here = self._machines[machine.id]
        if unpacks := _UNPACK.search(script):
            here.staged.setdefault(unpacks[1], _unpacked(stdin))
        if found := _ASK.search(script):
            job, command, *words = found.groups()
            if command == "put":
                return self._put(here, words[0], int(words[1]), int(words[2]), stdin)
            return self._poll(machine, here, now, job, words[1], int(words[2]))
        if _FORGET.search(script):
            here.done.clear()
            return 0, b""
        return (0, b"") if unpacks else None

    # -- inside ----------------------------------------------------------------------------------------------------------

    def _sown(self, machine: Machine, here: _Machine) -> list[str]:
        """This member's jobs, which are put in their places."""
        with tarfile.open(fileobj=io.BytesIO(self._seeds[machine.token][0]), mode="r:gz") as tar:
            lines = [line.split() for line in _text(tar, "members").splitlines()]
            mine: list[str] = next(
                jobs for index, name, *jobs in lines if machine.hostname == name or index == str(machine.index)
            )
            for job in mine:
                here.staged.setdefault(job, _steps(tar, f"jobs/{job}/"))
        return mine

    def _poll(self, machine: Machine, here: _Machine, now: float, job: str, attempt: str, offset: int) -> tuple[int, bytes]:
        if here.busy is not None:
            self._go_on(machine, here, now)
        run = here.runs.get((job, attempt))
        if run is not None and run.over:
            word = "over"
        elif here.busy == (job, attempt):
            word = "running"
        elif here.busy is not None:
            word = f"busy {here.busy[0]}"
        elif job not in here.staged:
            word = "missing"
        elif needed := self._needed(here, job):
            word = "needs " + " ".join(f"{sha}={len(here.blobs[sha + '.part'])}" for sha in needed)
        else:
            word = "started"
            run = here.runs.setdefault((job, attempt), _Run(here.staged[job], machine.boots))
            run.at, run.since, run.boots = 0, now, machine.boots
            here.busy = (job, attempt)
            self._begin(machine, here, run)
            self._go_on(machine, here, now)
        told = run.told[offset:] if run is not None else b""
        return 0, f"kubeup-runner 1 {word}\n".encode() + told

    def _begin(self, machine: Machine, here: _Machine, run: _Run) -> None:
        """Pass over what is done, and start the next step."""
        while run.at < len(run.steps):
            step = run.steps[run.at]
            run.tell(step=step.name, state="running", number=run.at + 1, total=len(run.steps))
            if f"{step.name}-{step.digest}" not in here.done:
                self.runs[(machine.hostname, step.name)] += 1
                return
            run.tell(step=step.name, state="skipped", exit=0, seconds=0, tail="")
            run.at += 1

    def _go_on(self, machine: Machine, here: _Machine, now: float) -> None:
        """What has happened since the last look."""
        assert here.busy is not None
        job, run = here.busy[0], here.runs[here.busy]
        if run.boots != machine.boots:
            here.busy = None  # a reboot has ended it
            return
        while run.at < len(run.steps):
            step = run.steps[run.at]
            plan = self._plan(machine, step)
            takes = float(step.limit) if plan is not None and plan.code is None else self.slow.get(step.name, self.seconds)
            if now - run.since < takes:
                return
            run.since += takes
            if plan is not None:
                plan.times -= 1
                tail = base64.b64encode(plan.output.encode()).decode()
                state = "late" if plan.code is None else "failed"
                run.tell(step=step.name, state=state, exit=plan.code or 143, seconds=int(takes), tail=tail)
                self._end(here, job, run, "failed")
                return
            here.done.add(f"{step.name}-{step.digest}")
            run.tell(step=step.name, state="done", exit=0, seconds=int(takes), tail="")
            for watcher in self.watchers:
                watcher(machine, step)
            run.at += 1
            self._begin(machine, here, run)
        self._end(here, job, run, "finished")

    @staticmethod
    def _end(here: _Machine, job: str, run: _Run, state: str) -> None:
        run.tell(state=state)
        run.over, here.busy = True, None
        here.staged.pop(job, None)

    def _plan(self, machine: Machine, step: Step) -> _Plan | None:
        fits = (
            p
            for p in self._plans
            if p.times > 0 and fnmatchcase(machine.hostname, p.machine) and fnmatchcase(step.name, p.step)
        )
        return next(fits, None)

    @staticmethod
    def _needed(here: _Machine, job: str) -> list[str]:
        steps = (step for step in here.staged[job] if f"{step.name}-{step.digest}" not in here.done)
        return [sha for step in steps for sha in step.blobs if sha not in here.blobs]

    @staticmethod
    def _put(here: _Machine, sha: str, offset: int, size: int, data: bytes) -> tuple[int, bytes]:
        part = f"{sha}.part"
        if len(here.blobs[part]) == offset:
            here.blobs[part] += data
        have = here.blobs[part]
        if len(have) >= size:
            del here.blobs[part]
            if hashlib.sha256(have).hexdigest() != sha:
                return 3, b"what arrived has another sha256\n"
            here.blobs[sha] = have
        return 0, f"{len(have)}\n".encode()


def _unpacked(archive: bytes) -> list[Step]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        return _steps(tar)


def _steps(tar: tarfile.TarFile, job: str = "") -> list[Step]:
    """job: the folder that they are in."""
    found = []
    for about in sorted(name for name in tar.getnames() if re.fullmatch(rf"{job}steps/\d+/about", name)):
        folder = about.rpartition("/")[0]
        name, digest, limit = _text(tar, about).split()
        lines = [line.split(" ", 4) for line in _text(tar, f"{folder}/files").splitlines()]
        blobs = tuple(line[3] for line in lines if line[1] == "blob")
        found.append(Step(name, digest, int(limit), _text(tar, f"{folder}/script"), blobs))
    return found


def _text(tar: tarfile.TarFile, name: str) -> str:
    member = tar.extractfile(name)
    assert member is not None
    return member.read().decode()

"""Steps on machines: sends them, has them run detached from this process, and reads what came of them, over `Reach.run`.

Called by `bootstrapping.py` and by whatever runs a task of a bootstrapper later (an upgrade, a snapshot). Level-triggered like a
controller: `step` takes the next step and says how far the job is; what is kept here in memory only saves calls, because the machine
knows what was done (`bootstrapping/runner.sh`): after a crash of either side the same calls find it out again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from ..bootstrapper import Step
from ..bootstrapping.job import Blob, Job, begin_script, pack, poll_script, put_script
from ..bootstrapping.results import Polled, StepResult, last_lines, read
from ..errors import InvalidSpec, NotReady, SupplierError
from ..kinds import Machine
from ..runtime.calls import InProgress
from ..runtime.controller import Env, Key
from .access import Finished, Reach
from .pauses import held, said
from .troubles import SOON, Trouble

ATTEMPTS = 3
"""Tries of a failing job in short order. After that it counts as failed, and is tried again every RARELY."""

BACKOFF = (5.0, 15.0)
RARELY = 600.0
CHUNK, LARGEST = 8 * 2**20, 32 * 2**20
"""Bytes of a large file that go in one call: twice as many after each that took less than BRISK seconds, as far as LARGEST."""

BRISK = 2.0

SENDERS = 4
"""Machines that are sent large files at the same time: each takes a chunk of memory and a share of the network."""

MIXED_UP = 2
"""Times that a large file may arrive broken before it is the file that is wrong."""

_QUICKEST, _SLOWEST = 0.5, 3.0
_BUSY = 0.02
"""Seconds that a look waits for each job under way: so many looks would slow down what they look at."""

_CALL = 30.0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a job is.

    state    asking (nothing was heard yet) | sending | running | waiting (another job of the machine runs) | retrying (a step
             failed and is tried again) | failed (it failed ATTEMPTS times) | held (something is paused) | done
    step     the one that runs, or that failed; number: its place, from 1; total: steps of the job, 0 while unknown
    error    the machine could not be reached, or not be used; the last word stands otherwise
    after    awake seconds until the next look; None: something wakes the key
    """

    state: Literal["asking", "sending", "running", "waiting", "retrying", "failed", "held", "done"]
    step: str = ""
    title: str = ""
    number: int = 0
    total: int = 0
    attempt: int = 1
    exit_code: int | None = None
    late: bool = False
    tail: str = field(default="", repr=False)
    remedy: str = ""
    message: str = ""
    error: SupplierError | None = None
    after: float | None = None

    @property
    def words(self) -> str:
        """Which step it is at, or how that failed: its last line, and what to do."""
        where = f"step {self.number} of {self.total}, {self.title or self.step}" if self.total else "its steps are sent"
        if self.state not in ("failed", "retrying"):
            return self.message or where
        last = self.tail.strip().splitlines()[-1:] or ["it printed nothing"]
        return f"{where} failed with exit code {self.exit_code}: {last[0]}{'; ' + self.remedy if self.remedy else ''}"


def paused(progress: Progress) -> Trouble:
    """What one that is held waits for."""
    return Trouble(reason="Paused", message=progress.message, after=progress.after)


@dataclass
class _Memory:
    """All stamps are awake seconds.

    job      None: to be packed anew for the next attempt; shown: the last one, for its words
    first    the attempt that this wish began with
    next     the call that is under way, or comes next
    ending   how the attempt ended: finished | failed, "" while it runs
    began    of this process's interest; heard: whether the machine has answered a call about this job
    ours     this attempt was started while we looked, so its failure is news
    runs     it was seen running: a pause does not stop it, and it is looked at
    again    when to call next; broken: how often large files arrived broken; silent: calls in a row that failed
    piece    of a large file, on its way: (which, its bytes); chunk: how large the next one is; sent: when this one was
    at       the number of the step that failed
    """

    began: float
    wish: str
    job: Job | None = None
    shown: Job | None = None
    first: int = 1
    next: tuple[Literal["poll", "send"]] | tuple[Literal["put"], Blob, int] = ("poll",)
    attempt: int = 1
    offset: int = 0
    results: dict[str, StepResult] = field(default_factory=dict)
    current: str = ""
    ending: str = ""
    heard: bool = False
    ours: bool = False
    runs: bool = False
    again: float = 0.0
    broken: int = 0
    piece: tuple[tuple[str, int], bytes] | None = field(default=None, repr=False)
    chunk: int = field(default_factory=lambda: CHUNK)
    sent: float = 0.0
    silent: int = 0
    waiting: bool = False
    failed: StepResult | None = None
    at: int = 0
    done: bool = False
    error: SupplierError | None = None

    @property
    def final(self) -> bool:
        """It failed so often that it counts as failed."""
        return self.failed is not None and self.attempt - self.first >= ATTEMPTS


class Guests:
    """What all controllers of this process know of jobs. Thread-safe."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.jobs: dict[tuple[str, str], _Memory] = {}
        self._sending: dict[str, float] = {}
        self._urgent: dict[str, float] = {}

    def may_send(self, uid: str, now: float, *, urgent: bool = False) -> bool:
        """Whether a machine may be sent large files now. While one that others wait for is sent its own, nobody else is.
        One that has not asked for long has stopped, and its place is free."""
        with self.lock:
            self._sending = {u: at for u, at in self._sending.items() if now - at < 4 * _CALL}
            self._urgent = {u: at for u, at in self._urgent.items() if now - at < 4 * _CALL}
            if urgent:
                self._urgent[uid] = now
            if urgent or (not self._urgent and (uid in self._sending or len(self._sending) < SENDERS)):
                self._sending[uid] = now
                return True
            return False

    def has_sent(self, uid: str) -> None:
        with self.lock:
            self._sending.pop(uid, None)
            self._urgent.pop(uid, None)

    def under_way(self) -> int:
        """Jobs that are looked at again and again; not counted further than makes a difference."""
        with self.lock:
            looked_at = (memory for memory in self.jobs.values() if not memory.done)
            return sum(1 for _ in islice(looked_at, int(_SLOWEST / _BUSY)))

    def forget(self, uid: str, *, keep: str = "") -> None:
        """A machine is gone, or has nothing to do any more but the task `keep`."""
        with self.lock:
            over = [name for name in self.jobs if name[0] == uid and not (keep and name[1].startswith(f"{keep}/"))]
            for name in over:
                del self.jobs[name]
            if over or not keep:
                self._sending.pop(uid, None)
                self._urgent.pop(uid, None)


class Guest:
    """For one controller, whose keys are woken."""

    def __init__(self, env: Env, reach: Reach) -> None:
        self.env = env
        self.reach = reach
        self.book = env.shared(Guests)

    def step(
        self,
        machine: Machine,
        task: str,
        make: Callable[[], Sequence[Step]],
        *,
        key: Key,
        wish: str = "",
        salt: str = "",
        patient: bool = False,
        urgent: bool = False,
    ) -> Progress:
        """Bring a job one step nearer to its end.

        machine  its status may be newer than what is stored
        task     names the job: one of a machine runs at a time
        make     its steps; asked once for each attempt. What it raises goes up: nothing has been started then
        wish     what the job is for, as text: a job that failed is begun anew at once when this is another
        salt     see `job.pack`: tasks that are to be done each time give another one each time
        patient  the job may fail as often as it likes: no attempt is counted
        urgent   others wait for this machine: it is sent large files before they are
        Nothing is begun while something is paused (`pauses.held`); what runs already is observed.
        Never waits and never raises InProgress: `after` and the key's being woken take its place.
        """
        memory = self._memory(machine, f"{task}/{salt}", wish)
        if memory.done or memory.again > self.env.clock.awake():
            return self._progress(memory)
        stop = "" if memory.runs else held(self.env, machine)
        if stop:
            return Progress(state="held", message=said(stop), after=SOON)
        try:
            if memory.job is None:
                memory.job = memory.shown = pack(make(), salt)
            self._go(machine, task, memory, memory.job, key, patient, urgent)
            memory.error, memory.silent = None, 0
        except InProgress as running:
            return self._progress(memory, running.after)
        except SupplierError as error:
            if memory.job is None:
                raise
            memory.error = error
            memory.silent += 1
            wait = error.retry_after if isinstance(error, NotReady) else None
            memory.again = self.env.clock.awake() + max(wait or 0.0, min(float(memory.silent), 10.0))
            memory.next, memory.piece = ("poll",), None
            self.book.has_sent(machine.uid)
        return self._progress(memory)

    def known(self, machine: Machine, task: str, salt: str = "") -> Progress | None:
        """How far a job is, without doing anything."""
        with self.book.lock:
            memory = self.book.jobs.get((machine.uid, f"{task}/{salt}"))
        return self._progress(memory) if memory is not None else None

    # -- the calls -------------------------------------------------------------------------------------------------------

    def _go(self, machine: Machine, task: str, memory: _Memory, job: Job, key: Key, patient: bool, urgent: bool) -> None:
        """Call after call, until there is something to wait for."""
        while not memory.done and memory.again <= self.env.clock.awake():
            if memory.next[0] == "send":
                script = begin_script(job.name, self.env.clock.wall(), memory.attempt, memory.offset)
                self._look(memory, job, self._run(machine, task, script, job.archive, key), patient)
            elif memory.next[0] == "put":
                if not self.book.may_send(machine.uid, self.env.clock.awake(), urgent=urgent):
                    memory.again = self.env.clock.awake() + 1.0
                    return
                self._put(machine, task, memory, job, memory.next[1], memory.next[2], key)
            else:
                said = self._run(machine, task, poll_script(job.name, memory.attempt, memory.offset), b"", key)
                self._look(memory, job, said, patient)

    def _look(self, memory: _Memory, job: Job, said: Finished, patient: bool) -> None:
        self._sent(said)
        memory.next = ("poll",)
        self._polled(memory, job, read(said.output), patient)

    def _put(self, machine: Machine, task: str, memory: _Memory, job: Job, blob: Blob, offset: int, key: Key) -> None:
        """The next piece of a large file. It is read once, and kept until its answer is there."""
        name = (blob.sha256, offset)
        if memory.piece is None or memory.piece[0] != name:
            memory.piece, memory.sent = (name, _chunk(blob, offset, memory.chunk)), self.env.clock.awake()
        said = self._run(machine, task, put_script(job.name, blob, offset), memory.piece[1], key, whole=False)
        took, memory.piece = self.env.clock.awake() - memory.sent, None
        memory.chunk = min(2 * memory.chunk, LARGEST) if took < BRISK else max(CHUNK, memory.chunk // 2)
        self._arrived(memory, blob, said)
        if memory.next[0] != "put":
            self.book.has_sent(machine.uid)

    def _run(self, machine: Machine, task: str, script: str, stdin: bytes, key: Key, *, whole: bool = True) -> Finished:
        return self.reach.run(machine, script, stdin, _CALL, key=key, verb=task, whole=whole)

    @staticmethod
    def _sent(said: Finished) -> None:
        if said.code != 0:
            output = last_lines(said.output.decode("utf-8", "replace")) or f"exit code {said.code}"
            raise NotReady(
                f"the steps cannot be put on the machine: {output}",
                retry_after=15.0,
                remedy="make room on its disk, or choose an image with tar, flock and a POSIX shell; it is tried again by itself",
            )

    def _arrived(self, memory: _Memory, blob: Blob, said: Finished) -> None:
        """What the machine says of a piece of a large file."""
        words = said.output.decode("utf-8", "replace").split()
        if said.code == 3:
            memory.broken += 1
            memory.next = ("put", blob, 0)
            if memory.broken >= MIXED_UP:
                memory.broken, memory.next = 0, ("poll",)
                raise InvalidSpec(
                    f"{blob.path} does not have the sha256 {blob.sha256}",
                    remedy="get the file anew, or correct its sha256 in the spec",
                )
            return
        self._sent(said)
        if words == ["busy"] or not words or not words[0].isdigit():
            memory.next, memory.again = ("poll",), self.env.clock.awake() + _SLOWEST
            return
        have = int(words[0])
        memory.heard = True
        memory.next = ("poll",) if have >= blob.size else ("put", blob, have)

    def _polled(self, memory: _Memory, job: Job, polled: Polled, patient: bool) -> None:
        memory.heard = True
        memory.offset += polled.read
        now = self.env.clock.awake()
        for line in polled.lines:
            if isinstance(line, StepResult):
                memory.results[line.step], memory.current = line, line.step
            else:
                memory.ending = line  # it may come with an answer that began before the end
        memory.waiting = polled.word == "busy"
        match "over" if memory.ending else polled.word:
            case "missing" if memory.final and not memory.ours and not patient:
                memory.ours, memory.again = True, now + RARELY  # it failed so often before this process looked
            case "missing":
                memory.next = ("send",)
            case "needs":
                blob = next(b for b in job.blobs if b.sha256 in polled.needs)
                memory.next = ("put", blob, polled.needs[blob.sha256])
            case "over" if memory.ending == "finished":
                memory.done, memory.failed = True, None
            case "over":
                self._failed(memory, now, patient)
            case _:
                memory.again = now + min(_SLOWEST, max(_QUICKEST, (now - memory.began) / 40, self.book.under_way() * _BUSY))
                memory.runs = polled.word in ("started", "running")
                memory.ours = memory.ours or memory.runs

    def _failed(self, memory: _Memory, now: float, patient: bool) -> None:
        bad = [result for result in memory.results.values() if result.bad]
        memory.runs = False
        memory.failed = bad[-1] if bad else StepResult(memory.current, "failed")
        memory.at = _finished(memory) + 1
        if memory.ours:
            tries = memory.attempt - memory.first
            wait = BACKOFF[min(tries, len(BACKOFF) - 1)] if tries < ATTEMPTS - 1 or patient else RARELY
            memory.again = now + wait
            memory.job = None  # secrets may have changed meanwhile
        memory.attempt += 1
        memory.offset, memory.results, memory.ending, memory.next = 0, {}, "", ("poll",)

    # -- what is known ---------------------------------------------------------------------------------------------------

    def _memory(self, machine: Machine, name: str, wish: str) -> _Memory:
        with self.book.lock:
            known = self.book.jobs.get((machine.uid, name))
            if known is None or (known.wish != wish and known.failed is not None):
                attempt = known.attempt if known is not None else 1
                known = _Memory(self.env.clock.awake(), wish, attempt=attempt, first=attempt)
                self.book.jobs[(machine.uid, name)] = known
            return known

    def _progress(self, memory: _Memory, after: float | None = None) -> Progress:
        job, failed = memory.shown, memory.failed
        total = len(job.steps) if job is not None else 0
        wait = memory.again - self.env.clock.awake()
        common = {"error": memory.error, "after": after if wait <= 0 else wait, "attempt": memory.attempt, "total": total}
        if memory.done:
            return Progress(state="done", number=total, step=memory.current, total=total, attempt=memory.attempt)
        if failed is not None:
            return Progress(
                state="failed" if memory.final else "retrying",
                step=failed.step,
                title=_said(job, failed.step, "title"),
                remedy=_said(job, failed.step, "remedy"),
                number=min(memory.at, total),
                exit_code=failed.exit_code,
                late=failed.state == "late",
                tail=failed.tail,
                **common,  # type: ignore[arg-type]
            )
        if memory.next[0] == "put":
            blob, offset = memory.next[1], memory.next[2]
            message = f"{blob.path} is being sent, {offset // 2**20} of {blob.size // 2**20} MiB"
            return Progress(state="sending", message=message, **common)  # type: ignore[arg-type]
        if not memory.heard:
            return Progress(state="asking", **common)  # type: ignore[arg-type]
        if memory.waiting:
            return Progress(state="waiting", message="other steps are still running on it", **common)  # type: ignore[arg-type]
        running = memory.results.get(memory.current)
        title = _said(job, memory.current, "title") if running is not None else ""
        number = min(_finished(memory) + 1, total)
        return Progress(state="running", step=memory.current, title=title, number=number, **common)  # type: ignore[arg-type]


def _finished(memory: _Memory) -> int:
    return sum(1 for result in memory.results.values() if result.state in ("done", "skipped"))


def _said(job: Job | None, step: str, what: Literal["title", "remedy"]) -> str:
    if job is None:
        return ""
    return job.title(step) if what == "title" else job.remedy(step)


def _chunk(blob: Blob, offset: int, size: int) -> bytes:
    try:
        with open(blob.path, "rb") as file:
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise InvalidSpec(f"{blob.path} cannot be read: {error.strerror}", remedy="put it there, or change the spec") from error

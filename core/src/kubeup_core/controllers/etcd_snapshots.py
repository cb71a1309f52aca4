"""Snapshots of etcd: taken on one control plane by the bootstrapper's steps, fetched, verified, and put where the Cluster says.

A controller of its own, keyed by Cluster, so that a store that hangs holds up nothing else. What it knows is in the book
`env.shared(Snapshots)`; `cluster.py`, the only writer of `Cluster.status`, has it composed by `Snapshots.say`. Level-triggered: what
is due follows from the names in the store and from the annotation; one that a crash interrupted is taken anew. Stores are plugins.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from ..bootstrapper import SNAPSHOT_PATH, Step, Task
from ..client import Event
from ..errors import InvalidSpec, NotReady, SupplierError, Unknown
from ..kinds import Cluster, Machine, Secret
from ..kinds.cluster import ClusterStatus, EtcdSnapshot, EtcdStatus
from ..kinds.durations import parse_duration
from ..objects import timestamp
from ..plugins import PluginError
from ..runtime.calls import InProgress
from ..runtime.controller import Controller, Env, Key, Result, Watch
from ..snapshots import SUFFIX, SnapshotStore, Stored
from .access import Reach
from .bootstraps import bootstrapper_of
from .etcd import external, restoring
from .guest import Guest, Progress
from .nodes import Told
from .pauses import held, paused
from .plans import cluster_plan, control_planes, node_plan
from .ssh_keys import values
from .troubles import SOON

REQUEST = "kubeup.dev/snapshot-etcd"
"""Annotation of a Cluster: a token. Another token asks for one more snapshot, now."""

CONDITION = "EtcdSnapshots"
SHOWN = 5
"""Snapshots that the status shows."""

CHUNK = 8
"""MiB that are fetched in one call."""

BACKOFF = (10.0, 30.0, 60.0, 300.0)
LIMIT = 3600.0

T = TypeVar("T")


_UNKNOWN = Told(ok=None, reason="Starting", message="the store has not been asked yet")


@dataclass(frozen=True)
class Known:
    """Of one cluster. stored: its snapshots, the newest first; None before the store was asked. request: the token that was met."""

    told: Told = _UNKNOWN
    stored: tuple[Stored, ...] | None = None
    request: str = ""
    next: float | None = None


class Snapshots:
    """The newest word about each cluster, by uid. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, Known] = {}

    def of(self, uid: str) -> Known:
        with self._lock:
            return self._known.get(uid, Known())

    def put(self, uid: str, known: Known) -> bool:
        """True when that is news."""
        with self._lock:
            before, self._known[uid] = self._known.get(uid), known
        return before != known

    def say(self, cluster: Cluster, status: ClusterStatus, now: float) -> None:
        """Compose status.etcd and the condition. What is not known yet takes back nothing that was said."""
        if cluster.spec.etcd.snapshots.to is None and REQUEST not in cluster.annotations:
            status.drop_condition(CONDITION)
            return
        known, before = self.of(cluster.uid), status.etcd or EtcdStatus()
        if known.stored is not None:
            newest = [EtcdSnapshot(name=s.name, size=s.size, at=timestamp(taken(s.name))) for s in known.stored[:SHOWN]]
            status.etcd = EtcdStatus(
                snapshots=newest,
                last=newest[0].at if newest else None,
                next=timestamp(known.next) if known.next is not None else None,
                request=known.request or before.request,
            )
        told = known.told
        if told.ok is not None or status.condition(CONDITION) is None:
            status.set_condition(CONDITION, told.ok, told.reason, told.message, now=now, generation=cluster.metadata.generation)


class EtcdSnapshotsController(Controller):
    name = "etcd-snapshots"
    kind = Cluster

    def __init__(self, env: Env) -> None:
        self.watches = (Watch(Secret, self._users_of),)
        super().__init__(env)
        self.book = env.shared(Snapshots)
        self.reach = Reach(env, self.name)
        self.guest = Guest(env, self.reach)
        self._taking: dict[str, tuple[float, str]] = {}
        self._failed: dict[str, tuple[int, float]] = {}

    def reconcile(self, key: Key) -> Result:
        cluster = self.env.cache.get(Cluster, key.name, key.namespace)
        if cluster is None or cluster.deleting or cluster.spec.kubernetes is None or paused(self.env, cluster):
            return Result()
        status = cluster.status.control_plane
        if status is None or not status.initialized or restoring(cluster):
            return Result()
        spec = cluster.spec.etcd.snapshots
        if spec.to is None:
            if REQUEST in cluster.annotations:
                message = (
                    "a snapshot was asked for, but spec.etcd.snapshots.to names no place for it; set it to file:///DIRECTORY"
                )
                self._tell(cluster, replace(self.book.of(cluster.uid), told=Told(ok=False, reason="NoStore", message=message)))
            return Result()
        failures, again = self._failed.get(cluster.uid, (0, 0.0))
        if again > self.env.clock.awake():
            return Result(after=again - self.env.clock.awake())
        try:
            after = self._step(cluster, key)
        except InProgress as running:
            return Result(after=running.after)
        except (SupplierError, PluginError) as error:
            return Result(after=self._fail(cluster, failures, error))
        self._failed.pop(cluster.uid, None)
        return Result(after=after)

    # -- in order --------------------------------------------------------------------------------------------------------

    def _step(self, cluster: Cluster, key: Key) -> float | None:
        spec, known = cluster.spec.etcd.snapshots, self.book.of(cluster.uid)
        if external(self.env, cluster):
            raise InvalidSpec(
                "the cluster's etcd is an external one, of which no snapshots are taken",
                path="spec.etcd.snapshots",
                remedy="leave out spec.etcd.snapshots.to, and take them with that etcd's own tools",
            )
        url, data, keep = spec.to or "", credentials(self.env, cluster), spec.keep
        plugins = self.env.plugins
        plugins.snapshot_store(url, data).close()  # a URL that is none is told before anything is taken
        if known.stored is None:
            stored = self._background(
                cluster, key, "list", url, lambda: _with(plugins.snapshot_store(url, data), lambda s: of(cluster, s.list()))
            )
            known = replace(known, stored=stored)
        assert known.stored is not None
        met = known.request or (cluster.status.etcd.request if cluster.status.etcd is not None else "")
        asked = cluster.annotations.get(REQUEST, "")
        last = taken(known.stored[0].name) if known.stored else None
        due = 0.0 if last is None else last + parse_duration(spec.every)
        now = self.env.clock.wall()
        if asked == met and due > now and cluster.uid not in self._taking:
            kept = f"{len(known.stored)} kept in {url}"
            self._tell(cluster, replace(known, request=met, next=due, told=Told(ok=True, reason="Taken", message=kept)))
            return due - now
        machine = self._machine(cluster)
        at, uid = self._taking.setdefault(cluster.uid, (now, machine.uid))
        if uid != machine.uid:  # the one that it was begun on is not Ready any more
            at, _ = self._taking[cluster.uid] = (now, machine.uid)
        name = name_of(cluster, at)
        taking = self._taken(cluster, machine, key, name)
        if taking.state != "done":
            return taking.after
        reach = self.reach

        def keep_it() -> tuple[Stored, ...]:
            return _with(plugins.snapshot_store(url, data), lambda s: store(reach, machine, s, cluster, name, keep))

        stored = self._background(cluster, key, "put", name, keep_it)
        del self._taking[cluster.uid]
        self.env.events.event(cluster, "Normal", "EtcdSnapshotTaken", f"{name} on {machine.name}, kept in {url}")
        due = at + parse_duration(spec.every)
        told = Told(ok=True, reason="Taken", message=f"{len(stored)} kept in {url}")
        self._tell(cluster, Known(told=told, stored=stored, request=asked, next=due))
        return max(due - self.env.clock.wall(), 0.1)

    def _taken(self, cluster: Cluster, machine: Machine, key: Key, name: str) -> Progress:
        """The bootstrapper's steps leave it on the machine."""

        def make() -> Sequence[Step]:
            plan, node = cluster_plan(self.env, cluster, machine), node_plan(self.env, cluster, machine)
            return bootstrapper_of(self.env, cluster).steps(Task.SNAPSHOT, plan, node)

        progress = self.guest.step(machine, Task.SNAPSHOT.value, make, key=key, salt=name, patient=True)
        if progress.error is not None:
            raise progress.error
        if progress.state in ("retrying", "failed"):
            self._taking.pop(cluster.uid, None)
            raise Unknown(
                f"step {progress.step} on {machine.name} failed with exit code {progress.exit_code}: {progress.tail[-300:].strip()}",
                remedy=progress.remedy,
            )
        return progress

    def _machine(self, cluster: Cluster) -> Machine:
        ready = [m for m in control_planes(self.env, cluster) if not m.deleting and m.status.is_true("Ready")]
        able = [m for m in ready if not held(self.env, m)]
        if not able:
            why = f"{held(self.env, ready[0])} is paused" if ready else "no control plane is Ready"
            raise NotReady(f"{why}, so none can be taken", retry_after=SOON)
        return min(able, key=lambda m: m.name)

    # -- below -----------------------------------------------------------------------------------------------------------

    def _background(self, cluster: Cluster, key: Key, verb: str, token: str, fn: Callable[[], T]) -> T:
        where = f"snapshots/{cluster.uid}"
        return self.env.calls.background(where, "the store", verb, fn, wake=(self.name, key), token=token, limit=LIMIT)

    def _fail(self, cluster: Cluster, failures: int, error: SupplierError | PluginError) -> float:
        wait = BACKOFF[min(failures, len(BACKOFF) - 1)]
        self._failed[cluster.uid] = (failures + 1, self.env.clock.awake() + wait)
        remedy = f"; {error.remedy}" if error.remedy else ""
        reason = "InvalidSpec" if isinstance(error, InvalidSpec | PluginError) else "NotTaken"
        told = Told(ok=False, reason=reason, message=f"{error.message}{remedy}; it is tried again by itself")
        self._tell(cluster, replace(self.book.of(cluster.uid), told=told))
        return wait

    def _tell(self, cluster: Cluster, known: Known) -> None:
        if self.book.put(cluster.uid, known):
            self.env.wake("cluster", Key(cluster.namespace, cluster.name))

    def _users_of(self, event: Event[Secret]) -> Iterator[Key]:
        for cluster in self.env.cache.list(Cluster):
            ref = cluster.spec.etcd.snapshots.secret_ref
            if ref is not None and (ref.namespace or cluster.namespace, ref.name) == (
                event.object.namespace,
                event.object.name,
            ):
                self._failed.pop(cluster.uid, None)
                yield Key(cluster.namespace, cluster.name)


# -- credentials ---------------------------------------------------------------------------------------------------------


def credentials(env: Env, cluster: Cluster) -> dict[str, str]:
    """The keys of the Secret that the store is opened with. Raises InvalidSpec when there is no such Secret."""
    ref = cluster.spec.etcd.snapshots.secret_ref
    if ref is None:
        return {}
    namespace = ref.namespace or cluster.namespace
    held = env.cache.get(Secret, ref.name, namespace)
    if held is None:
        raise InvalidSpec(
            f"spec.etcd.snapshots.secretRef: there is no Secret {namespace}/{ref.name}",
            path="spec.etcd.snapshots.secretRef",
            remedy=f"kubectl create secret generic {ref.name} -n {namespace} --from-literal=KEY=VALUE",
        )
    return values(held)


# -- names ---------------------------------------------------------------------------------------------------------------

_STAMP = "%Y%m%d-%H%M%S"


def name_of(cluster: Cluster, at: float) -> str:
    return f"{cluster.namespace}.{cluster.name}-{datetime.fromtimestamp(at, UTC).strftime(_STAMP)}{SUFFIX}"


def taken(name: str) -> float:
    """When it was taken, epoch seconds: the name tells."""
    return datetime.strptime(name.removesuffix(SUFFIX)[-15:], _STAMP).replace(tzinfo=UTC).timestamp()


def of(cluster: Cluster, stored: Sequence[Stored]) -> tuple[Stored, ...]:
    """Those of this cluster, the newest first; others may keep theirs in the same place."""
    name = re.compile(re.escape(f"{cluster.namespace}.{cluster.name}-") + r"\d{8}-\d{6}" + re.escape(SUFFIX))
    return tuple(sorted((s for s in stored if name.fullmatch(s.name)), key=lambda s: s.name, reverse=True))


# -- in a thread that may wait -------------------------------------------------------------------------------------------


def store(reach: Reach, machine: Machine, place: SnapshotStore, cluster: Cluster, name: str, keep: int) -> tuple[Stored, ...]:
    """Fetch, put, forget what is too old. -> the cluster's snapshots then."""
    handle, path = tempfile.mkstemp(prefix="kubeup-", suffix=SUFFIX)  # for its owner only
    try:
        with os.fdopen(handle, "wb") as file:
            fetch(lambda script: _output(reach, machine, script), file.write)
        place.put(name, Path(path))
    finally:
        Path(path).unlink(missing_ok=True)
    reach.call(machine, f"rm -f {SNAPSHOT_PATH}\n")
    found = of(cluster, place.list())
    for old in found[keep:]:
        place.delete(old.name)
    return found[:keep]


def fetch(run: Callable[[str], bytes], write: Callable[[bytes], object]) -> None:
    """What lies at SNAPSHOT_PATH, in pieces. Raises Unknown when it did not arrive as it was."""
    words = run(f"wc -c <{SNAPSHOT_PATH} && sha256sum {SNAPSHOT_PATH}\n").split()
    if len(words) < 2 or not words[0].isdigit():
        raise Unknown("the machine does not tell the size of the snapshot")
    size, wanted, have, digest = int(words[0]), words[1].decode(), 0, hashlib.sha256()
    while have < size:
        piece = run(f"dd if={SNAPSHOT_PATH} bs=1048576 skip={have // 2**20} count={CHUNK} 2>/dev/null\n")
        if not piece:
            break
        digest.update(piece)
        write(piece)
        have += len(piece)
    if have != size or digest.hexdigest() != wanted:
        raise Unknown(f"the snapshot did not arrive as it was ({have} of {size} bytes)")


def _output(reach: Reach, machine: Machine, script: str) -> bytes:
    done = reach.call(machine, script)
    if done.code != 0:
        raise Unknown(f"the snapshot cannot be read on {machine.name}: {done.output[-200:].decode(errors='replace').strip()}")
    return done.output


def _with(place: SnapshotStore, use: Callable[[SnapshotStore], T]) -> T:
    try:
        return use(place)
    finally:
        place.close()

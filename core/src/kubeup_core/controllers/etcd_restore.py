"""etcd comes back out of a snapshot: one control plane gets it, all others are made anew and join that one.

A part of the Cluster controller, asked for by an annotation. Which machine gets it is stored before anything is done, so a crash goes
on where it was. The other control planes are deleted first: etcd of the past and of the snapshot must never serve side by side. When
no control plane is left, a new machine begins with the cluster's own keys and endpoint, and then gets the snapshot. While this lasts
nothing else is done to control planes, and nobody waits for a quorum or an API that are no more (`etcd.restoring`).
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from ..bootstrapper import SNAPSHOT_PATH, File, Step, Task
from ..errors import InvalidSpec, NotFound, SupplierError
from ..kinds import Cluster, Machine
from ..kinds.cluster import ClusterStatus, ControlPlaneStatus, Restore
from ..objects import timestamp
from ..plugins import PluginError
from ..runtime.calls import InProgress
from ..runtime.controller import Env, Key
from ..snapshots import Stored
from ..statuses import Conflict
from ..statuses import NotFound as NoSuchObject
from .access import Reach, not_reached
from .bootstraps import Bootstraps, bootstrapper_of
from .endpoint import on_machine
from .etcd import external
from .etcd_snapshots import credentials, of
from .guest import Guest, Progress, paused
from .members import address_of
from .pauses import held, said
from .plans import cluster_plan, node_plan
from .troubles import LATER, SOON, Trouble

REQUEST = "kubeup.dev/restore-etcd"
"""Annotation of a Cluster: the name of a snapshot, a blank, and a token. Another token asks for the same one once more."""

ASK = 15.0
"""Seconds in which a machine has to answer to be chosen."""

DIGEST = 32
"""Bytes of a SHA-256."""

LIMIT = 3600.0
"""Seconds in which the store has to hand a snapshot over."""


@dataclass(frozen=True)
class _Fetched:
    """A snapshot on kubeup's own machine."""

    folder: Path
    file: Path
    sha256: str


class _Refused(Exception):
    """It can never be done; nothing was changed."""


class Restoring:
    def __init__(self, env: Env, controller: str) -> None:
        self.env = env
        self.controller = controller
        self.reach = Reach(env, controller)
        self.guest = Guest(env, self.reach)
        self.book = env.shared(Bootstraps)
        self._fetched: dict[tuple[str, str], _Fetched] = {}
        self._prefix = f"kubeup-restore-{env.installation}-"
        for left in Path(tempfile.gettempdir()).glob(f"{self._prefix}*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)

    def step(self, cluster: Cluster, status: ClusterStatus, machines: list[Machine]) -> Trouble | None:
        """One step nearer; None when nothing is asked for. machines: the control planes."""
        state, asked = status.control_plane, cluster.annotations.get(REQUEST, "").strip()
        assert state is not None
        restore = state.restore
        try:
            if restore is not None and restore.under_way:
                return self._stopped(restore, machines) or self._go_on(cluster, state, restore, machines, asked)
            if not asked or (restore is not None and restore.request == asked):
                self.forget(cluster.uid)
                return None
            return self._stopped(restore, machines) or self._begin(cluster, status, state, machines, asked)
        except InProgress as running:
            message = (
                "looks which control plane answers" if restore is not None and restore.under_way else "the snapshot is fetched"
            )
            return Trouble(reason="RestoringEtcd", message=message, after=running.after or SOON)
        except _Refused as error:
            self.forget(cluster.uid)
            state.restore = Restore(request=asked, refused=str(error))
            self.env.events.event(cluster, "Warning", "RestoreRefused", str(error))
            return None
        except PluginError as error:
            return Trouble(reason="BootstrapperMissing", message=f"{error.message}; {error.remedy}", after=LATER, stalled=True)
        except SupplierError as error:
            message = f"the snapshot cannot be had: {error.message}{'; ' + error.remedy if error.remedy else ''}"
            return Trouble(reason="RestoringEtcd", message=f"{message}; it is tried again", after=LATER)

    def forget(self, uid: str) -> None:
        """A snapshot holds all Secrets of its cluster: none stays on kubeup's own machine when it is of no use any more."""
        for known in [known for known in self._fetched if known[0] == uid]:
            shutil.rmtree(self._fetched.pop(known).folder, ignore_errors=True)

    # -- in order --------------------------------------------------------------------------------------------------------

    def _stopped(self, restore: Restore | None, machines: list[Machine]) -> Trouble | None:
        """Control planes are deleted on the way, which nothing takes back. Only the machine that gets it is left to its steps."""
        others = [m for m in machines if restore is None or m.uid != restore.machine]
        stop = next((stop for m in others if (stop := held(self.env, m))), "")
        return Trouble(reason="Paused", message=f"etcd is not restored: {said(stop)}", after=SOON) if stop else None

    def _begin(
        self, cluster: Cluster, status: ClusterStatus, state: ControlPlaneStatus, machines: list[Machine], asked: str
    ) -> Trouble:
        """Everything that can be wrong is found out before anything is changed."""
        name = asked.split()[0]
        if external(self.env, cluster):
            raise _Refused("the cluster's etcd is an external one: restore it with that etcd's own tools")
        self._fetch(cluster, name)
        if on_machine(cluster, status) and not any(self.book.joined(m) for m in _living(machines)):
            raise _Refused(
                "the cluster's API was the address of its only control plane, and went with it: nobody would find the restored one. "
                "Create the cluster anew, with spec.endpoint.loadBalancer or spec.endpoint.host"
            )
        state.restore = Restore(request=asked, snapshot=name, at=timestamp(self.env.clock.wall()))
        state.turn = ""
        self.env.events.event(
            cluster, "Normal", "RestoringEtcd", f"{name}; one control plane gets it, the others are made anew"
        )
        return Trouble(reason="RestoringEtcd", message=f"{name} is to be restored", after=0.1)

    def _choose(self, cluster: Cluster, state: ControlPlaneStatus, restore: Restore, machines: list[Machine]) -> Trouble:
        """Who gets it: a control plane that answers, or when none is left a new machine, for which those that failed make room."""
        able = sorted(
            (m for m in _living(machines) if address_of(m)),
            key=lambda m: (not m.status.is_true("Ready"), m.uid != state.first_uid, m.name),
        )
        joined = [m for m in able if self.book.joined(m)]
        chosen = self._answering(cluster, joined) if joined else next(iter(able), None)
        if chosen is None and joined:
            names = ", ".join(m.name for m in joined)
            message = f"the snapshot waits until one of {names} answers, or all are found to be gone"
            return Trouble(reason="RestoringEtcd", message=message, after=SOON)
        if chosen is None:
            self._delete(m for m in machines if m.status.state == "Failed")
            message = "no control plane is left; the snapshot is restored on the first new one that has an address"
            return Trouble(reason="RestoringEtcd", message=message, after=SOON)
        restore.machine = chosen.uid
        if not joined:
            state.first, state.first_uid = chosen.name, chosen.uid
        return Trouble(reason="RestoringEtcd", message=f"{restore.snapshot} is restored on {chosen.name}", after=0.1)

    def _answering(self, cluster: Cluster, machines: list[Machine]) -> Machine | None:
        """A machine may be gone and not be missed yet, and the others are deleted for the sake of this one. Raises InProgress."""
        for machine in machines:
            try:
                key = Key(cluster.namespace, cluster.name)
                if self.reach.run(machine, "true\n", timeout=ASK, key=key, verb="answers").code == 0:
                    return machine
            except SupplierError:
                continue
        return None

    def _go_on(
        self, cluster: Cluster, state: ControlPlaneStatus, restore: Restore, machines: list[Machine], asked: str
    ) -> Trouble:
        machine = next((m for m in _living(machines) if m.uid == restore.machine), None)
        if machine is None:
            restore.machine = ""
            return self._choose(cluster, state, restore, machines)
        if not self.book.joined(machine):
            told = self.book.of(machine)
            said = f": {told.bootstrapped.message}" if told is not None else ""
            message = f"{machine.name} begins a control plane with the cluster's keys, and then gets the snapshot{said}"
            return Trouble(reason="RestoringEtcd", message=message, stalled=told is not None and told.stalled)
        others = [m for m in machines if m.uid != machine.uid and self.book.joined(m)]
        self._delete(others)
        if others:
            names = ", ".join(m.name for m in others)
            message = f"{machine.name} gets {restore.snapshot} when {names} {'is' if len(others) == 1 else 'are'} gone"
            return Trouble(reason="RestoringEtcd", message=message, after=SOON)
        fetched = self._fetch(cluster, restore.snapshot)
        progress = self._run(cluster, machine, restore, fetched)
        if progress.error is not None:
            return not_reached(progress.error, machine)
        if progress.state == "held":
            return paused(progress)
        if progress.state == "done":
            return self._done(cluster, state, restore, machine)
        message = f"{restore.snapshot} is being restored on {machine.name}: {progress.words}"
        if progress.state != "failed":
            return Trouble(reason="RestoringEtcd", message=message, after=progress.after or SOON)
        if asked and asked != restore.request:
            state.restore = None
            return Trouble(reason="RestoringEtcd", message=f"{message}; another one was asked for", after=0.1)
        message += f"; to try another one: kubeup etcd restore {cluster.name} SNAPSHOT"
        return Trouble(reason="RestoreFailed", message=message, after=progress.after or LATER, stalled=True)

    def _delete(self, machines: Iterable[Machine]) -> None:
        for machine in machines:
            if not machine.deleting:
                with suppress(NoSuchObject, Conflict):
                    self.env.client.delete(Machine, machine.name, machine.namespace, uid=machine.uid)

    def _run(self, cluster: Cluster, machine: Machine, restore: Restore, fetched: _Fetched) -> Progress:
        plan, node = cluster_plan(self.env, cluster), node_plan(self.env, cluster, machine)
        bootstrapper = bootstrapper_of(self.env, cluster)
        snapshot = File(path=SNAPSHOT_PATH, source=str(fetched.file), sha256=fetched.sha256, mode=0o600)

        def make() -> Sequence[Step]:
            first, *rest = bootstrapper.steps(Task.RESTORE, plan, node)
            return (replace(first, files=(*first.files, snapshot)), *rest)

        key = Key(cluster.namespace, cluster.name)
        wish = str(cluster.metadata.generation)
        return self.guest.step(machine, Task.RESTORE.value, make, key=key, salt=f"{restore.request} {restore.at}", wish=wish)

    def _done(self, cluster: Cluster, state: ControlPlaneStatus, restore: Restore, machine: Machine) -> Trouble:
        state.restore = restore.model_copy(update={"machine": "", "done": timestamp(self.env.clock.wall())})
        self.forget(cluster.uid)
        self.env.events.event(cluster, "Normal", "EtcdRestored", f"{restore.snapshot} on {machine.name}")
        return Trouble(reason="RestoringEtcd", message=f"{restore.snapshot} is restored on {machine.name}", after=0.1)

    # -- the snapshot ----------------------------------------------------------------------------------------------------

    def _fetch(self, cluster: Cluster, name: str) -> _Fetched:
        """On kubeup's own machine, once for each process. Raises _Refused, InProgress, SupplierError."""
        found = self._fetched.get((cluster.uid, name))
        if found is not None and found.file.exists():
            return found
        url = cluster.spec.etcd.snapshots.to
        if url is None:
            raise _Refused(
                "spec.etcd.snapshots.to names no place that snapshots are in; set it to file:///DIRECTORY or s3://BUCKET/PREFIX"
            )
        if not of(cluster, [Stored(name=name, size=0, at=0.0)]):
            raise _Refused(f"{name!r} is no snapshot of this cluster; kubeup etcd list {cluster.name} names them")
        try:
            data = credentials(self.env, cluster)
            self.env.plugins.snapshot_store(url, data).close()
            plugins, prefix = self.env.plugins, self._prefix

            def get() -> _Fetched:
                folder = Path(tempfile.mkdtemp(prefix=prefix))  # for its owner only
                store = plugins.snapshot_store(url, data)
                try:
                    store.get(name, folder / name)
                    return _Fetched(folder, folder / name, _checked(folder / name))
                except BaseException:
                    shutil.rmtree(folder, ignore_errors=True)
                    raise
                finally:
                    store.close()

            fetched = self.env.calls.background(
                f"snapshots/{cluster.uid}",
                "the store",
                "get",
                get,
                wake=(self.controller, Key(cluster.namespace, cluster.name)),
                token=name,
                limit=LIMIT,
            )
        except NotFound as error:
            raise _Refused(f"{error.message}; kubeup etcd list {cluster.name} names those that there are") from error
        except (InvalidSpec, PluginError) as error:
            raise _Refused(f"{error.message}{'; ' + error.remedy if error.remedy else ''}") from error
        self._fetched[cluster.uid, name] = fetched
        return fetched


def _checked(file: Path) -> str:
    """The SHA-256 of a snapshot. Raises InvalidSpec when it is not what etcd wrote.

    etcd writes the digest of a snapshot at its end, behind whole blocks of 512 bytes (etcdutl/snapshot/v3_snapshot.go), and refuses to
    restore what does not match it: too late for a cluster whose other control planes are gone by then.
    """
    content, whole = hashlib.sha256(), hashlib.sha256()
    left = file.stat().st_size - DIGEST
    complete = left > 0 and left % 512 == 0
    with file.open("rb") as snapshot:
        while left > 0 and (block := snapshot.read(min(left, 1 << 20))):
            content.update(block)
            whole.update(block)
            left -= len(block)
        digest = snapshot.read()
    if not complete or digest != content.digest():
        raise InvalidSpec(
            f"{file.name} is damaged: it does not match the digest that etcd wrote at its end",
            remedy="name another snapshot",
        )
    whole.update(digest)
    return whole.hexdigest()


def _living(machines: Iterable[Machine]) -> list[Machine]:
    return [m for m in machines if not m.deleting and m.status.state != "Failed"]

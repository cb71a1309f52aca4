"""A whole kubeup in one thread: real store on a SQLite file, real verbs and controllers, a fake clock, and a simulated cloud.

For tests of the core and of plugins that bring controllers. Nothing here waits: `settle` works off what is due and moves the clock to
what is due next. `crash` is what kill -9 does to the process: all memory is gone, the files and the cloud are as they were.
Workload clusters are in memory as well (`workloads.py`). The simulated cloud is the distribution kubeup-sim; without it
`Harness(cloud=None)` still runs everything else.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from ..bootstrap import bootstrap
from ..controllers.nodes import Workloads
from ..inprocess import InProcess
from ..kinds import KINDS, Kind, Launch, Machine, NodePool
from ..objects import Resource
from ..plugins import Plugins, discover
from ..requests import Actor, DeleteOptions, Options
from ..runtime.clock import FakeClock
from ..runtime.manager import Factory, Manager
from ..statuses import NotFound
from ..store import Change, Op, Record, Store
from ..verbs import Verbs
from .workloads import FakeWorkload, FakeWorkloads

if TYPE_CHECKING:
    from ..supplier import Suppliers

R = TypeVar("R", bound=Resource)

USER = Actor("tester", ("system:masters",))
WRITE = Options(field_manager="tester", field_validation="Strict")
_names = itertools.count(1)


class Crash(BaseException):
    """What a strike raises: nothing in the core catches it."""


class Harness:
    """cloud: settings of the simulated account (`boot_seconds=(0, 0)`), None for no cloud at all.

    plugins      what is installed; absent: what is
    controllers  absent: all of the core's
    """

    def __init__(
        self,
        folder: Path,
        *,
        cloud: Mapping[str, object] | None = None,
        plugins: Plugins | None = None,
        controllers: Factory | None = None,
        clock: FakeClock | None = None,
        share: Harness | None = None,
    ) -> None:
        self.clock: FakeClock = clock or (share.clock if share else FakeClock())
        self.folder = folder
        self.plugins = plugins or discover()
        self.cloud: Any = share.cloud if share else None
        self.account: str = share.account if share else f"memory:harness-{next(_names)}"
        if self.cloud is None and "sim" in self.plugins.providers:
            self.cloud = import_module("kubeup_sim.cloud").Cloud(clock=self.clock, name=self.account.partition(":")[2])
            self.cloud.configure(dict(cloud or {}))
        self.workloads: FakeWorkloads = share.workloads if share else FakeWorkloads(self.clock)
        self._factory = controllers or import_module("kubeup_core.controllers").all_controllers
        self.writes: Counter[str] = Counter()
        """Store writes by plural ("machines"), and by plural/namespace/name."""
        self.failed: list[tuple[Any, BaseException]] = []
        """Reconciles that raised, of processes that have ended: none is expected."""
        self.on_commit: Callable[[str], None] | None = None
        """Called "before" and "after" each durable write; may raise Crash."""
        self._open()

    # -- what a person does ----------------------------------------------------------------------------------------------

    def apply(self, *documents: str | Mapping[str, Any]) -> None:
        """Create or merge, as a user. Text is YAML, with any number of documents; apiVersion may be left out."""
        for document in self._documents(documents):
            kind = _kind(document["kind"])
            document = {"apiVersion": kind.api_version, **document}
            meta = document["metadata"]
            namespace = meta.get("namespace", "default") if kind.namespaced else ""
            try:
                self.verbs.get(kind, namespace, meta["name"])
            except NotFound:
                self.verbs.create(kind, namespace, document, USER, WRITE)
            else:
                self.verbs.patch(kind, namespace, meta["name"], document, "merge", USER, WRITE)

    def provider(self, name: str = "sim", **config: Any) -> None:
        """Apply a Provider of the simulated cloud."""
        self.apply(
            {
                "kind": "Provider",
                "metadata": {"name": name},
                "spec": {"type": "sim", "config": {"file": self.account, **config}},
            }
        )

    def demo(self, replicas: int = 3, *, cloud: Mapping[str, Any] | None = None, **pool: Any) -> None:
        """Apply Provider `sim`, Cluster `demo` and NodePool `workers`. cloud: the Provider's config; pool: more of its spec."""
        self.provider(**(cloud or {}))
        self.apply(
            {"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "sim"}},
            {"kind": "NodePool", "metadata": {"name": "workers"}, "spec": {"cluster": "demo", "replicas": replicas, **pool}},
        )

    def ready(self, count: int, max_seconds: float = 1800.0) -> None:
        """Until exactly so many machines are there and all of them are Ready."""
        self.until(lambda: [m.status.state for m in self.machines()] == ["Ready"] * count, max_seconds)

    def rented(self) -> list[str]:
        """Names of the machines that exist at the place and are ours, alive or half-made."""
        lines = self.cloud.console.machines()
        return sorted(line.name for line in lines if line.installation == self.store.installation and line.phase != "Deleting")

    def delete(self, kind: type[Resource], name: str, namespace: str = "default") -> None:
        found = _kind(kind.__name__)
        self.verbs.delete(found, namespace if found.namespaced else "", name, USER, DeleteOptions("Background"))

    def edit(self, kind: type[R], name: str, namespace: str = "default", **patch: Any) -> None:
        """A merge patch, as a user: `edit(NodePool, "workers", spec={"replicas": 2})`."""
        found = _kind(kind.__name__)
        self.verbs.patch(found, namespace if found.namespaced else "", name, patch, "merge", USER, WRITE)

    # -- what a person sees ----------------------------------------------------------------------------------------------

    def find(self, kind: type[R], name: str, namespace: str = "default") -> R | None:
        return self.client.find(kind, name, namespace if _kind(kind.__name__).namespaced else "")

    def get(self, kind: type[R], name: str, namespace: str = "default") -> R:
        return self.client.get(kind, name, namespace if _kind(kind.__name__).namespaced else "")

    def all(self, kind: type[R], namespace: str | None = None) -> list[R]:
        return self.client.list(kind, namespace)[0]

    def machines(self) -> list[Machine]:
        return sorted(self.all(Machine), key=lambda m: m.name)

    def launches(self) -> list[Launch]:
        return self.all(Launch)

    def pool(self, name: str = "workers") -> NodePool:
        return self.get(NodePool, name)

    def condition(self, kind: type[R], name: str, type_: str) -> tuple[str, str, str]:
        """(status, reason, message) of a condition; three empty strings when it is not there."""
        found = next((c for c in getattr(self.get(kind, name), "status").conditions if c.type == type_), None)  # noqa: B009
        return (found.status, found.reason, found.message) if found else ("", "", "")

    def messages(self, name: str) -> list[str]:
        """Events of an object, oldest first, as "reason: message"."""
        page = self.verbs.list(_kind("Event"), None)
        events = [_decode(item) for item in page.items]
        return [f"{e['reason']}: {e['message']}" for e in events if e["involvedObject"]["name"] == name]

    # -- time ------------------------------------------------------------------------------------------------------------

    def step(self) -> int:
        """What is due now."""
        return self.manager.step()

    def advance(self, seconds: float) -> None:
        """So many seconds pass, with everything done when it is due."""
        end = self.clock.awake() + seconds
        self.step()
        while (due := self.manager.queue.next_due(slow=True)) is not None and due <= end:
            self.clock.advance(max(0.0, due - self.clock.awake()))
            self.step()
        self.clock.advance(end - self.clock.awake())
        self.step()

    def settle(self, max_seconds: float = 600.0) -> None:
        """Until nothing but periodic looks is due, or so many seconds have passed."""
        end = self.clock.awake() + max_seconds
        self.step()
        while (due := self.manager.queue.next_due()) is not None and due <= end:
            self.clock.advance(max(0.0, due - self.clock.awake()))
            self.step()

    def until(self, true: Callable[[], Any], max_seconds: float = 1800.0) -> None:
        """Until something is so. AssertionError with what is still waited for when it does not become so in time."""
        end = self.clock.awake() + max_seconds
        self.step()
        while not true():
            due = self.manager.queue.next_due(slow=True)
            if due is None or due > end:
                raise AssertionError(self.diagnosis())
            self.clock.advance(max(0.0, due - self.clock.awake()))
            self.step()

    def diagnosis(self) -> str:
        """For a failed assertion: objects, queue, failures."""
        lines = [f"{m.name}: {m.status.state} deleting={m.deleting} launch={m.status.launch}" for m in self.machines()]
        lines += [f"{launch.name}: {launch.status.phase} {[m.name for m in launch.spec.members]}" for launch in self.launches()]
        lines += [f"{p.name}: {[(c.type, c.status, c.message) for c in p.status.conditions]}" for p in self.all(NodePool)]
        lines += [f"due in {at - self.clock.awake():.1f}: {item}" for item, at in self.manager.queue.waiting().items()]
        lines += [f"failed: {item} {error!r}" for item, error in self.manager.failed[-5:]]
        return "not in time:\n" + "\n".join(lines)

    # -- the process -----------------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """kill -9 and a restart on the same files."""
        self.on_commit = None
        if self.cloud is not None:
            self.cloud.strike = None
        self._close()
        self._open()

    def stop(self) -> None:
        """The process ends in order; nothing runs until `start`."""
        self._close()

    def start(self) -> None:
        self._open()

    def workload(self, cluster: str = "demo") -> FakeWorkload:
        """The workload cluster in memory whose API a Cluster's kubeconfig leads to."""
        return self.workloads[cluster]

    def suppliers(self, provider: str = "sim") -> Suppliers:
        place = self.manager.env.places.get(provider)
        assert place is not None, f"there is no Provider {provider}"
        return place.suppliers

    def close(self) -> None:
        self._close()
        if self.cloud is not None:
            self.cloud.close()

    def __enter__(self) -> Harness:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.store = Store(self.folder / "state.db", clock=self.clock.wall)
        self._watch_commits(self.store)
        self.verbs = Verbs(self.store, clock=self.clock)
        bootstrap(self.verbs, now=self.clock.wall())
        self.client = InProcess(self.verbs, inline=True)
        self.store.subscribe(self._count)
        self.manager = Manager(
            self.client,
            plugins=self.plugins,
            installation=self.store.installation,
            controllers=self._factory,
            clock=self.clock,
            inline=True,
        )
        self.manager.env.shared(Workloads).connect = self.workloads.connect  # type: ignore[method-assign]
        self.manager.prepare()

    def _close(self) -> None:
        self.failed += self.manager.failed
        self.manager.stop()
        self.store.close()

    def _watch_commits(self, store: Store) -> None:
        commit = store.commit

        def watched(ops: Sequence[Op]) -> Future[list[Record]]:
            if self.on_commit is not None:
                self.on_commit("before")
            done = commit(ops)
            if self.on_commit is not None:
                done.result()
                self.on_commit("after")
            return done

        store.commit = watched  # type: ignore[method-assign]

    def _count(self, changes: Sequence[Change]) -> None:
        for change in changes:
            plural = change.resource.partition(".")[0]
            self.writes[plural] += 1
            self.writes[f"{plural}/{change.namespace}/{change.name}"] += 1

    @staticmethod
    def _documents(documents: Sequence[str | Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        for document in documents:
            if isinstance(document, str):
                yield from (doc for doc in yaml.safe_load_all(document) if doc)
            else:
                yield dict(document)


def _kind(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.kind == name)


def _decode(data: bytes) -> dict[str, Any]:
    import orjson

    decoded: dict[str, Any] = orjson.loads(data)
    return decoded

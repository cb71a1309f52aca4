"""Fixtures of the core's tests: the verbs over a real store in a temporary directory, with a clock that stands still."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from kubeup_core.bootstrap import bootstrap
from kubeup_core.controllers import all_controllers
from kubeup_core.controllers.cluster import ClusterController
from kubeup_core.inprocess import InProcess
from kubeup_core.kinds import KINDS, Kind, Machine
from kubeup_core.runtime.clock import FakeClock
from kubeup_core.statuses import StatusError
from kubeup_core.store import Store
from kubeup_core.testing.harness import Harness
from kubeup_core.testing.rehearsal import Rehearsal
from kubeup_core.verbs import Actor, AuditLine, DeleteOptions, Options, Verbs

_KINDS = {kind.kind: kind for kind in KINDS}
_SPECS: dict[str, dict[str, Any]] = {
    "Cluster": {"provider": "sim"},
    "NodePool": {"cluster": "demo"},
    "Machine": {"cluster": "demo"},
    "Volume": {"cluster": "demo", "size": "10Gi"},
    "LoadBalancer": {"cluster": "demo", "listeners": [{"port": 80}]},
    "Provider": {"type": "sim"},
}


class Api:
    """The verbs as a client sees them: dicts in, dicts out."""

    def __init__(self, path: Path) -> None:
        self.clock = FakeClock()
        self.store = Store(path / "state.db", clock=self.clock.wall)
        self.audit: list[AuditLine] = []
        self.verbs = Verbs(self.store, clock=self.clock, audit=self.audit.append)
        self.client = InProcess(self.verbs, inline=True)
        self.actor = Actor("tester")
        bootstrap(self.verbs, now=self.clock.wall())

    def obj(self, kind: str, name: str = "demo", spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
        k = _KINDS[kind]
        body: dict[str, Any] = {"apiVersion": k.api_version, "kind": kind, "metadata": {"name": name, **metadata}}
        if kind in _SPECS:
            body["spec"] = {**_SPECS[kind], **(spec or {})}
        return body

    def kind(self, name: str) -> Kind:
        return _KINDS[name]

    def create(self, body: dict[str, Any], **options: Any) -> dict[str, Any]:
        return self._loads(self.verbs.create(self._of(body), self._space(body), body, self.actor, Options(**options)).data)

    def make(self, kind: str, name: str = "demo", spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
        return self.create(self.obj(kind, name, spec, **metadata))

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        return self._loads(self.verbs.get(_KINDS[kind], self._in(kind, namespace), name))

    def update(self, body: dict[str, Any], **options: Any) -> dict[str, Any]:
        name = body["metadata"]["name"]
        answer = self.verbs.update(self._of(body), self._space(body), name, body, self.actor, Options(**options))
        return self._loads(answer.data)

    def patch(
        self, kind: str, name: str, patch: Any, how: Any = "merge", namespace: str = "default", **options: Any
    ) -> dict[str, Any]:
        space = self._in(kind, namespace)
        return self._loads(self.verbs.patch(_KINDS[kind], space, name, patch, how, self.actor, Options(**options)).data)

    def apply(self, body: dict[str, Any], manager: str, **options: Any) -> dict[str, Any]:
        """Server-side apply."""
        options = {"field_manager": manager, **options}
        return self.patch(body["kind"], body["metadata"]["name"], body, "apply", **options)

    def delete(self, kind: str, name: str, namespace: str = "default", **options: Any) -> dict[str, Any]:
        space = self._in(kind, namespace)
        return self._loads(self.verbs.delete(_KINDS[kind], space, name, self.actor, DeleteOptions(**options)).data)

    def names(self, kind: str, namespace: str | None = None, **selectors: Any) -> list[str]:
        page = self.verbs.list(_KINDS[kind], namespace, **selectors)
        return [orjson.loads(item)["metadata"]["name"] for item in page.items]

    def refused(self, error: type[StatusError], call: Any, *args: Any, **kwargs: Any) -> StatusError:
        """The error of a call that must fail and change nothing."""
        before = self.store.rv()
        with pytest.raises(error) as caught:
            call(*args, **kwargs)
        assert self.store.rv() == before, "a refused request was stored"
        return caught.value

    def _of(self, body: dict[str, Any]) -> Kind:
        return _KINDS[body["kind"]]

    def _space(self, body: dict[str, Any]) -> str:
        return self._in(body["kind"], body["metadata"].get("namespace") or "default")

    @staticmethod
    def _in(kind: str, namespace: str) -> str:
        return namespace if _KINDS[kind].namespaced else ""

    @staticmethod
    def _loads(data: bytes) -> dict[str, Any]:
        loaded: dict[str, Any] = orjson.loads(data)
        return loaded


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[Callable[..., Harness]]:
    """Makes Harnesses: harness(), or harness("other", share=first) for a second installation on the same account."""
    pytest.importorskip("kubeup_sim", reason="the simulated cloud is not installed: pip install kubeup-sim")
    made: list[Harness] = []

    def make(folder: str = "state", **options: Any) -> Harness:
        made.append(Harness(tmp_path / folder, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()
    assert [failed for one in made for failed in one.failed] == []


@pytest.fixture
def rehearsal() -> Rehearsal:
    """The bootstrapper of `rehearsed`."""
    return Rehearsal()


@pytest.fixture
def rehearsed(tmp_path: Path, rehearsal: Rehearsal) -> Iterator[Harness]:
    """A Harness whose machines do what the rehearsed steps say, at once; in the end nothing may have failed."""
    with Harness(tmp_path, plugins=rehearsal.plugins(), cloud={"boot_seconds": (1, 1)}) as h:
        rehearsal.follow(h)
        rehearsal.silent(h)
        yield h
        assert [*h.failed, *h.manager.failed] == []


@pytest.fixture
def members(harness: Callable[..., Harness]) -> Callable[..., Harness]:
    """Makes a Harness with Cluster demo, whose workload's API answers, and Machines of its pool workers that are Nodes there.

    As if they had been bootstrapped: what that takes is tested elsewhere. There are no control planes, and the pool makes no machines.
    members("a", "b", labels={...}): names; more of the pool's spec; `cluster`: more of the Cluster's; `before` is called with the
    Harness before anything is there.
    """

    def controllers(env: Any) -> Any:
        found = all_controllers(env)
        for controller in found:
            if isinstance(controller, ClusterController):
                controller._kubernetes = lambda cluster, status: None  # type: ignore[method-assign]
        return found

    def make(
        *names: str,
        before: Callable[[Harness], None] | None = None,
        bootstrapper: Rehearsal | None = None,
        cluster: dict[str, Any] | None = None,
        **pool: Any,
    ) -> Harness:
        h = harness(controllers=controllers, plugins=(bootstrapper or Rehearsal()).plugins())
        if before is not None:
            before(h)
        h.provider()
        spec = {"provider": "sim", "kubernetes": {"version": "v1.34.1", "bootstrapper": "rehearsal"}, **(cluster or {})}
        h.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": spec})
        secret = {"value": base64.b64encode(b"a kubeconfig").decode()}
        h.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "demo-kubeconfig"}, "data": secret})
        h.apply({"kind": "NodePool", "metadata": {"name": "workers"}, "spec": {"cluster": "demo", "replicas": 0, **pool}})
        for name in names:
            join(h, name)
        h.until(lambda: all(m.status.is_true("Ready") for m in h.machines()), 60)
        h.advance(1)
        return h

    return make


def join(h: Harness, name: str, **node: Any) -> None:
    """A Machine of pool workers, and its Node."""
    spec = {"cluster": "demo", "role": "worker", "pool": "workers"}
    h.apply({"kind": "Machine", "metadata": {"name": name}, "spec": spec})
    machine = h.get(Machine, name)
    machine.status.set_condition("Bootstrapped", True, "Joined", now=h.clock.wall())
    h.client.update_status(machine)
    h.workload().join(name, **node)

"""Fixtures of the core's tests: the verbs over a real store in a temporary directory, with a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from kubeup_core.bootstrap import bootstrap
from kubeup_core.inprocess import InProcess
from kubeup_core.kinds import KINDS, Kind
from kubeup_core.runtime.clock import FakeClock
from kubeup_core.statuses import StatusError
from kubeup_core.store import Store
from kubeup_core.testing.harness import Harness
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

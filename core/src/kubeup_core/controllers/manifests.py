"""Addons of a workload cluster: the bootstrapper's manifests and `Cluster.spec.manifests`, in order, by server-side apply.

Called by `node.py`, once the cluster has begun. Each text is applied when it is new or has changed (by its digest), and not again:
what people change in the cluster afterwards stays. Nothing is ever deleted there. Texts are read and sent in a thread.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ..bootstrapper import Bootstrapper, ClusterPlan
from ..errors import SupplierError
from ..kinds import Cluster
from ..kinds.cluster import Manifest
from ..plugins import PluginError
from ..runtime.controller import Env, Key
from ..statuses import NotFound, StatusError
from ..workload import Unreachable, Workload
from .nodes import Known, Nodes, Told, pool_of
from .plans import cluster_plan

SOON, LATER, RARELY = 3.0, 20.0, 600.0
"""Awake seconds until the next try: a kind that is not served yet; what failed; and a look whether a file or URL has changed."""

LIMIT = 180.0
LARGEST = 32 * 2**20
"""Bytes of a manifest."""


class Failed(Exception):
    """One manifest that cannot be had or applied: a reason, and a sentence with what to do."""

    def __init__(self, reason: str, message: str, after: float = LATER) -> None:
        super().__init__(message)
        self.told = Told(ok=False, reason=reason, message=message)
        self.after = after


@dataclass(frozen=True)
class Outcome:
    """applied: name -> digest of all that is in the cluster now."""

    applied: Mapping[str, str]
    failed: Failed | None = None


@dataclass(frozen=True)
class _State:
    wish: str = ""
    applied: Mapping[str, str] = field(default_factory=dict)
    next: float = 0.0


class Manifests:
    """For the NodesController."""

    def __init__(self, env: Env, nodes: Nodes, controller: str) -> None:
        self.env = env
        self.nodes = nodes
        self.controller = controller
        self._states: dict[str, _State] = {}

    def step(self, cluster: Cluster, known: Known, key: Key) -> float | None:
        """Apply what is due. -> awake seconds until the next look. Raises InProgress."""
        plane = cluster.status.control_plane
        if known.api.ok is not True or known.workload is None or plane is None or not plane.initialized or cluster.deleting:
            return None
        assert cluster.spec.kubernetes is not None
        try:
            bootstrapper = self.env.plugins.bootstrapper(cluster.spec.kubernetes.bootstrapper).build()
        except PluginError as error:
            return self._tell(
                known, Told(ok=False, reason="BootstrapperMissing", message=f"{error.message}; {error.remedy}"), LATER
            )
        plan = cluster_plan(self.env, cluster)
        wish = hashlib.sha256(repr((plan, cluster.spec.manifests)).encode()).hexdigest()
        state, now = self._states.get(cluster.uid, _State()), self.env.clock.awake()
        if state.wish == wish and now < state.next:
            return state.next - now
        work = partial(apply_all, known.workload, bootstrapper, plan, cluster.spec.manifests, state.applied)
        try:
            done: Outcome = self.env.calls.background(
                pool_of(cluster.uid),
                f"the API of {cluster.name}",
                "apply manifests",
                work,
                wake=(self.controller, key),
                token=wish,
                limit=LIMIT,
            )
        except SupplierError as error:
            self._states[cluster.uid] = replace(state, wish=wish, next=now + LATER)
            return self._tell(
                known, Told(ok=False, reason="OutcomeUnknown", message=f"{error.message}; it is tried again"), LATER
            )
        after = done.failed.after if done.failed is not None else RARELY
        self._states[cluster.uid] = _State(wish, done.applied, now + after)
        if done.failed is not None:
            return self._tell(known, done.failed.told, after)
        return self._tell(known, Told(ok=True, reason="Applied", message=_all(done.applied)), after)

    def forget(self, uid: str) -> None:
        self._states.pop(uid, None)

    def _tell(self, known: Known, told: Told, after: float) -> float:
        if known.addons != told:
            known.addons = told
            self.env.wake("cluster", known.key)
        return after


def apply_all(
    workload: Workload,
    bootstrapper: Bootstrapper,
    plan: ClusterPlan,
    manifests: Sequence[Manifest],
    before: Mapping[str, str],
) -> Outcome:
    """Each in order, as far as it goes: what comes later may need what comes before. Blocks: for a thread."""
    applied: dict[str, str] = {}
    try:
        for name, text in _texts(bootstrapper, plan, manifests, before):
            digest = hashlib.sha256(text).hexdigest() if text is not None else before[name]
            if text is not None and before.get(name) != digest:
                _apply(workload, name, text)
            applied[name] = digest
    except Failed as failed:
        return Outcome({**before, **applied}, failed)
    return Outcome(applied)


def _texts(
    bootstrapper: Bootstrapper, plan: ClusterPlan, manifests: Sequence[Manifest], before: Mapping[str, str]
) -> Iterator[tuple[str, bytes | None]]:
    """(name, text); None for one whose declared hash is in the cluster already."""
    try:
        addons = bootstrapper.addons(plan)
    except SupplierError as error:
        raise Failed("AddonsInvalid", f"{error.message}; {error.remedy or 'change spec.kubernetes'}") from error
    for addon in addons:
        yield f"addon {addon.name}", addon.manifest.encode()
    for index, manifest in enumerate(manifests):
        name, wanted = manifest.url or manifest.path or "", (manifest.sha256 or "").lower()
        if wanted and before.get(name) == wanted:
            yield name, None
            continue
        text = _fetch(name) if manifest.url else _read(name)
        found = hashlib.sha256(text).hexdigest()
        if wanted and found != wanted:
            raise Failed(
                "ManifestChanged",
                f"{name} has the sha256 {found}, and spec.manifests[{index}] declares {wanted}, so it is not applied; if it is "
                "the one that you mean, declare its hash, otherwise find out who changed it",
            )
        yield name, text


def _read(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return _bounded(path, file.read(LARGEST + 1))
    except OSError as error:
        message = f"{path} cannot be read on kubeup's own machine: {error.strerror}; put it there, or correct spec.manifests"
        raise Failed("ManifestUnreadable", message) from error


def _fetch(url: str) -> bytes:
    import httpx  # where there is a manifest to fetch, and nowhere else

    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=20) as answer:
            answer.raise_for_status()
            text = bytearray()
            for part in answer.iter_bytes():
                text += part
                if len(text) > LARGEST:
                    break
    except httpx.HTTPStatusError as error:
        what = f"{url} answers {error.response.status_code} {error.response.reason_phrase}"
        raise Failed("ManifestUnreachable", f"{what}; correct the URL in spec.manifests, or use path") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        what = f"{url} cannot be fetched: {error or type(error).__name__}"
        raise Failed("ManifestUnreachable", f"{what}; it is tried again by itself, or use path with a file") from error
    return _bounded(url, bytes(text))


def _bounded(name: str, text: bytes) -> bytes:
    if len(text) > LARGEST:
        raise Failed("ManifestTooLarge", f"{name} is larger than {LARGEST >> 20} MiB; is it the file that you mean?")
    return text


def _apply(workload: Workload, name: str, text: bytes) -> None:
    try:
        workload.apply(text.decode())
    except UnicodeDecodeError as error:
        raise Failed("ManifestRefused", f"{name} is not text; is it the file that you mean?") from error
    except Unreachable as error:
        raise Failed("ApiUnreachable", f"{name} is not applied yet: {error.message}; it is tried again", SOON) from error
    except NotFound as error:
        message = f"{name} is not applied yet: {error.message}; what it needs has to come before it"
        raise Failed("ManifestWaits", message, SOON) from error
    except StatusError as error:
        raise Failed("ManifestRefused", f"{name} is refused: {error.message}; correct it, and it is tried again") from error


def _all(applied: Mapping[str, str]) -> str:
    return f"applied: {', '.join(applied)}" if applied else "there is nothing to apply"

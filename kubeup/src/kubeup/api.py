"""The API as commands use it: plain dicts over HTTPS, errors as CommandError. Controllers have a typed client of their own.

It speaks to the server of a state directory, or to a context of the usual kubeconfig (a remote `kubeup serve`, a real
kube-apiserver). Kinds are learned from the server, as kubectl does. Only the standard library and orjson are needed: a command
that asks one question should not take longer to start than to answer.
"""

from __future__ import annotations

import difflib
import http.client
import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import orjson

from .errors import BAD_INPUT, NO_SERVER, REFUSED, CommandError
from .state import State

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
MANAGER = "kubeup-cli"
GROUP = "kubeup.dev/v1alpha1"
TIMEOUT = 60.0
WORKLOADS = frozenset({"node", "pod", "service", "deployment", "daemonset", "statefulset", "job", "configmap", "ingress"})
"""Kinds that people ask for here, and which the clusters have that were made here."""
PAGE = 500
"""Objects per page of a list, so that no answer of a server with thousands of machines takes long to make."""

Object = dict[str, Any]


class Refused(CommandError):
    """The API said no. `status` is the Status object."""

    def __init__(self, status: Object) -> None:
        super().__init__(str(status.get("message", "refused")), "", REFUSED)
        self.status = status
        self.reason = str(status.get("reason", ""))
        self.causes = list((status.get("details") or {}).get("causes") or ())


@dataclass(frozen=True)
class Way:
    """Where, with what, and whom to trust. remedy: what to do when nobody answers there."""

    url: str
    token: str
    ca: str
    certificate: str = ""
    remedy: str = ""

    def __repr__(self) -> str:
        return f"Way({self.url!r})"


@dataclass(frozen=True)
class Kind:
    """A kind as discovery says it."""

    kind: str
    plural: str
    singular: str
    group_version: str
    namespaced: bool
    short_names: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        group = self.group_version.rpartition("/")[0]
        return (self.kind.lower(), self.plural, self.singular, f"{self.plural}.{group}", *self.short_names)

    def path(self, namespace: str = "", name: str = "") -> str:
        """The URL's path of a collection or an object."""
        root = f"/apis/{self.group_version}" if "/" in self.group_version else f"/api/{self.group_version}"
        inside = f"/namespaces/{quote(namespace, safe='')}" if self.namespaced and namespace else ""
        return f"{root}{inside}/{self.plural}" + (f"/{quote(name, safe='')}" if name else "")


def way(state: State) -> Way:
    """To the server of the state directory, or to the context that was asked for."""
    if state.context:
        return _context(state.context)
    server = state.server() or {}
    try:
        token, ca = (state.path / "token").read_text().strip(), (state.path / "ca.crt").read_text()
        return Way(str(server["url"]), token, ca, remedy="kubeup status; kubeup restart")
    except (OSError, KeyError):
        raise CommandError(f"no server has run on {state.path} yet", "kubeup up -f FILE starts one", NO_SERVER) from None


def _context(name: str) -> Way:
    """The first file of KUBECONFIG (else ~/.kube/config) that has this context."""
    from kubeup_core.login import ConfigError, read_kubeconfig

    files = [Path(f).expanduser() for f in os.environ.get("KUBECONFIG", "").split(os.pathsep) if f]
    problem = ""
    for file in files or [Path.home() / ".kube" / "config"]:
        try:
            found = read_kubeconfig(file, name)
        except ConfigError as error:
            problem = problem or str(error)
            continue
        remedy = f"kubectl --context {name} version"
        return Way(found.url, found.token, found.ca, found.certificate, remedy)
    raise CommandError(problem, "kubectl config get-contexts lists them", BAD_INPUT)


class Api:
    """One connection, kept open. Not for several threads at once."""

    def __init__(self, to: Way) -> None:
        self._to = to
        self._kinds: dict[str, Kind] = {}
        self._asked: set[str] = set()

    @cached_property
    def _http(self) -> http.client.HTTPConnection:
        parts = urlsplit(self._to.url)
        if parts.scheme != "https":
            raise CommandError(f"{self._to.url} is not https", "a token is not sent in the clear; use https", BAD_INPUT)
        trust = ssl.create_default_context(cadata=self._to.ca or None)
        if self._to.certificate:
            with _as_file(self._to.certificate) as pem:
                trust.load_cert_chain(pem)
        return http.client.HTTPSConnection(parts.hostname or "", parts.port, context=trust, timeout=TIMEOUT)

    def close(self) -> None:
        if "_http" in self.__dict__:
            self._http.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        body: Object | None = None,
        kind: str = "application/json",
        accept: str = "application/json",
    ) -> Object:
        """One request. Raises Refused for what the API refuses, CommandError when nobody answers."""
        headers = {"Accept": accept, "User-Agent": MANAGER}
        if self._to.token:
            headers["Authorization"] = f"Bearer {self._to.token}"
        data = None
        if body is not None:
            headers["Content-Type"], data = kind, orjson.dumps(body)
        status, text = self._send(method, path + (f"?{urlencode(params)}" if params else ""), data, headers)
        try:
            value: Object = orjson.loads(text)
        except ValueError:
            value = {"message": f"HTTP {status}: {text[:200].decode(errors='replace').strip()}", "code": status}
        if status >= 400:
            raise Refused(value)
        return value

    def _send(self, method: str, target: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        reused = self._http.sock is not None
        try:
            self._http.request(method, target, data, headers)
            answer = self._http.getresponse()
            return answer.status, answer.read()
        except (http.client.HTTPException, OSError) as error:
            self._http.close()
            if reused and isinstance(error, ConnectionError):
                # It was kept open and closed meanwhile at the other end; nothing that is sent here does harm a second time.
                return self._send(method, target, data, headers)
            why = "in time" if isinstance(error, TimeoutError) else f"({error})"
            raise CommandError(f"the server at {self._to.url} does not answer {why}", self._to.remedy, NO_SERVER) from error

    # -- kinds --

    def kind(self, word: str) -> Kind:
        """By kind, plural, singular or short name, in any case, with or without the group (`nodepools.kubeup.dev`)."""
        asked = word.lower()
        for version in self._versions():
            self._discover(version)
            if asked in self._kinds:
                return self._kinds[asked]
        kinds = dict.fromkeys(self._kinds.values())
        near = difflib.get_close_matches(asked, [n for k in kinds for n in (k.kind.lower(), k.plural)], 1)
        known = ", ".join(k.plural for k in kinds if k.group_version == GROUP)
        if asked.removesuffix("s") in WORKLOADS:
            remedy = "`kubeup kubeconfig CLUSTER` says how kubectl asks that cluster"
            raise CommandError(f"there is no kind {word!r} here: a Kubernetes cluster has it", remedy, BAD_INPUT)
        raise CommandError(
            f"there is no kind {word!r}", f"did you mean {near[0]}?" if near else f"there are {known}", BAD_INPUT
        )

    def _versions(self) -> Iterator[str]:
        """Group versions, ours first: the others are asked for only when a word is not one of them."""
        yield from (GROUP, "v1")
        for group in self.request("GET", "/apis").get("groups") or ():
            if group["preferredVersion"]["groupVersion"] != GROUP:
                yield group["preferredVersion"]["groupVersion"]

    def _discover(self, version: str) -> None:
        if version in self._asked:
            return
        self._asked.add(version)
        try:
            found = self.request("GET", f"/apis/{version}" if "/" in version else f"/api/{version}")
        except Refused as error:
            if version == GROUP and error.reason in ("NotFound", "") and not self._kinds:
                raise CommandError(
                    f"{self._to.url} does not serve {GROUP}", "it is not a kubeup server; choose another --context", NO_SERVER
                ) from error
            return
        for r in found.get("resources") or ():
            if "/" not in r["name"]:
                short = tuple(r.get("shortNames") or ())
                kind = Kind(r["kind"], r["name"], r.get("singularName") or r["kind"].lower(), version, r["namespaced"], short)
                for word in kind.words:
                    self._kinds.setdefault(word, kind)

    # -- objects --

    def get(self, kind: str, name: str, namespace: str = "") -> Object:
        return self.request("GET", self.kind(kind).path(namespace, name))

    def find(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """None when it is not there."""
        try:
            return self.get(kind, name, namespace)
        except Refused as error:
            if error.reason == "NotFound":
                return None
            raise

    def list(self, kind: str, namespace: str = "", labels: str = "", fields: str = "") -> list[Object]:
        """All namespaces when none is given."""
        found = self.kind(kind)
        params = {k: v for k, v in (("labelSelector", labels), ("fieldSelector", fields)) if v}
        items: list[Object] = []
        for page in self._pages(found.path(namespace), params, "application/json"):
            items += page["items"]
        for item in items:
            item.setdefault("kind", found.kind)
            item.setdefault("apiVersion", found.group_version)
        return items

    def count(self, kind: str) -> int:
        """How many there are, without reading them."""
        page = self.request("GET", self.kind(kind).path(), params={"limit": "1"})
        return len(page["items"]) + int(page["metadata"].get("remainingItemCount") or 0)

    def table(self, kind: str, namespace: str = "", name: str = "", labels: str = "", include: str = "Metadata") -> Object:
        """The server's own table. include: `None` leaves out the objects' metadata, which is most of the answer."""
        params = {"includeObject": include} | ({"labelSelector": labels} if labels else {})
        whole: Object = {}
        for page in self._pages(self.kind(kind).path(namespace, name), params, TABLE, paged=not name):
            whole = page if not whole else {**whole, "rows": whole["rows"] + (page.get("rows") or [])}
        return whole

    def _pages(self, path: str, params: dict[str, str], accept: str, *, paged: bool = True) -> Iterator[Object]:
        more = ""
        while True:
            ask = params | ({"limit": str(PAGE)} if paged else {}) | ({"continue": more} if more else {})
            page = self.request("GET", path, params=ask, accept=accept)
            yield page
            more = (page.get("metadata") or {}).get("continue") or ""
            if not more:
                return

    def apply(self, obj: Object, *, dry_run: bool = False) -> tuple[Object, str]:
        """Server-side apply of the whole document; what the file says wins. Returns the object and
        created | configured | unchanged."""
        kind, meta = self.kind(obj["kind"]), obj["metadata"]
        before = self.find(obj["kind"], meta["name"], meta.get("namespace", "")) if not dry_run else None
        params = {"fieldManager": MANAGER, "force": "true", "fieldValidation": "Strict"} | (
            {"dryRun": "All"} if dry_run else {}
        )
        where = kind.path(meta.get("namespace", ""), meta["name"])
        after = self.request("PATCH", where, params=params, body=obj, kind=APPLY)
        if before is None:
            return after, "created"
        # Generation, not resourceVersion: a controller may have written status between the two requests.
        same = _declared(before) == _declared(after)
        return after, "unchanged" if same else "configured"

    def patch(self, kind: str, name: str, namespace: str, body: Object) -> Object:
        """A merge patch."""
        return self.request("PATCH", self.kind(kind).path(namespace, name), body=body, kind=MERGE)

    def delete(self, kind: str, name: str, namespace: str = "", *, dry_run: bool = False) -> bool:
        """False when it was not there."""
        params = {"dryRun": "All"} if dry_run else None
        try:
            self.request(
                "DELETE", self.kind(kind).path(namespace, name), params=params, body={"propagationPolicy": "Background"}
            )
        except Refused as error:
            if error.reason == "NotFound":
                return False
            raise
        return True


def _declared(obj: Object) -> Object:
    """What people declare of an object: all but status and what the server writes into the metadata."""
    kept = ("name", "namespace", "uid", "labels", "annotations")
    meta = {k: v for k, v in obj["metadata"].items() if k in kept}
    return {**{k: v for k, v in obj.items() if k not in ("status", "metadata")}, "metadata": meta}


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """The name of a file of mode 0600: OpenSSL reads certificates with their keys from files only."""
    handle, name = tempfile.mkstemp(prefix="kubeup-")
    try:
        with os.fdopen(handle, "w") as out:
            out.write(text)
        yield name
    finally:
        os.unlink(name)

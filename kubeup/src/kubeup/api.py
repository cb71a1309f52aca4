"""The API as commands use it: plain dicts over HTTPS, errors as CommandError. Controllers have a typed client of their own.

Reads the kubeconfig of the state directory (or KUBECONFIG with --context, for a remote `kubeup serve`), imports httpx only when
something is asked.
"""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kubeup_core.kinds import KINDS, Kind
from kubeup_core.objects import Resource

from .errors import BAD_INPUT, NO_SERVER, REFUSED, CommandError
from .state import State

if TYPE_CHECKING:
    import httpx

APPLY = "application/apply-patch+yaml"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
MANAGER = "kubeup-cli"

Object = dict[str, Any]


class Refused(CommandError):
    """The API said no. `status` is the Status object."""

    def __init__(self, status: Object) -> None:
        super().__init__(str(status.get("message", "refused")), "", REFUSED)
        self.status = status
        self.reason = str(status.get("reason", ""))
        self.causes = list((status.get("details") or {}).get("causes") or ())


@dataclass(frozen=True)
class Login:
    """Where, with what, and whom to trust."""

    server: str
    token: str
    ca: str


def login(state: State) -> Login:
    """From the state directory's kubeconfig."""
    import yaml

    try:
        config = yaml.safe_load(state.kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        ca = base64.b64decode(cluster["certificate-authority-data"]).decode()
        return Login(cluster["server"], config["users"][0]["user"]["token"], ca)
    except FileNotFoundError:
        raise CommandError(f"no server has run on {state.path} yet", "kubeup up -f FILE starts one", NO_SERVER) from None
    except (KeyError, IndexError, TypeError, ValueError, yaml.YAMLError) as error:
        raise CommandError(
            f"{state.kubeconfig} is not a kubeconfig: {error!r}", "kubeup restart writes it anew", NO_SERVER
        ) from error


class Api:
    def __init__(self, to: Login) -> None:
        self._to = to

    @cached_property
    def _http(self) -> httpx.Client:
        import httpx

        verify = ssl.create_default_context(cadata=self._to.ca)
        headers = {"Authorization": f"Bearer {self._to.token}", "User-Agent": f"{MANAGER}/0"}
        return httpx.Client(base_url=self._to.server, verify=verify, headers=headers, timeout=60, trust_env=False)

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
        import httpx
        import orjson

        headers = {"Accept": accept} | ({"Content-Type": kind} if body is not None else {})
        try:
            answer = self._http.request(
                method, path, params=params, headers=headers, content=None if body is None else orjson.dumps(body)
            )
        except httpx.HTTPError as error:
            raise CommandError(
                f"the server at {self._to.server} does not answer ({type(error).__name__})",
                "kubeup status; kubeup restart",
                NO_SERVER,
            ) from error
        try:
            value: Object = orjson.loads(answer.content)
        except ValueError:
            value = {"message": answer.text[:200], "code": answer.status_code}
        if answer.status_code >= 400:
            raise Refused(value)
        return value

    # -- objects --

    def get(self, kind: Kind, name: str, namespace: str = "") -> Object:
        return self.request("GET", path(kind, namespace, name))

    def find(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        try:
            return self.get(kind, name, namespace)
        except Refused as error:
            if error.reason == "NotFound":
                return None
            raise

    def list(self, kind: Kind, namespace: str = "", labels: str = "", fields: str = "") -> list[Object]:
        """All namespaces when none is given."""
        params = {k: v for k, v in (("labelSelector", labels), ("fieldSelector", fields)) if v}
        items: list[Object] = self.request("GET", path(kind, namespace), params=params)["items"]
        for item in items:
            item.setdefault("kind", kind.kind)
            item.setdefault("apiVersion", kind.api_version)
        return items

    def table(self, kind: Kind, namespace: str = "", name: str = "", labels: str = "") -> Object:
        params = {"labelSelector": labels} if labels else None
        return self.request("GET", path(kind, namespace, name), params=params, accept=f"{TABLE},application/json")

    def apply(self, obj: Object, *, dry_run: bool = False) -> tuple[Object, str]:
        """Server-side apply of the whole document; what the file says wins. Returns the object and
        created | configured | unchanged."""
        kind = kind_of(obj)
        meta = obj["metadata"]
        before = self.find(kind, meta["name"], meta.get("namespace", ""))
        params = {"fieldManager": MANAGER, "force": "true", "fieldValidation": "Strict"} | (
            {"dryRun": "All"} if dry_run else {}
        )
        where = path(kind, meta.get("namespace", ""), meta["name"])
        after = self.request("PATCH", where, params=params, body=obj, kind=APPLY)
        if before is None:
            return after, "created"
        same = before["metadata"].get("resourceVersion") == after["metadata"].get("resourceVersion")
        return after, "unchanged" if same else "configured"

    def delete(self, kind: Kind, name: str, namespace: str = "") -> bool:
        """False when it was not there."""
        try:
            self.request("DELETE", path(kind, namespace, name), body={"propagationPolicy": "Background"})
        except Refused as error:
            if error.reason == "NotFound":
                return False
            raise
        return True


def path(kind: Kind, namespace: str = "", name: str = "", subresource: str = "") -> str:
    """The URL's path of a collection, an object, a subresource."""
    root = f"/apis/{kind.group}/{kind.version}" if kind.group else f"/api/{kind.version}"
    inside = f"/namespaces/{namespace}" if kind.namespaced and namespace else ""
    return "/".join(part for part in (f"{root}{inside}/{kind.plural}", name, subresource) if part)


def kind_of(obj: Object) -> Kind:
    """The Kind of a document; checks.py has refused unknown ones before."""
    return kind_named(str(obj.get("kind", "")))


def kind_for(model: type[Resource]) -> Kind:
    return next(k for k in KINDS if k.model is model)


def kind_named(word: str) -> Kind:
    """By kind, plural, singular or short name, in any case, with or without the group (`nodepools.kubeup.dev`)."""
    import difflib

    asked = word.lower()
    for kind in KINDS:
        if asked in (kind.kind.lower(), kind.plural, kind.singular_name, kind.resource, *kind.short_names):
            return kind
    near = difflib.get_close_matches(asked, [n for k in KINDS for n in (k.kind.lower(), k.plural)], 1)
    known = ", ".join(k.plural for k in KINDS if not k.builtin)
    hint = f"did you mean {near[0]}?" if near else f"there are {known}"
    raise CommandError(f"there is no kind {word!r}", hint, BAD_INPUT)

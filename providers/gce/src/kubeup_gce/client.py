"""The API of Compute Engine, as far as kubeup needs it: the only module that imports the SDK, and the only one that knows its errors.

Used by the suppliers. Each request is charged before it is sent and is sent once: the SDK's retries sleep, and its `result()` asks
Google's own endpoint whatever was configured, so neither is used. Answers are plain dicts with the SDK's names of fields (numbers
of 64 bits as text); errors are those of `kubeup_core` alone (`codes.py`).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import google.auth
import google.auth.exceptions
import requests
import urllib3.exceptions
from google.api_core.client_options import ClientOptions
from google.api_core.exceptions import GoogleAPICallError
from google.auth.credentials import AnonymousCredentials
from google.cloud import compute_v1
from google.oauth2 import service_account
from google.protobuf import json_format
from kubeup_core import Denied, InvalidSpec, NotFound, NotReady, SupplierError, Unknown

from . import codes

TIMEOUT = 60.0
"""Seconds for one answer."""

READ, LIST, CHANGE = "compute.read", "compute.list", "compute.mutate"
BUDGETS: Mapping[str, tuple[float, float]] = {READ: (750.0, 25.0), LIST: (750.0, 25.0), CHANGE: (750.0, 25.0)}
"""Half of the default per-minute quotas (1,500 queries per project, region and group), as other tools share them."""

SCOPE = "https://www.googleapis.com/auth/compute"
Record = dict[str, Any]


class Compute:
    """One region of one project. Thread-safe."""

    def __init__(
        self, project: str, region: str, credentials: Any, endpoint: str | None, charge: Callable[[str, float], None]
    ) -> None:
        self.project, self.region = project, region
        self._credentials, self._endpoint, self._charge = credentials, endpoint, charge
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.transport.close()

    def get(self, service: str, **request: Any) -> Record | None:
        """One thing, or None when it is not there."""
        try:
            return self.ask(service, "get", **request)
        except NotFound:
            return None

    def ask(self, service: str, verb: str, **request: Any) -> Record:
        """One request that changes nothing."""
        return _plain(self._call(READ, service, verb, request))

    def change(self, service: str, verb: str, **request: Any) -> Record:
        """One request that changes something: the operation that does it."""
        return _plain(self._call(CHANGE, service, f"{verb}_unary", request))

    def all(self, service: str, verb: str = "list", **request: Any) -> list[Record]:
        """All pages."""
        return [item for page in self._pages(service, verb, request) for item in page.get("items", ())]

    def everywhere(self, service: str, part: str, **request: Any) -> tuple[list[Record], set[str]]:
        """All pages of all zones; and the zones that did not answer. part: the field of a zone's things (`instances`)."""
        found: list[Record] = []
        silent: set[str] = set()
        for page in self._pages(service, "aggregated_list", request):
            silent |= {_last(place) for place in page.get("unreachables", ())}
            for place, scoped in page.get("items", {}).items():
                found += scoped.get(part, ())
                if scoped.get("warning", {}).get("code", "") not in ("", "NO_RESULTS_ON_PAGE"):
                    silent.add(_last(place))
        return found, silent

    def _pages(self, service: str, verb: str, request: Mapping[str, Any]) -> Iterator[Record]:
        token = ""
        while True:
            asked = {**request, **({"page_token": token} if token else {})}
            page = _plain(self._call(LIST, service, verb, asked)._response)
            yield page
            token = page.get("next_page_token", "")
            if not token:
                return

    def _call(self, bucket: str, service: str, verb: str, request: Mapping[str, Any]) -> Any:
        asked = {"project": self.project, **request}
        self._charge(bucket, 1.0)
        with decided():
            return getattr(self._client(service), verb)(request=asked, retry=None, timeout=TIMEOUT)

    def _client(self, service: str) -> Any:
        with self._lock:
            if service not in self._clients:
                options = ClientOptions(api_endpoint=self._endpoint) if self._endpoint else None
                made = getattr(compute_v1, f"{service}Client")
                self._clients[service] = made(credentials=self._credentials, client_options=options)
            return self._clients[service]


def credentials(endpoint: str | None, secrets: Mapping[str, str]) -> tuple[Any, str | None, str]:
    """The credentials, the project that they name, and who they are. Secrets: of a Secret with a service account's key file.

    An endpoint without TLS gets none: what is sent there could be read on the way.
    """
    if endpoint is not None and endpoint.startswith("http://"):
        return AnonymousCredentials(), None, f"nobody, at {endpoint}"  # type: ignore[no-untyped-call]
    key = next((value for value in secrets.values() if '"service_account"' in value), None)
    if key is not None:
        try:
            found = json.loads(key)
            made = service_account.Credentials.from_service_account_info(found, scopes=[SCOPE])  # type: ignore[no-untyped-call]
        except (ValueError, google.auth.exceptions.GoogleAuthError) as error:
            raise Denied(
                "the Secret holds no usable key of a service account",
                remedy="put the JSON file that Google gave out into one of the Secret's keys, unchanged",
            ) from error
        return made, found.get("project_id"), str(found.get("client_email", ""))
    try:
        ambient, project = google.auth.default(scopes=[SCOPE])
    except google.auth.exceptions.GoogleAuthError as error:
        raise Denied(
            "there are no credentials for Google here",
            remedy="run gcloud auth application-default login, or name a Secret in spec.credentials",
        ) from error
    return ambient, project, str(getattr(ambient, "service_account_email", "") or "application default credentials")


@contextmanager
def decided() -> Iterator[None]:
    """The errors of the SDK, of HTTP and of the system as those of the contract."""
    try:
        yield
    except SupplierError:
        raise
    except GoogleAPICallError as error:
        raise of_answer(error) from error
    except google.auth.exceptions.TransportError as error:
        raise NotReady(f"Google's token server does not answer: {error}", code=type(error).__name__) from error
    except google.auth.exceptions.GoogleAuthError as error:
        raise Denied(
            f"Google does not accept the credentials: {error}",
            code=type(error).__name__,
            remedy="renew them: gcloud auth application-default login, or another key in the Secret",
        ) from error
    except requests.exceptions.RequestException as error:
        raise of_connection(error) from error
    except (TypeError, ValueError) as error:
        raise InvalidSpec(f"the SDK refuses the request: {error}", code=type(error).__name__) from error


def of_answer(error: GoogleAPICallError) -> SupplierError:
    """The reason stands in the first of the errors; `error.reason` is of another, newer kind and mostly empty."""
    first: object = next(iter(error.errors or ()), {})
    reason = str(first.get("reason", "")) if isinstance(first, Mapping) else ""
    headers = getattr(error.response, "headers", None) or {}
    return codes.decide(
        str(error.message), code=reason, status=int(error.code or 0), request_id=str(headers.get("x-goog-request-id", ""))
    )


def of_connection(error: requests.exceptions.RequestException) -> SupplierError:
    """Only what never left here is known not to have arrived."""
    for cause in (error, *error.args):
        reason = getattr(cause, "reason", cause)
        if isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError):
            return NotReady(f"GCE cannot be reached: {reason}", code=type(reason).__name__)
    return Unknown(f"GCE did not answer properly: {error}", code=type(error).__name__)


def _plain(message: Any) -> Record:
    found = json_format.MessageToDict(type(message).pb(message), preserving_proto_field_name=True)
    return dict(found)


def _last(link: str) -> str:
    return link.rpartition("/")[2]

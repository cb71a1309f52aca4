"""The way to a workload cluster's API: HTTPS with the client certificate in its kubeconfig. Used by `controllers/node.py`.

What is asked for there is in `workload.py`. Imports httpx: nothing light may import this module.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import orjson

from .kubernetes import answered, tls_context
from .login import parse_kubeconfig
from .workload import MANAGER, Unreachable, Workload

_TIMEOUT = httpx.Timeout(10, connect=4)


def connect(kubeconfig: str) -> Workload:
    """A client of the cluster that the kubeconfig names. Asks nothing yet. Raises login.ConfigError."""
    return Workload(HttpLink(kubeconfig))


class HttpLink:
    """Thread-safe."""

    def __init__(self, kubeconfig: str) -> None:
        login = parse_kubeconfig(kubeconfig, Path("the cluster's kubeconfig"))
        self._url = login.url
        headers = {"User-Agent": f"{MANAGER}/0", "Accept": "application/json"}
        if login.token:
            headers["Authorization"] = f"Bearer {login.token}"
        self._http = httpx.Client(
            base_url=login.url, verify=tls_context(login), headers=headers, timeout=_TIMEOUT, trust_env=False
        )
        self._ahead = 0.0

    def request(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, body: Any = None, content_type: str = ""
    ) -> Any:
        content = orjson.dumps(body) if body is not None else None
        headers = {"Content-Type": content_type or "application/json"} if body is not None else {}
        try:
            answer = self._http.request(method, path, params=params, headers=headers, content=content)
        except httpx.TimeoutException as error:
            raise Unreachable(f"{self._url} has not answered in time ({type(error).__name__})") from error
        except httpx.HTTPError as error:
            raise Unreachable(f"{self._url} cannot be reached: {error or type(error).__name__}") from error
        self._read_clock(answer.headers.get("Date", ""))
        if answer.status_code >= 400:
            raise answered(answer.content, answer.status_code)
        if "json" not in answer.headers.get("Content-Type", ""):
            return answer.text
        return orjson.loads(answer.content)

    def now(self) -> float:
        return time.time() + self._ahead

    def close(self) -> None:
        self._http.close()

    def _read_clock(self, date: str) -> None:
        try:
            self._ahead = parsedate_to_datetime(date).timestamp() - time.time()
        except ValueError:
            return

"""The real API server for tests: over TLS on 127.0.0.1, with a real store in a temporary directory and a clock that stands still.

    with ServedApi(tmp_path) as api:
        api.http.get("/api/v1/namespaces")

Without controllers: what they would do (namespaces that end, garbage collection) is done by `Harness`.
"""

from __future__ import annotations

import ssl
import time
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from ..bootstrap import bootstrap
from ..inprocess import InProcess
from ..kubernetes import HttpClient
from ..login import Login
from ..runtime.clock import Clock, FakeClock
from ..server import ServerThread, ensure_certificates, make_app, write_kubeconfig
from ..store import Store
from ..verbs import Verbs

TOKEN = "a-token-for-tests"


class ServedApi:
    """`clock` may be advanced; `store` and `verbs` are those of the server."""

    def __init__(self, directory: Path, clock: Clock | None = None, **options: Any) -> None:
        self.clock = clock or FakeClock()
        self.store = Store(directory / "kubeup.db", clock=self.clock.wall)
        self.verbs = Verbs(self.store, clock=self.clock)
        bootstrap(self.verbs, now=self.clock.wall())
        self.client = InProcess(self.verbs)
        # Certificates are judged by the clock of the machine.
        certificates = ensure_certificates(directory / "tls", now=time.time())
        app = make_app(self.verbs, self.store, token=TOKEN, clock=self.clock, **options)
        self.app = app
        self.server = ServerThread(app, certificates, token=TOKEN)
        self.url = self.server.url
        self.ca = certificates.ca.read_text()
        self.kubeconfig = directory / "kubeconfig"
        write_kubeconfig(self.kubeconfig, self.url, certificates.ca, TOKEN)

    @property
    def login(self) -> Login:
        return Login(self.url, TOKEN, self.ca)

    @cached_property
    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self.ca)

    @cached_property
    def http(self) -> httpx.Client:
        """With the token."""
        return self.session({"Authorization": f"Bearer {TOKEN}"})

    def session(self, headers: dict[str, str]) -> httpx.Client:
        return httpx.Client(base_url=self.url, verify=self.tls, headers=headers, timeout=20, trust_env=False)

    @cached_property
    def remote(self) -> HttpClient:
        return HttpClient(self.login)

    def close(self) -> None:
        for name in ("http", "remote"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()
        self.server.stop()
        self.store.close()

    def __enter__(self) -> ServedApi:
        self.server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

"""The API server: HTTP over `verbs`, spoken as Kubernetes speaks it, so that kubectl and every other client works.

`make_app` builds the ASGI app, `ServerThread` serves it over TLS on 127.0.0.1. No rule about objects lives here: those are in
`verbs`. Importing this package imports FastAPI; commands that only ask an API must not.
"""

from __future__ import annotations

from .app import make_app
from .auth import ensure_token
from .certificates import Certificates, ensure_certificates
from .kubeconfig import write_kubeconfig
from .serving import ServerThread

__all__ = ["Certificates", "ServerThread", "ensure_certificates", "ensure_token", "make_app", "write_kubeconfig"]

"""Who may ask: whoever holds the one token. There is no anonymous access but to the health checks and the version.

The token is compared in constant time and never logged: `Redact` takes it, and anything that looks like one, out of log lines.
"""

from __future__ import annotations

import hmac
import logging
import re
import secrets
from collections.abc import Sequence
from pathlib import Path

from ..statedir import write_private
from ..statuses import Unauthorized
from ..verbs import Actor

ADMIN = Actor(user="kubeup-admin", groups=("system:masters", "system:authenticated"))
PUBLIC = frozenset({"/healthz", "/livez", "/readyz", "/version"})

_BEARER = re.compile(r"(?i)(bearer\s+)\S+")


def ensure_token(path: Path) -> str:
    """The token in this file; made there, with mode 0600, when there is none."""
    try:
        found = path.read_text().strip()
    except FileNotFoundError:
        found = ""
    if not found:
        found = secrets.token_urlsafe(32)
        write_private(path, found)
    return found


class Tokens:
    """Turns an Authorization header into an Actor."""

    def __init__(self, token: str) -> None:
        if not token:
            raise ValueError("a server needs a token")
        self._expected = b"Bearer " + token.encode()

    def actor(self, headers: Sequence[tuple[bytes, bytes]]) -> Actor:
        """Raises Unauthorized."""
        for name, value in headers:
            if name == b"authorization":
                scheme, _, rest = value.partition(b" ")
                if hmac.compare_digest(scheme.capitalize() + b" " + rest.strip(), self._expected):
                    return ADMIN
                break
        raise Unauthorized("Unauthorized")


class Redact(logging.Filter):
    """Takes the token out of what is logged."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self._token = token

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        clean = _BEARER.sub(r"\1***", text).replace(self._token, "***")
        if clean != text:
            record.msg, record.args = clean, ()
        return True

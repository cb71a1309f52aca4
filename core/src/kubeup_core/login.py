"""Where an API is and how to get in: one context of a kubeconfig.

Read by `kubernetes.py` and by commands. Tokens and client certificates are understood; programs that log in are not.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


class ConfigError(Exception):
    """A kubeconfig that cannot be used; the message says which, where, and what to do."""


@dataclass(frozen=True)
class Login:
    """Where, as whom, and whom to trust. ca: PEM, "" for the system's. certificate: PEM of a client certificate with its key."""

    url: str
    token: str = ""
    ca: str = ""
    certificate: str = ""

    def __repr__(self) -> str:
        return f"Login({self.url!r})"


def read_kubeconfig(path: Path, context: str = "") -> Login:
    """One context of a kubeconfig, the current one by default: token or client certificate. Raises ConfigError."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"{error.filename or path} cannot be read: {error.strerror}; name another kubeconfig") from error
    return parse_kubeconfig(text, path, context)


def parse_kubeconfig(text: str, path: Path, context: str = "") -> Login:
    """As `read_kubeconfig`. path: what it is called in messages, and where files that it names are looked for."""
    try:
        config = yaml.safe_load(text)
        chosen = _named(config, "contexts", context or config.get("current-context", ""), path)["context"]
        cluster = _named(config, "clusters", chosen["cluster"], path)["cluster"]
        user = _named(config, "users", chosen["user"], path)["user"] or {}
        ca = _data(cluster, "certificate-authority", path)
        certificate = _data(user, "client-certificate", path)
        token = user.get("token", "")
        if "exec" in user or "auth-provider" in user:
            raise ConfigError(f"{path}: the user of this context logs in by a program; use one with a token or a certificate")
        if certificate:
            certificate = f"{certificate}\n{_data(user, 'client-key', path)}"
        elif "tokenFile" in user:
            token = Path(path.parent, user["tokenFile"]).read_text().strip()
        return Login(cluster["server"], token, ca, certificate)
    except OSError as error:
        raise ConfigError(f"{error.filename or path} cannot be read: {error.strerror}; name another kubeconfig") from error
    except (KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is not a kubeconfig ({type(error).__name__}); name another") from error


def _named(config: Mapping[str, Any], section: str, name: str, path: Path) -> dict[str, Any]:
    entries: list[dict[str, Any]] = config.get(section) or []
    for entry in entries:
        if entry.get("name") == name:
            return entry
    there = ", ".join(str(entry.get("name")) for entry in entries) or "none"
    raise ConfigError(f"{path} has no {section.removesuffix('s')} {name!r}; there is {there}")


def _data(section: Mapping[str, Any], name: str, path: Path) -> str:
    """A PEM that stands in the kubeconfig, or in a file beside it."""
    if inline := section.get(f"{name}-data"):
        return base64.b64decode(inline).decode()
    return Path(path.parent, section[name]).read_text() if section.get(name) else ""

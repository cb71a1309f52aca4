"""Where things live: the state directory of the server, and what stands in it; or, with --context, somebody else's API.

--state, else KUBEUP_STATE, else the XDG data home. `kubeup_core.statedir` guards it; here are only its place and names, so that
commands can ask without importing the store.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import USAGE, CommandError


@dataclass(frozen=True)
class State:
    """context: of the usual kubeconfig; "" for the server of this directory."""

    path: Path
    context: str = ""

    @property
    def kubeconfig(self) -> Path:
        return self.path / "kubeconfig"

    @property
    def log(self) -> Path:
        return self.path / "serve.log"

    @property
    def database(self) -> Path:
        return self.path / "kubeup.db"

    def server(self) -> dict[str, Any] | None:
        """What the running server, or the last one, wrote about itself: pid, url, version, plugins, started, stopped."""
        try:
            found = json.loads((self.path / "server.json").read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    @property
    def exists(self) -> bool:
        return self.database.exists()

    def local(self, command: str) -> State:
        """This state, for a command that is about a directory. Raises when a context was asked for."""
        if self.context:
            raise CommandError(f"kubeup {command} is about the server of a state directory", "leave out --context", USAGE)
        return self


def locate(option: str | None, context: str = "") -> State:
    """The state directory that this call is about. It need not exist."""
    chosen = option or os.environ.get("KUBEUP_STATE")
    if chosen:
        return State(Path(chosen).expanduser().absolute(), context)
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return State(Path(data).expanduser().absolute() / "kubeup", context)


def born(pid: int) -> str:
    """Start time of a process in clock ticks, as `kubeup_core.statedir.born` says it; "" if there is none.

    Here once more, because importing the core would take longer than all the rest of `kubeup status`. A test compares the two.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]

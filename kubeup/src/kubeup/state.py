"""Where things live: the state directory of the server, and what stands in it.

--state, else KUBEUP_STATE, else the XDG data home. `kubeup_core.statedir` guards it; here are only its place and names, so that
commands can ask without importing the store.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class State:
    path: Path

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
        """What the running server, or the last one, wrote about itself: pid, port, version, started, stopped."""
        try:
            found: dict[str, Any] = json.loads((self.path / "server.json").read_text())
        except (OSError, ValueError):
            return None
        return found

    @property
    def exists(self) -> bool:
        return self.database.exists()


def locate(option: str | None) -> State:
    """The state directory that this call is about. It need not exist."""
    chosen = option or os.environ.get("KUBEUP_STATE")
    if chosen:
        return State(Path(chosen).expanduser().absolute())
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return State(Path(data).expanduser().absolute() / "kubeup")

"""Before anything is made, each Provider says who it is; one whose library is still being loaded is waited for."""

from __future__ import annotations

from typing import Any

import pytest
from kubeup.errors import CommandError

from kubeup import applying


class Slow:
    """A server whose Provider has no condition until it was looked at so many times."""

    def __init__(self, looks: int, ready: str) -> None:
        self.looks, self.ready = looks, ready

    def find(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        self.looks -= 1
        said = {"type": "Ready", "status": self.ready, "message": "it does not answer"}
        status = {} if self.looks > 0 else {"identity": "far:away", "conditions": [said]}
        return {"kind": "Provider", "metadata": {"name": name}, "status": status}


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applying, "IDENTITY_SECONDS", 0.0)


def test_a_provider_that_was_not_asked_yet_is_waited_for() -> None:
    said: list[str] = []
    applying.show_principals(Slow(4, "True"), ["far"], said.append)  # type: ignore[arg-type]
    assert said == ["provider far: far:away"]


def test_one_that_was_asked_and_does_not_answer_is_not() -> None:
    server = Slow(1, "False")
    with pytest.raises(CommandError, match="does not answer"):
        applying.show_principals(server, ["far"], print)  # type: ignore[arg-type]
    assert server.looks == 0

"""On a real terminal (a pty): down asks, Ctrl-C says what stays, and the block is redrawn in place."""

import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fcntl import ioctl
from typing import Any

import pytest


class Terminal:
    """A command with a pty of 80x24 for its in- and output."""

    def __init__(self, env: dict[str, str], *args: str) -> None:
        self.fd, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kubeup", *args],
            stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **env, "TERM": "xterm", "LINES": "24", "COLUMNS": "80"},
        )  # fmt: skip
        os.close(theirs)
        self.text = ""

    def until(self, words: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while words not in self.text:
            assert time.monotonic() < deadline, self.text
            if not self._read():
                assert words in self.text, self.text
                return

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> int:
        while self._read():
            pass
        return self.process.wait()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.fd)

    def _read(self) -> bool:
        data = b""
        with suppress(OSError):
            data = os.read(self.fd, 65536)
        self.text += data.decode(errors="replace")
        return bool(data)


@pytest.fixture
def terminal(home: Any) -> Iterator[Callable[..., Terminal]]:
    opened = []

    def start(*args: str) -> Terminal:
        opened.append(Terminal(home.env, *args))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_up_draws_in_place_and_down_asks_twice(home: Any, texts: dict[str, str], terminal: Callable[..., Terminal]) -> None:
    volume = "apiVersion: kubeup.dev/v1alpha1\nkind: Volume\nmetadata: {name: data}\nspec: {cluster: demo, size: 1Gi}\n"
    file = home.write(texts["cluster"], texts["pool"].replace("2", "40"), volume)
    up = terminal("up", "-f", file)
    assert up.end() == 0
    seen = plain(up.text)
    assert "· nodepool/web" in seen
    assert "✓ nodepool/web  Ready" in seen
    assert "MACHINE" in seen
    assert "Ready: 1 cluster, 1 node pool, 1 volume; 40 machines" in seen
    redrawn = [len(moves) // len("\x1b[1A\x1b[2K") for moves in re.findall(r"(?:\x1b\[1A\x1b\[2K)+", up.text)]
    assert 0 < max(redrawn) < 24, "nothing above the terminal is redrawn"

    no = terminal("down", "-f", file)
    no.until("Take it down? [y/N]:")
    assert "web-0 ... web-39 (40)" in plain(no.text)
    no.type("n\n")
    assert no.end() == 1
    assert "not confirmed; nothing was deleted" in plain(no.text)
    assert home.json("status")["machines"]["ready"] == 40

    yes = terminal("down", "-f", file)
    yes.until("Take it down? [y/N]:")
    yes.type("y\n")
    yes.until("And the data of 1 volume, for ever? [y/N]:")
    yes.type("y\n")
    assert yes.end() == 0
    assert "nothing of it is left." in plain(yes.text)


def test_ctrl_c_says_what_stays_and_leaves_the_server(
    home: Any, texts: dict[str, str], terminal: Callable[..., Terminal]
) -> None:
    big = texts["pool"].replace("replicas: 2", "replicas: 1, machine: {memory: 90Ti}")
    up = terminal("up", "-f", home.write(texts["cluster"], big, name="big.yaml"))
    up.until("nodepool/web")
    up.until("0 of 1 machines")
    up.interrupt()
    assert up.end() == 130
    said = plain(up.text)
    assert f"interrupted; the server (pid {home.server['pid']}) goes on bringing it up" in said
    assert "kubeup down takes it away" in said
    assert "Traceback" not in said
    assert home.json("status")["server"]["pid"] == home.server["pid"]
    home("down", "--yes")

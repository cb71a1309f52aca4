"""The client side of a benchmark: N keep-alive HTTPS connections that create objects, or one that watches. Prints JSON.

load.py create URL TOKEN CA CLIENTS COUNT PREFIX
load.py watch URL TOKEN CA COUNT
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from urllib.parse import urlparse

PATH = "/api/v1/namespaces/default/secrets"


class Connection:
    """One HTTP/1.1 connection; just enough of it, so that the client costs little."""

    def __init__(self, url: str, token: str, ca: str) -> None:
        self._at = urlparse(url)
        self._head = f"Host: {self._at.netloc}\r\nAuthorization: Bearer {token}\r\n"
        self._ssl = ssl.create_default_context(cafile=ca)

    async def open(self) -> Connection:
        self.reader, self.writer = await asyncio.open_connection(self._at.hostname, self._at.port, ssl=self._ssl, limit=2**26)
        return self

    def send(self, method: str, path: str, body: bytes = b"") -> None:
        head = f"{method} {path} HTTP/1.1\r\n{self._head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.writer.write(head.encode() + body)

    async def answer(self) -> tuple[int, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        code = int(head.split(b" ", 2)[1])
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                return code, await self.reader.readexactly(int(line.split(b":")[1]))
        return code, b""

    async def chunk(self) -> bytes:
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        data = await self.reader.readexactly(size + 2)
        return data[:-2]


def secret(name: str) -> bytes:
    """An object of about 1 KB."""
    data = {"payload": "eHh4" * 150}
    return json.dumps(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": {"bench": "yes"}}, "data": data}
    ).encode()


async def create(url: str, token: str, ca: str, clients: int, count: int, prefix: str) -> dict[str, float]:
    connections = [await Connection(url, token, ca).open() for _ in range(clients)]

    async def work(number: int, connection: Connection) -> None:
        for i in range(number, count, clients):
            connection.send("POST", PATH, secret(f"{prefix}-{i}"))
            code, body = await connection.answer()
            assert code == 201, body[:300]

    began = time.perf_counter()
    await asyncio.gather(*(work(n, c) for n, c in enumerate(connections)))
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "per_second": count / seconds}


async def watch(url: str, token: str, ca: str, count: int) -> dict[str, float]:
    """From the moment a create is sent to the moment its event has arrived at a watcher."""
    watcher, writer = await Connection(url, token, ca).open(), await Connection(url, token, ca).open()
    writer.send("GET", f"{PATH}?limit=1")
    _, body = await writer.answer()
    version = json.loads(body)["metadata"]["resourceVersion"]
    watcher.send("GET", f"{PATH}?watch=true&resourceVersion={version}")
    await watcher.reader.readuntil(b"\r\n\r\n")
    times = []
    for i in range(count):
        began = time.perf_counter()
        writer.send("POST", PATH, secret(f"watched-{i}"))
        event = b""
        while not event.endswith(b"\n"):
            event += await watcher.chunk()
        times.append(time.perf_counter() - began)
        await writer.answer()
    times.sort()
    return {"p50": times[len(times) // 2], "p99": times[int(len(times) * 0.99)]}


def main() -> None:
    what, url, token, ca, *rest = sys.argv[1:]
    if what == "create":
        result = asyncio.run(create(url, token, ca, int(rest[0]), int(rest[1]), rest[2]))
    else:
        result = asyncio.run(watch(url, token, ca, int(rest[0])))
    print(json.dumps(result))


if __name__ == "__main__":
    main()

"""A toy cloud: an HTTP API for machines, in memory, on the standard library. Run it with `python toy_cloud.py`.

    GET    /account                 {"id": "account-1"}
    GET    /machines?label=k:v&page=0   (v may be *) {"items": [machine ...], "next": 1 or null}
    GET    /machines/ID             machine, or 404
    POST   /machines                {"name", "size", "labels"} -> 201 machine; 409 and the machine that has this name;
                                    507 when there is no room
    DELETE /machines/ID             202, or 404

A machine is {"id", "name", "size", "labels", "state", "address"}; its state is starting, running, stopping or dead. The API knows no
idempotency tokens: a name that is in use is all there is. Time passes by `tick`, once a second when run as a program.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

BOOT, STOP = 2, 2  # ticks


class ToyCloud:
    """The cloud's state, and the faults that a test can switch on with `having`."""

    def __init__(self, account: str = "account-1", page: int = 100) -> None:
        self.account, self.page = account, page
        self.machines: dict[str, dict] = {}
        self.made = self.requests = 0
        self.room: int | None = None
        self.silent = False  # nothing is answered
        self.lost = ""  # "request" or "reply": what gets lost of changing requests
        self.broken_page = False  # no page but the first
        self.lock = threading.Lock()

    def create(self, name: str, size: str, labels: dict) -> tuple[int, dict]:
        with self.lock:
            for machine in self.machines.values():
                if machine["name"] == name:
                    return 409, dict(machine)
            if self.room == 0:
                return 507, {"error": "no room"}
            self.room = None if self.room is None else self.room - 1
            self.made += 1
            machine = {"id": f"m-{self.made:04}", "name": name, "size": size, "labels": labels, "state": "starting", "age": 0}
            machine["address"] = f"10.0.0.{self.made}"
            self.machines[machine["id"]] = machine
            return 201, dict(machine)

    def list(self, label: str, page: int) -> dict:
        key, _, value = label.partition(":")

        def wanted(labels: dict) -> bool:
            return not label or (key in labels and value in ("*", labels[key]))

        with self.lock:
            found = [dict(m) for m in self.machines.values() if wanted(m["labels"])]
        end = (page + 1) * self.page
        return {"items": found[page * self.page : end], "next": page + 1 if end < len(found) else None}

    def delete(self, id: str) -> int:
        with self.lock:
            if id not in self.machines:
                return 404
            if self.machines[id]["state"] != "stopping":
                self.machines[id].update(state="stopping", age=0)
            return 202

    def tick(self) -> None:
        """Machines that start are running after BOOT ticks; those that stop are gone after STOP."""
        with self.lock:
            for machine in list(self.machines.values()):
                machine["age"] += 1
                if machine["state"] == "starting" and machine["age"] >= BOOT:
                    machine["state"] = "running"
                if machine["state"] == "stopping" and machine["age"] >= STOP:
                    del self.machines[machine["id"]]

    def die(self, id: str) -> None:
        with self.lock:
            self.machines[id]["state"] = "dead"

    @contextmanager
    def having(self, **faults: object) -> Iterator[None]:
        before = {name: getattr(self, name) for name in faults}
        vars(self).update(faults)
        try:
            yield
        finally:
            vars(self).update(before)

    def serve(self, port: int = 0) -> ThreadingHTTPServer:
        """A server on loopback that runs until its shutdown(); its port is `server_address[1]`."""
        server = ThreadingHTTPServer(("127.0.0.1", port), type("Handler", (Handler,), {"cloud": self}))
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server


class Handler(BaseHTTPRequestHandler):
    cloud: ToyCloud

    def do_GET(self) -> None:
        url, query = self.asked()
        page = int(query.get("page", ["0"])[0])
        if self.cloud.silent or (self.cloud.broken_page and page):
            return
        if url == ["account"]:
            self.answer(200, {"id": self.cloud.account})
        elif url == ["machines"]:
            self.answer(200, self.cloud.list(query.get("label", [""])[0], page))
        else:
            machine = self.cloud.machines.get(url[-1])
            self.answer(200 if machine else 404, machine or {"error": "no such machine"})

    def do_POST(self) -> None:
        self.asked()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.loses("request"):
            status, machine = self.cloud.create(body["name"], body["size"], body["labels"])
            if not self.loses("reply"):
                self.answer(status, machine)

    def do_DELETE(self) -> None:
        url, _ = self.asked()
        if not self.loses("request"):
            status = self.cloud.delete(url[-1])
            if not self.loses("reply"):
                self.answer(status, {})

    def asked(self) -> tuple[list[str], dict[str, list[str]]]:
        with self.cloud.lock:
            self.cloud.requests += 1
        parts = urlsplit(self.path)
        return parts.path.strip("/").split("/"), parse_qs(parts.query)

    def loses(self, what: str) -> bool:
        return self.cloud.silent or self.cloud.lost == what

    def answer(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


if __name__ == "__main__":
    cloud = ToyCloud()
    print(f"toy cloud on http://127.0.0.1:{cloud.serve(8700).server_address[1]}")
    while True:
        time.sleep(1)
        cloud.tick()

"""A kubeup provider for the toy cloud: identity, launch, observe, delete. Copy this file and put your cloud in its place."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import kubeup_core as core
from kubeup_core import Outcome, Phase
from kubeup_core.errors import Denied, NoCapacity, NotFound, NotReady, Taken, Unknown
from pydantic import BaseModel, ConfigDict

PHASES = {"starting": Phase.PENDING, "running": Phase.RUNNING, "stopping": Phase.DELETING, "dead": Phase.FAILED}


class ToyConfig(BaseModel):
    """What people write into Provider.spec.config."""

    model_config = ConfigDict(extra="forbid")
    url: str = "http://127.0.0.1:8700"
    token: core.SecretRef | None = None


class ToyOverrides(BaseModel):
    """What people write into overrides.toy of a pool: what only this place has."""

    model_config = ConfigDict(extra="forbid")
    size: str = "small"


class Client:
    """The only part that knows HTTP. Charges before each request, turns every failure into one of kubeup's errors."""

    def __init__(self, config: ToyConfig, context: core.Context) -> None:
        self.url = config.url.rstrip("/")
        self.charge = context.charge
        token = context.secrets[config.token.path] if config.token else ""
        self.headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        self.charge("api", 1)
        data = json.dumps(body).encode() if body is not None else None
        try:
            with urlopen(Request(f"{self.url}{path}", data, self.headers, method=method), timeout=10) as reply:
                return reply.status, json.load(reply)
        except HTTPError as error:
            with error:
                return self.refused(error, method, path)
        except (OSError, HTTPException, ValueError) as error:  # no reply, half a reply: it may have happened
            raise Unknown(f"{method} {path}: {error}") from error

    def refused(self, error: HTTPError, method: str, path: str) -> tuple[int, dict[str, Any]]:
        what = f"{method} {path}: {error.code} {error.reason}"
        match error.code:
            case 409:
                return 409, json.load(error)
            case 401 | 403:
                raise Denied(what, code=str(error.code), remedy="check the Provider's token") from error
            case 404:
                raise NotFound(what, code="404") from error
            case 429:
                raise NotReady(what, code="429") from error
            case 507:
                raise NoCapacity(what, code="507") from error
            case _:
                raise Unknown(what, code=str(error.code)) from error


class Machines(core.BaseMachines):
    def __init__(self, client: Client) -> None:
        self.client = client

    def launch(self, launch: core.Launch) -> Sequence[core.Result]:
        """Capabilities.batch_limit is 1, so there is one member and one request: what raises made nothing, but for Unknown."""
        mark = launch.member_mark(0)
        # The piece of the mark lets a second attempt succeed while the first one's machine of the same name still stops.
        name = f"{launch.members[0].name}-{mark.maker[:8]}"
        size = ToyOverrides.model_validate(launch.template.overrides).size
        status, machine = self.client.call("POST", "/machines", {"name": name, "size": size, "labels": to_labels(mark)})
        state = to_state(machine)
        if status == 409 and (state is None or not state.ref.mark.same(mark)):  # never adopt what is not ours
            raise Taken(f"the name {name} is in use by {machine['id']}", by=machine["id"])
        alive = machine["state"] in ("starting", "running")
        return [core.Result(id=machine["id"], outcome=Outcome.MADE if alive else Outcome.DEAD)]

    def observe(self, scope: core.Scope) -> core.Snapshot[core.MachineState]:
        """All pages. A page that fails raises, so that nothing is concluded; there are no parts of the place to name."""
        seen: list[dict[str, Any]] = []
        page: int | None = 0
        while page is not None:
            query = urlencode({"label": f"installation:{scope.installation}", "page": page})
            _, found = self.client.call("GET", f"/machines?{query}")
            seen += found["items"]
            page = found["next"]
        states = [state for state in map(to_state, seen) if state is not None and scope.covers(state.ref.mark)]
        return core.Snapshot(items=tuple(states))

    def delete(self, refs: Sequence[core.Ref]) -> Sequence[core.Result]:
        return [self.delete_one(ref) for ref in refs]

    def delete_one(self, ref: core.Ref) -> core.Result:
        try:
            state = to_state(self.client.call("GET", f"/machines/{ref.id}")[1])
            if state is not None and state.ref.mark.same(ref.mark):
                self.client.call("DELETE", f"/machines/{ref.id}")
        except NotFound:
            pass  # gone is what was wanted
        return core.Result(id=ref.id, outcome=Outcome.MADE)


def to_labels(mark: core.Mark) -> dict[str, str]:
    return {key: json.dumps(value) if key in ("index", "keep") else value for key, value in asdict(mark).items()}


def to_state(machine: dict[str, Any]) -> core.MachineState | None:
    """None for a machine without our mark."""
    labels = dict(machine["labels"])
    try:
        mark = core.Mark(index=json.loads(labels.pop("index")), keep=json.loads(labels.pop("keep")), **labels)
    except (KeyError, TypeError, ValueError):
        return None
    return core.MachineState(
        ref=core.Ref(id=machine["id"], mark=mark),
        phase=PHASES.get(machine["state"], Phase.UNKNOWN),
        place="",
        name=machine["name"],
        machine_type=machine["size"],
        internal=(machine["address"],),
        facts={"size": machine["size"]},
    )


def build(config: ToyConfig, context: core.Context) -> core.Suppliers:
    client = Client(config, context)
    account = client.call("GET", "/account")[1]["id"]
    identity = core.Identity(key=f"toy:{account}", principal=account)
    return core.Suppliers(identity=identity, capabilities=core.Capabilities(), machines=Machines(client))


@core.hookimpl
def kubeup_register_providers(register: core.ProviderRegister) -> None:
    register.provider(type="toy", config=ToyConfig, overrides=ToyOverrides, build=build)

"""The engine's API, as far as kubeup needs it: the only module that imports the SDK, and the only one that knows its errors.

Used by the suppliers and by images.py. Each method is one request (`execute` three, `logs` two), charged before it is sent. It
returns plain data (records.py) and raises the errors of `kubeup_core` alone (sentences.py). What to do about an error is decided by
the callers.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import docker
import docker.errors
import docker.types
import docker.utils
import requests
import urllib3.exceptions
from kubeup_core import Denied, InvalidSpec, NotReady, SupplierError, Unknown

from . import records, sentences, streams
from .records import Container, Image, Network, Volume, Wish

TIMEOUT = 60
"""Seconds for one answer. Creating and removing a container on a busy engine takes seconds; the core abandons what is slower."""

BUDGET = "engine"
"""The bucket that requests are charged to."""


def decide(error: BaseException, url: str) -> SupplierError:
    """The error of the contract that an error of the SDK, of HTTP or of the system comes to."""
    for cause in _chain(error):
        match cause:
            case SupplierError():
                return cause
            case docker.errors.APIError():
                sentence = str(cause.explanation or cause.response.reason if cause.response is not None else cause)
                return sentences.decide(sentence, cause.status_code)
            case FileNotFoundError() | ConnectionRefusedError() | requests.exceptions.ConnectTimeout():
                return NotReady(
                    f"no Docker engine answers at {url}",
                    code=type(cause).__name__,
                    remedy="start Docker, or set host in the Provider's spec.config (or DOCKER_HOST) to where it listens",
                )
            case PermissionError():
                return Denied(
                    f"the socket of the Docker engine at {url} may not be used",
                    code=type(cause).__name__,
                    remedy="add this user to the group docker, or run kubeup as a user who may",
                )
            case (
                docker.errors.InvalidArgument()
                | docker.errors.NullResource()
                | docker.errors.InvalidRepository()
                | docker.errors.TLSParameterError()
                | docker.errors.InvalidVersion()
            ):
                return InvalidSpec(f"the Docker SDK refuses: {cause}", code=type(cause).__name__)
            case _:
                pass
    return Unknown(f"the Docker engine at {url} did not answer properly: {error}", code=type(error).__name__)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from: requests and urllib3 hide the system's error in `args` and `reason`."""
    seen: set[int] = set()
    todo: list[object] = [error]
    while todo:
        item = todo.pop(0)
        if isinstance(item, BaseException) and id(item) not in seen:
            seen.add(id(item))
            yield item
            todo += [*item.args, getattr(item, "reason", None), item.__cause__, item.__context__]


class Engine:
    """One engine. Thread-safe. Asks for the API's version at once, so that it raises NotReady when no engine answers."""

    def __init__(self, host: str | None, charge: Callable[[str, float], None]) -> None:
        self.url = host or default_host()
        self._charge = charge
        if not self.url.startswith(("unix://", "tcp://", "npipe://")):
            raise InvalidSpec(
                f"an engine at {self.url} cannot be reached from here",
                path="spec.config.host",
                remedy="use unix:// or tcp://; from an engine behind ssh, forward its socket with ssh -L",
            )
        with self._request():
            _knock(self.url)
            self._api = docker.APIClient(base_url=self.url, version="auto", timeout=TIMEOUT)

    def close(self) -> None:
        self._api.close()

    def info(self) -> dict[str, Any]:
        with self._request():
            return dict(self._api.info())

    # -- containers --

    def containers(self, labels: Mapping[str, str]) -> list[Container]:
        """All with these labels, whatever their state."""
        with self._request():
            return [records.listed(c) for c in self._api.containers(all=True, filters=_with_labels(labels))]

    def on_network(self, network: str) -> list[Container]:
        """All that have an end on this network (an id), running or not."""
        with self._request():
            return [records.listed(c) for c in self._api.containers(all=True, filters={"network": network})]

    def container(self, id: str) -> Container:
        """By id or name."""
        with self._request():
            return records.inspected(self._api.inspect_container(id))

    def create(self, wish: Wish) -> str:
        """Returns the id. The container does not run yet."""
        with self._request():
            made = self._api.create_container(
                wish.image,
                name=wish.name,
                hostname=wish.hostname,
                entrypoint=[wish.command[0]] if wish.command else None,
                command=list(wish.command[1:]) or None,
                labels=dict(wish.labels),
                tty=wish.console,
                stop_signal=wish.stop_signal or None,
                volumes=list(wish.scratch) or None,
                host_config=self._host_config(wish),
                networking_config=self._end(wish) if wish.network and wish.address else None,
            )
            return str(made["Id"])

    def _host_config(self, wish: Wish) -> dict[str, Any]:
        given: dict[str, Any] = {}
        if wish.cpu:
            given["nano_cpus"] = int(wish.cpu * 1e9)
        if wish.memory:
            given["mem_limit"] = wish.memory
        if wish.rotate_logs:
            given["log_config"] = docker.types.LogConfig(config={"max-size": "1m", "max-file": "2"})
        if wish.own_cgroups:
            given["cgroupns"] = "private"
        made = self._api.create_host_config(
            cap_add=list(wish.capabilities) or None,
            security_opt=list(wish.security_options) or None,
            device_cgroup_rules=list(wish.device_rules) or None,
            tmpfs=dict(wish.tmpfs) or None,
            binds=[f"{source}:{path}{':ro' if read_only else ''}" for source, path, read_only in wish.binds] or None,
            restart_policy={"Name": "unless-stopped"},
            network_mode=wish.network or None,
            **given,
        )
        if wish.unmasked:  # "systempaths=unconfined" is a word of the docker command only
            made["MaskedPaths"], made["ReadonlyPaths"] = [], []
        return dict(made)

    def _end(self, wish: Wish) -> Any:
        end = self._api.create_endpoint_config(ipv4_address=wish.address)
        return self._api.create_networking_config({wish.network: end})  # type: ignore[arg-type]

    def put(self, id: str, tar: bytes) -> None:
        """Unpack an archive at the root of a container, running or not, its volumes included."""
        with self._request():
            self._api.put_archive(id, "/", tar)

    def start(self, id: str) -> None:
        """Running already is fine."""
        with self._request():
            self._api.start(id)

    def restart(self, id: str, timeout: int) -> None:
        with self._request():
            self._api.restart(id, timeout=timeout)

    def remove(self, id: str, *, force: bool) -> None:
        """With its anonymous volumes; force: also while it runs."""
        with self._request():
            self._api.remove_container(id, v=True, force=force)

    def logs(self, id: str, lines: int) -> bytes:
        self._charge(BUDGET, 1)  # the SDK asks first whether there is a terminal
        with self._request():
            return bytes(self._api.logs(id, tail=lines, stdout=True, stderr=True))

    def execute(self, id: str, script: str, stdin: bytes, timeout: float) -> Iterator[bytes | int]:
        """As MachineSupplier.execute. Raises Unknown when `timeout` seconds are over."""
        in_order = f"exec 2>&1; {script}"  # the engine reads two pipes as they come, in no order
        with self._request():
            run = self._api.exec_create(id, ["/bin/sh", "-c", in_order], stdin=bool(stdin), user="root")["Id"]
        with self._request():
            connection = self._api.exec_start(run, socket=True)
            yield from streams.talk(connection, stdin, timeout)
        with self._request():
            code = self._api.exec_inspect(run).get("ExitCode")
        if code is None:
            raise Unknown("the stream from the container ended before the command did")
        yield int(code)

    # -- images --

    def image(self, name: str) -> Image | None:
        """By name or id; None when it is not on the engine."""
        with self._request():
            try:
                return records.image(self._api.inspect_image(name))  # type: ignore[no-untyped-call]
            except docker.errors.NotFound:
                return None

    def pull(self, name: str) -> Iterator[str]:
        """Yields progress in words; ends when the image is there. Takes as long as it takes."""
        with self._request():
            repository, tag = docker.utils.parse_repository_tag(name)
            for event in self._api.pull(repository, tag=tag or "latest", stream=True, decode=True):
                if "error" in event:
                    raise sentences.decide(str(event["error"]))
                yield " ".join(str(event[key]) for key in ("status", "progress") if event.get(key))

    def load(self, tar: Path, name: str, changes: Sequence[str] = ()) -> None:
        """Make an image out of a root file system. changes: instructions of a Dockerfile."""
        with self._request():
            repository, tag = docker.utils.parse_repository_tag(name)
            answer = self._api.import_image(str(tar), repository=repository, tag=tag or "latest", changes=list(changes))
            for line in str(answer).splitlines():
                if line and "error" in (event := json.loads(line)):
                    raise sentences.decide(str(event["error"]))

    def name_image(self, image: str, name: str) -> None:
        """Give an image another name; whatever had that name before loses it."""
        with self._request():
            repository, tag = docker.utils.parse_repository_tag(name)
            self._api.tag(image, repository, tag or "latest", force=True)

    # -- networks --

    def networks(self, labels: Mapping[str, str]) -> list[Network]:
        with self._request():
            return [records.network(n) for n in self._api.networks(filters=_with_labels(labels))]

    def network(self, id: str) -> Network:
        """By id or name."""
        with self._request():
            return records.network(self._api.inspect_network(id))

    def create_network(self, name: str, labels: Mapping[str, str], cidr: str) -> str:
        """A bridge. cidr "": the engine chooses. Returns the id."""
        with self._request():
            ipam = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=cidr)]) if cidr else None
            made = self._api.create_network(name, driver="bridge", labels=dict(labels), ipam=ipam, check_duplicate=True)
            return str(made["Id"])

    def remove_network(self, id: str) -> None:
        with self._request():
            self._api.remove_network(id)

    # -- volumes --

    def volumes(self, labels: Mapping[str, str]) -> list[Volume]:
        """Named ones with these labels."""
        with self._request():
            listed = self._api.volumes(filters=_with_labels(labels)).get("Volumes") or ()
            return [records.volume(v) for v in listed]

    def volume(self, name: str) -> Volume:
        with self._request():
            return records.volume(self._api.inspect_volume(name))

    def create_volume(self, name: str, labels: Mapping[str, str]) -> Volume:
        """One that is there already comes back as it is, with the labels that it has."""
        with self._request():
            return records.volume(self._api.create_volume(name, labels=dict(labels)))

    def remove_volume(self, name: str) -> None:
        with self._request():
            self._api.remove_volume(name)

    def with_volume(self, name: str) -> list[Container]:
        """All containers that have this volume, running or not."""
        with self._request():
            return [records.listed(c) for c in self._api.containers(all=True, filters={"volume": name})]

    @contextmanager
    def _request(self) -> Iterator[None]:
        """Around each request: charged before, errors translated."""
        self._charge(BUDGET, 1)
        try:
            yield
        except SupplierError:
            raise
        except (docker.errors.DockerException, requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise decide(error, self.url) from error


def _knock(url: str) -> None:
    """Raises the system's error when nobody listens at a local socket. The SDK would leave its own socket open then."""
    if url.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(TIMEOUT)
            probe.connect(url.removeprefix("unix://"))


def default_host() -> str:
    """Where the docker command would look: DOCKER_HOST, else the current context, else the usual socket."""
    if host := os.environ.get("DOCKER_HOST"):
        return host
    try:
        context = docker.ContextAPI.get_current_context()
        host = str(context.Host) if context is not None else ""
    except (docker.errors.DockerException, OSError, ValueError, KeyError):
        host = ""
    return host or "unix:///var/run/docker.sock"


def _with_labels(labels: Mapping[str, str]) -> dict[str, list[str]]:
    return {"label": [f"{key}={value}" for key, value in labels.items()]}

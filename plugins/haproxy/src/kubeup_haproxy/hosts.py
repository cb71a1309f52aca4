"""One machine that is lent to a balancer: runs `guest.sh` there, and turns exit codes and sections of output into data and errors.

Used by `balancers.py`. Each call is one request of the budget; what it prints is in sections that begin with "== NAME".
"""

from __future__ import annotations

import io
import json
import shlex
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import NoReturn

from kubeup_core import Blocked, Host, InvalidSpec, Mark, NotFound, NotReady, Taken, Unknown

BUDGET = "hosts"

TAKEN, BUSY, MISSING, INVALID, NOT_OURS, FAILED, NOT_INSTALLED = range(41, 48)
"""Exit codes of guest.sh."""

SCRIPT = files(__package__).joinpath("guest.sh").read_text()


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is on a machine. mark None: nothing of any balancer. record None: it was begun, and never came to run.

    sharing      of a pair: keepalived runs. holder: it has their address now
    now, before  `show stat` of the process that takes connections, and of those that only finish theirs
    """

    mark: Mark | None = None
    record: Mapping[str, object] | None = None
    running: bool = False
    sharing: bool = False
    holder: bool = False
    now: str = ""
    before: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a machine is to run. drains: "backend/server" of each member that drains. files: name -> content, besides. vip: the address
    that it shares with another one, "" when it is alone."""

    mark: Mark
    digest: str
    shape: str
    config: str
    record: Mapping[str, object]
    drains: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    vip: str = ""


class Machine:
    """Thread-safe, as the host is."""

    def __init__(self, host: Host, charge: Callable[[str, float], None]) -> None:
        self.host = host
        self._charge = charge

    def look(self) -> Found:
        code, output = self._run("look")
        return _found(output) if code == 0 else self._failed("look", code, output)

    def apply(self, want: Wanted) -> Found | None:
        """Have it run; None while HAProxy is not installed. Raises Taken, InvalidSpec for what HAProxy refuses, NotReady."""
        files = {
            "mark": _mark_text(want.mark),
            "haproxy.cfg": want.config,
            "record": "\n".join([want.digest, want.shape, json.dumps(want.record, sort_keys=True), " ".join(want.drains), ""]),
            **want.files,
        }
        call = shlex.join(["apply", owner(want.mark), want.digest, want.shape, " ".join(want.drains), want.vip])
        code, output = self._run(call, _tar({name: text.encode() for name, text in files.items()}))
        if code == MISSING:
            return None
        return _found(output) if code == 0 else self._failed("apply", code, output)

    def install(self, source: str, packages: list[str], programs: str) -> None:
        """Begin to install the programs, or go on. Raises InvalidSpec for packages that cannot be read; NotReady while it fails."""
        content = {}
        for i, name in enumerate(packages if source == "packages" else []):
            try:
                content[f"{i:02d}-{Path(name).name}"] = Path(name).expanduser().read_bytes()
            except OSError as error:
                path = f"spec.overrides.haproxy.packages[{i}]"
                raise InvalidSpec(f"{name} cannot be read: {error.strerror}", path=path, remedy="correct it") from error
        code, output = self._run(shlex.join(["install", source, programs]), _tar(content))
        if code != 0:
            self._failed("install", code, output)

    def remove(self, mark: Mark) -> None:
        """Nothing of the balancer is left. Raises NotFound when it is another one's."""
        code, output = self._run(shlex.join(["remove", owner(mark)]))
        if code == NOT_OURS:
            raise NotFound(f"machine {self.host.ref.id} runs another load balancer")
        if code == BUSY:
            raise Blocked(f"machine {self.host.ref.id} is being changed by another call", by=(self.host.ref.id,))
        if code != 0:
            self._failed("remove", code, output)

    def _run(self, call: str, stdin: bytes = b"") -> tuple[int, str]:
        self._charge(BUDGET, 1.0)
        code, output = self.host.execute(f"{SCRIPT}{call}\n", stdin)
        return code, output.decode(errors="replace")

    def _failed(self, verb: str, code: int, output: str) -> NoReturn:
        where, said = f"machine {self.host.ref.id}", _last(output)
        match code:
            case _ if code == TAKEN:
                raise Taken(
                    f"{where} runs a load balancer already that is not this one",
                    by=said,
                    remedy="remove it there, or lend another machine: delete this Machine, and its pool makes another",
                )
            case _ if code == BUSY:
                raise NotReady(f"{where} is being changed by another call", code="Busy", retry_after=2.0)
            case _ if code == INVALID:
                raise InvalidSpec(f"HAProxy refuses the configuration: {said}", code="ConfigRefused")
            case _ if code == NOT_INSTALLED:
                raise NotReady(
                    f"HAProxy could not be installed on {where}: {said}",
                    code="NotInstalled",
                    retry_after=60.0,
                    remedy="it is tried again every minute; or use an image that has it, or overrides.haproxy.source: packages",
                )
            case _ if code == FAILED and "cannot bind" in said.lower():
                raise InvalidSpec(
                    f"a port is in use on {where}: {said}", path="spec.listeners", code="PortInUse", remedy="use another port"
                )
            case _ if code == FAILED:
                raise NotReady(f"HAProxy did not take it on {where}: {said}", code="Failed", retry_after=10.0)
        raise Unknown(f"{verb} ended with exit code {code} on {where}: {said}", code=str(code))


def owner(mark: Mark) -> str:
    """What says whose it is, in one word per part of `Mark.same`."""
    return f"{mark.installation} {mark.kind} {mark.maker} {mark.index}"


def _mark_text(mark: Mark) -> str:
    return f"{owner(mark)}\n{json.dumps(asdict(mark), sort_keys=True)}\n"


def _found(output: str) -> Found:
    sections: list[tuple[str, list[str]]] = []
    for line in output.splitlines():
        if line.startswith("== "):
            sections.append((line[3:], []))
        elif sections:
            sections[-1][1].append(line)
    texts = {name: "\n".join(lines).strip() for name, lines in sections}
    if "mark" not in texts:
        return Found()
    try:
        mark = Mark(**json.loads(texts["mark"].splitlines()[1]))
        record = json.loads(texts["record"]) if texts.get("record") else None
    except (ValueError, TypeError, IndexError) as error:
        raise Unknown(f"a mark or record on the machine cannot be read: {error}") from error
    before = tuple("\n".join(lines).strip() for name, lines in sections if name == "before")
    return Found(
        mark=mark,
        record=record,
        running="running" in texts,
        sharing="sharing" in texts,
        holder="holder" in texts,
        now=texts.get("now", ""),
        before=before,
    )


def _tar(files: Mapping[str, bytes]) -> bytes:
    """The same bytes for the same files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _last(output: str) -> str:
    """What people need of it: the alerts, without the notices of a start; else the end."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    alerts = [line for line in lines if "[ALERT]" in line and "Fatal errors" not in line and "Error(s) found" not in line]
    chosen = alerts[:2] or lines[-2:]
    return "; ".join(line.split(" : ", 1)[-1] if "[ALERT]" in line else line for line in chosen) or "it said nothing"

"""From the config to hosts: ranges are unfolded, an inventory file is read, fields of the config are handed down. Pure but for reading
that file; used by `suppliers.py` when the Provider is built."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import normpath

import yaml
from kubeup_core import InvalidSpec
from kubeup_ssh_executor import check_key, jump_host
from pydantic import ValidationError

from .config import VOLUMES, HostEntry, KeyFrom, Login, SshConfig

MOST = 10_000
"""Hosts of one inventory: a range that was mistyped must not fill the memory."""

ROLES = ("controlPlane", "worker", "loadBalancer", "plain")

_ADDRESS = re.compile(r"[\w.:%-]+")
_RANGE = re.compile(r"\[(\d+)-(\d+)\]")


@dataclass(frozen=True, kw_only=True)
class Host:
    """One host, complete. secrets are names in Context.secrets."""

    name: str
    address: str
    port: int = 22
    user: str = "root"
    key: KeyFrom | None = None
    sudo_password: str = ""
    via: str = ""
    via_host_key: str = ""
    host_key: str = ""
    zone: str = ""
    internal: str = ""
    external: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    roles: tuple[str, ...] = ()
    volume_group: str = ""
    volume_folder: str = VOLUMES

    @property
    def place(self) -> str:
        """Its zone; a host that is in none is one by itself."""
        return self.zone or self.name


def hosts(config: SshConfig) -> dict[str, Host]:
    """By name, in the order in which they were written. Raises InvalidSpec, with the path."""
    found: dict[str, Host] = {}
    addresses: dict[tuple[str, int, str], str] = {}
    for path, above, entry in _entries(config):
        for host in _unfolded(path, above, entry):
            if host.name in found:
                raise InvalidSpec(
                    f"host {host.name} is in the inventory twice", path=path, remedy="give each host a name of its own"
                )
            found[host.name] = host
            where = (host.address.casefold(), host.port, host.via)
            if where in addresses:
                raise InvalidSpec(
                    f"{host.name} and {addresses[where]} are the same host, {host.address} port {host.port}",
                    path=path,
                    remedy="name each host once",
                )
            addresses[where] = host.name
            if len(found) > MOST:
                raise InvalidSpec(f"the inventory has more than {MOST} hosts", path=path, remedy="look at its ranges")
    if not found:
        raise InvalidSpec("the inventory has no hosts", path="spec.config.hosts", remedy="name some")
    return found


def unfold(text: str) -> list[str]:
    """`host[08-10]` -> host08, host09, host10: the digits of the lower bound tell how wide. Raises InvalidSpec."""
    match = _RANGE.search(text)
    if match is None:
        if "[" in text or "]" in text:
            raise InvalidSpec(f"the range in {text!r} cannot be understood", remedy="write it as host[01-20].example.org")
        return [text]
    low, high = match[1], match[2]
    if int(low) > int(high) or int(high) - int(low) >= MOST:
        raise InvalidSpec(f"the range in {text!r} is empty, or too large", remedy="write the lower number first")
    numbers = [str(n).zfill(len(low)) for n in range(int(low), int(high) + 1)]
    rest = unfold(text[match.end() :])
    return [f"{text[: match.start()]}{number}{tail}" for number in numbers for tail in rest]


def _entries(config: SshConfig) -> Iterator[tuple[str, Login, HostEntry | str]]:
    for number, entry in enumerate(config.hosts):
        yield f"spec.config.hosts[{number}]", config, entry
    if config.inventory is None:
        return
    path = Path(config.inventory).expanduser()
    try:
        read = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InvalidSpec(
            f"the inventory {path} cannot be read: {error.strerror}", path="spec.config.inventory", remedy="correct the path"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise InvalidSpec(
            f"the inventory {path} is not YAML: {said}", path="spec.config.inventory", remedy="correct it"
        ) from error
    try:
        file = SshConfig.model_validate({"hosts": read} if isinstance(read, list) else read)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in detail["loc"]) or "its top"
        raise InvalidSpec(
            f"the inventory {path} is wrong at {where}: {detail['msg']}",
            path="spec.config.inventory",
            remedy="it has the same fields as spec.config",
        ) from error
    if file.inventory is not None or {"host_keys", "known_hosts"} & file.model_fields_set:
        raise InvalidSpec(
            f"the inventory {path} sets inventory, hostKeys or knownHosts",
            path="spec.config.inventory",
            remedy="they belong into the Provider's own config",
        )
    above = _over(file, config)
    for number, entry in enumerate(file.hosts):
        yield f"{path}: hosts[{number}]", above, entry


def _over(inner: Login, outer: Login) -> Login:
    """The fields of `inner`, and those of `outer` where it says nothing."""
    fields = Login.model_fields
    merged = {name: getattr(inner, name) if getattr(inner, name) is not None else getattr(outer, name) for name in fields}
    return Login(**merged)


def _unfolded(path: str, above: Login, entry: HostEntry | str) -> Iterator[Host]:
    entry = HostEntry(address=entry) if isinstance(entry, str) else entry
    login = _over(entry, above)
    try:
        addresses = unfold(entry.address)
        names = unfold(entry.name) if entry.name else addresses
    except InvalidSpec as error:
        raise InvalidSpec(error.message, path=path, remedy=error.remedy) from error
    if len(names) != len(addresses):
        raise InvalidSpec(
            f"{entry.name} are {len(names)} names for {len(addresses)} addresses", path=path, remedy="give both the same range"
        )
    if len(addresses) > 1 and (entry.host_key or entry.internal_address or entry.external_address):
        raise InvalidSpec(
            "hostKey, internalAddress and externalAddress are of one host", path=path, remedy="write those hosts one by one"
        )
    _check(path, addresses, names, login, entry)
    for name, address in zip(names, addresses, strict=True):
        yield Host(
            name=name,
            address=address,
            port=login.port or 22,
            user=login.user or "root",
            key=login.key,
            sudo_password=login.sudo_password.path if login.sudo_password else "",
            via=login.via or "",
            via_host_key=login.via_host_key or "",
            host_key=entry.host_key or "",
            zone=login.zone or "",
            internal=entry.internal_address or "",
            external=entry.external_address or "",
            labels=dict(entry.labels),
            roles=tuple(entry.roles),
            volume_group=login.volume_group or "",
            volume_folder=login.volume_folder or VOLUMES,
        )


def _check(path: str, addresses: list[str], names: list[str], login: Login, entry: HostEntry) -> None:
    for address in addresses:
        if "@" in address:
            raise InvalidSpec(f"{address!r} is no address: it has a user", path=path, remedy="write the user as `user`")
        if address.count(":") == 1:
            raise InvalidSpec(f"{address!r} is no address: it has a port", path=path, remedy="write the port as `port`")
        if not _ADDRESS.fullmatch(address):
            raise InvalidSpec(f"{address!r} is no address", path=path, remedy="write a DNS name or an IP address")
    for name in names:
        if "/" in name or not name.isprintable() or name != name.strip():
            raise InvalidSpec(f"{name!r} cannot be a host's name", path=path, remedy="leave out slashes and blanks around it")
    for role in entry.roles:
        if role not in ROLES:
            raise InvalidSpec(f"there is no role {role!r}", path=path, remedy=f"roles are {', '.join(ROLES)}")
    if login.volume_folder is not None and normpath(login.volume_folder).strip("/") == "":
        raise InvalidSpec("volumeFolder cannot be /", path=path, remedy="name a folder for volumes alone")
    try:
        for key in filter(None, (entry.host_key, login.via_host_key)):
            check_key(key)
        if login.via:
            jump_host(login.via)
    except InvalidSpec as error:
        raise InvalidSpec(error.message, path=path, remedy=error.remedy) from error

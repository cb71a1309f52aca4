"""Which address, port, user and jump host lead to a machine: what its supplier says of it, and `Provider.spec.access` for the rest.

Pure. Called by `access.py`, which adds the host keys.
"""

from __future__ import annotations

from ..errors import InvalidSpec, NotReady
from ..kinds import Machine
from ..kinds.provider import AccessSpec
from ..supplier import Access


def direct(machine: Machine, spec: AccessSpec) -> Access:
    """What the supplier says goes first, for it knows this one machine; the Provider's spec says the rest."""
    said = machine.status.access
    if said is None:
        raise NotReady(f"it is not known yet how {machine.name} is reached")
    return Access(
        kind=said.kind,
        address=_address(machine, said.address, spec),
        port=said.port if said.port != Access().port else spec.port,
        user=said.user or spec.user,
        host_key=said.host_key,
        via=said.via,
        via_host_key=said.via_host_key,
    )


def _address(machine: Machine, said: str, spec: AccessSpec) -> str:
    external = [a.address for a in machine.status.addresses if a.type == "ExternalIP"]
    internal = [a.address for a in machine.status.addresses if a.type == "InternalIP"]
    match spec.address:
        case "public":
            found, remedy = (
                external,
                "set spec.access.address: private in its Provider, and spec.access.via if it takes a jump host",
            )
        case "private":
            found, remedy = internal, "set spec.access.address: auto in its Provider"
        case _:
            found, remedy = [said] if said else [*external, *internal], ""
    if not found:
        raise NotReady(
            f"{machine.name} has no {'' if spec.address == 'auto' else spec.address + ' '}address yet", remedy=remedy
        )
    return found[0]


def jump_host(via: str, target: Access) -> Access:
    """`user@host:port`, `[address]:port` for IPv6; what is left out is as for the target."""
    user, _, where = via.rpartition("@")
    if where.startswith("["):
        host, _, port = where[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = where.partition(":")
    if not host or (port and not port.isdigit()):
        raise InvalidSpec(f"the jump host {via!r} cannot be understood", path="spec.access.via", remedy="write user@host:port")
    return Access(kind=target.kind, address=host, port=int(port or 22), user=user or target.user)


def host_name(access: Access) -> str:
    """As OpenSSH names a host in known_hosts."""
    if access.port == Access().port and ":" not in access.address:
        return access.address
    return f"[{access.address}]:{access.port}"

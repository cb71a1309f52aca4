"""What the engine's errors mean: its sentences and HTTP statuses as decisions of the contract. No SDK here; used by client.py.

The engine has no error codes, only HTTP statuses and sentences. The sets below are parts of its sentences, in lower case, as
Docker 20.10 and later say them.
"""

from __future__ import annotations

from collections.abc import Mapping

from kubeup_core import Blocked, Denied, InvalidSpec, NoCapacity, NotFound, NotReady, SupplierError, Taken, Unknown

NAME_TAKEN = frozenset({"is already in use by container", "already exists"})
ADDRESSES_TAKEN = frozenset({"pool overlaps with other one on this address space"})
ADDRESS_TAKEN = frozenset({"address already in use"})
IN_USE = frozenset({"has active endpoints", "volume is in use"})
CHANGING = frozenset(
    {"is already in progress", "is marked for removal", "is restarting", "is not running", "is paused", "toomanyrequests"}
)
FULL = frozenset(
    {
        "no space left on device",
        "cannot allocate memory",
        "no available ipv4 addresses",
        "could not find an available, non-overlapping ipv4 address pool",
        "all predefined address pools have been fully subnetted",
    }
)
NEVER = frozenset(
    {
        "unable to apply caps",
        "unknown capability",
        "executable file not found",
        "no such file or directory: unknown",
        "permission denied: unknown",
        "range of cpus is from",
        "minimum memory limit allowed",
        "invalid reference format",
    }
)
NO_SUCH_IMAGE = frozenset(
    {"pull access denied", "repository does not exist", "manifest unknown", "requested access to the resource is denied"}
)
NO_REGISTRY = frozenset(
    {
        "no such host",
        "i/o timeout",
        "connection refused",
        "network is unreachable",
        "tls handshake timeout",
        "context deadline exceeded",
        "client.timeout exceeded",
        "temporary failure in name resolution",
        "server misbehaving",
    }
)

SENTENCES: tuple[tuple[frozenset[str], type[SupplierError], str], ...] = (
    (FULL, NoCapacity, "free disk, memory or addresses on the engine's host: docker system df, docker network ls"),
    (NAME_TAKEN, Taken, "remove or rename what holds the name"),
    (ADDRESSES_TAKEN, Taken, "choose another spec.network.machineCIDR, or remove the network that has these addresses"),
    (ADDRESS_TAKEN, Taken, "stop what holds the address on the machine's network: docker network inspect"),
    (IN_USE, Blocked, ""),
    (CHANGING, NotReady, ""),
    (NO_SUCH_IMAGE, InvalidSpec, "correct the image's name, or run docker login on the engine's host"),
    (NO_REGISTRY, NotReady, "give the engine a way to a registry, or load the image into it"),
    (NEVER, InvalidSpec, "correct overrides.docker"),
)
"""Asked in this order, whatever the status."""

STATUSES: Mapping[int, type[SupplierError]] = {
    400: InvalidSpec,
    401: Denied,
    403: Denied,
    404: NotFound,
    409: NotReady,
    429: NotReady,
    503: NotReady,
}
"""For sentences that no set knows; every other status is Unknown."""


def decide(sentence: str, status: int | None = None) -> SupplierError:
    """The error for a sentence of the engine (in a reply, or in the stream of a pull)."""
    lower = sentence.lower()
    code = str(status or "")
    for known, decision, remedy in SENTENCES:
        if any(part in lower for part in known):
            return decision(f"Docker: {sentence}", code=code, remedy=remedy)
    return STATUSES.get(status or 0, Unknown)(f"Docker: {sentence}", code=code)


def is_address_taken(error: SupplierError) -> bool:
    """Whether a container could not be started because another one has its address now."""
    return isinstance(error, Taken) and any(part in error.message.lower() for part in ADDRESS_TAKEN)

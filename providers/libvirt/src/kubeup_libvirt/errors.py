"""libvirt's error codes as the errors of kubeup, each named after what to do now. Pure; used by client.py alone."""

from __future__ import annotations

from kubeup_core import Denied, InvalidSpec, NoCapacity, NotFound, NotReady, SupplierError, Taken, Unknown

NOT_FOUND = {42, 43, 49, 50, 80}  # domain, network, pool, volume, metadata
DENIED = {29, 45, 79, 88}  # operation denied, authentication failed, authentication cancelled, access denied
TAKEN = {90}  # volume exists
NOT_READY = {5, 55, 68, 86, 87}  # no connection, wrong state for it, timeout, agent silent, busy
INVALID = {3, 8, 27, 35, 67, 70}  # no support, argument, XML, XML, configuration, argument
LOST = {1, 38, 39}  # internal, system, RPC: with a connection that broke, they say nothing about what happened

FULL = ("No space left on device", "Disk quota exceeded", "not enough free space", "Cannot allocate memory")
NEVER = (
    "Unknown CPU model",
    "unsupported configuration",
    "Unable to find any firmware",
    "does not support",
    "is not supported",
)
"""Said with the code of an internal error, and meant."""
ALREADY = ("already exists", "already defined", 'Failed to get "write" lock', "in use by")


def translated(code: int, message: str, *, changing: bool) -> SupplierError:
    """changing: it was asked to change something, so that a lost answer leaves the outcome open."""
    said = {"message": message.strip(), "code": f"libvirt error {code}"}
    if any(words in message for words in FULL):
        return NoCapacity(said["message"], code=said["code"], remedy="free space in the storage pool, or name another one")
    kind: type[SupplierError]
    if code in NOT_FOUND:
        kind = NotFound
    elif code in DENIED:
        kind = Denied
    elif code in TAKEN or any(words in message for words in ALREADY):
        kind = Taken
    elif code in NOT_READY:
        kind = NotReady
    elif code in INVALID or any(words in message for words in NEVER):
        kind = InvalidSpec
    else:
        kind = Unknown if changing else NotReady
    return kind(said["message"], code=said["code"])

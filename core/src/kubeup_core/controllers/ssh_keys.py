"""The Secret `<cluster>-ssh`: the cluster's own key pair, and the host keys that were pinned. Called by `access.py` and by the
controllers of clusters and networks.

  ssh-privatekey  ed25519, as OpenSSH writes it; a person may put in another one before the cluster is made
  ssh-publickey   what machines are told to accept, in user-data and as a key of the place
  known_hosts     lines as OpenSSH has them; a machine's name in it is its uid, as addresses are used again by others

Usable by hand: `ssh -i KEY -o UserKnownHostsFile=FILE -o HostKeyAlias=UID user@address`. How a key gets known is in `access.py`.
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
from collections.abc import Iterable

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..errors import InvalidSpec, NotReady
from ..kinds import Cluster, Machine, Secret
from ..objects import ObjectMeta, OwnerReference
from ..runtime.controller import Env
from ..statuses import Conflict

PRIVATE, PUBLIC, KNOWN_HOSTS = "ssh-privatekey", "ssh-publickey", "known_hosts"

_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEY = re.compile(r"((?:ssh-|ecdsa-sha2-|sk-)[a-z0-9@.-]+) +([A-Za-z0-9+/]{40,}={0,2})")
_BLOCK = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.DOTALL)
_pinning = threading.Lock()


def secret_name(cluster: str) -> str:
    return f"{cluster}-ssh"


def ensure_ssh_keys(env: Env, cluster: Cluster) -> str:
    """Make the key pair unless it is there, and give the public key (`ssh-ed25519 AAAA... comment`). Writes once.

    Raises NotReady while a former cluster's Secret of this name is still there, InvalidSpec for a private key that cannot be read.
    """
    name = secret_name(cluster.name)
    secret = env.cache.get(Secret, name, cluster.namespace)
    if secret is None:
        pair = _pair(cluster, _made())
        owner = OwnerReference(api_version=cluster.api_version, kind="Cluster", name=cluster.name, uid=cluster.uid)
        metadata = ObjectMeta(name=name, namespace=cluster.namespace, owner_references=[owner])
        env.client.create(Secret(metadata=metadata, type="kubernetes.io/ssh-auth", data=_encoded(pair)))
        return pair[PUBLIC]
    former = [o for o in secret.metadata.owner_references or () if o.kind == "Cluster" and o.uid != cluster.uid]
    if former or secret.deleting:
        raise NotReady(
            f"Secret {name} belongs to a Cluster {cluster.name} that is no more, and is on its way out", retry_after=2
        )
    found = values(secret)
    if found.get(PRIVATE) and found.get(PUBLIC):
        return found[PUBLIC]
    pair = _pair(cluster, found.get(PRIVATE) or _made())
    changed = env.cache.copy(secret)
    changed.data = {**(secret.data or {}), **_encoded(pair)}
    env.client.update(changed)
    return pair[PUBLIC]


def public_key(env: Env, cluster: Cluster) -> str:
    """What machines are told to accept; "" before `ensure_ssh_keys`."""
    secret = env.cache.get(Secret, secret_name(cluster.name), cluster.namespace)
    return values(secret).get(PUBLIC, "").strip() if secret is not None else ""


def values(secret: Secret) -> dict[str, str]:
    return {key: base64.b64decode(value).decode(errors="replace") for key, value in (secret.data or {}).items()}


# -- host keys -----------------------------------------------------------------------------------------------------------


def known(text: str, host: str) -> str:
    """The keys that lines of a known_hosts file hold for a host, one per line as `type base64`; "" for none."""
    found = (line.split() for line in text.splitlines() if not line.startswith(("#", "@")))
    return "\n".join(f"{words[1]} {words[2]}" for words in found if len(words) >= 3 and host in words[0].split(","))


def pin(env: Env, namespace: str, cluster: str, host: str, keys: str, comment: str) -> None:
    """Store what was learned, before it is used. Lines of machines that are no more go with the same write.

    Raises NotReady when others change the Secret all the time, NotFound when it is gone.
    """
    with _pinning:  # many machines of a cluster come up at once, and share this one object
        for _ in range(5):
            secret = env.client.get(Secret, secret_name(cluster), namespace)
            lines = values(secret).get(KNOWN_HOSTS, "").splitlines()
            kept = [line for line in lines if _stands(env, line) and host not in line.split(" ")[0].split(",")]
            kept += [f"{host} {key} {comment}".rstrip() for key in keys.splitlines()]
            changed = env.cache.copy(secret)
            changed.data = {**(secret.data or {}), **_encoded({KNOWN_HOSTS: "\n".join(kept) + "\n"})}
            try:
                env.client.update(changed)
            except Conflict:
                continue
            return
    raise NotReady(f"Secret {namespace}/{secret_name(cluster)} changes all the time, so no host key can be kept in it")


def on_console(text: str) -> str:
    """The host keys that cloud-init printed last, one per line as `type base64`; "" when there are none (yet).

    cloud-init's write-ssh-key-fingerprints prints the public keys between two lines of their own; a console mixes in other output.
    """
    blocks = _BLOCK.findall(text)
    return "\n".join(f"{kind} {data}" for kind, data in _KEY.findall(blocks[-1]) if _is_key(kind, data)) if blocks else ""


def _is_key(kind: str, data: str) -> bool:
    """Whether it is what it says: the blob of a public key begins with its own type (RFC 4253, 6.6)."""
    try:
        blob = base64.b64decode(data, validate=True)
    except binascii.Error:
        return False
    return blob[4 : 4 + int.from_bytes(blob[:4])] == kind.encode()


def _stands(env: Env, line: str) -> bool:
    name = line.split(" ")[0]
    return not _UID.fullmatch(name) or env.cache.uid(Machine, name) is not None


# -- key pairs -----------------------------------------------------------------------------------------------------------


def _made() -> str:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()).decode()


def _pair(cluster: Cluster, private: str) -> dict[str, str]:
    where = f"Secret {cluster.namespace}/{secret_name(cluster.name)}, key {PRIVATE}"
    try:
        key = form.load_ssh_private_key(private.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        remedy = f"put in one as ssh-keygen -t ed25519 -N '' writes it, or delete the Secret {secret_name(cluster.name)}"
        raise InvalidSpec(f"{where} is not a private key that can be used", remedy=remedy) from error
    line = key.public_key().public_bytes(form.Encoding.OpenSSH, form.PublicFormat.OpenSSH).decode()
    return {PRIVATE: private, PUBLIC: f"{line} kubeup/{cluster.namespace}/{cluster.name}"}


def _encoded(data: dict[str, str] | Iterable[tuple[str, str]]) -> dict[str, str]:
    return {key: base64.b64encode(value.encode()).decode() for key, value in dict(data).items()}

"""Which machines get user-data, what is in it, and the Secret that keeps it for their Launch's life.

Called by `placement.py`, which decides, and by `launch.py`, which submits the same bytes at each repeat. The Secret `userdata-<launch>`
is written right before its Launch: one whose Launch never came is overwritten by the next try, and goes with the Cluster. How it is
rendered is in `kubeup_core/user_data.py`.
"""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress

from ..errors import InvalidSpec, NotReady
from ..kinds import Cluster, Launch, Machine, Secret
from ..kinds.machine import NODE_ROLES
from ..objects import ObjectMeta
from ..runtime.controller import Env
from ..runtime.places import Place
from ..statuses import AlreadyExists, NotFound
from ..user_data import BootFile, render
from .ssh_keys import public_key

KEY = "user-data"


def user_data_for(env: Env, cluster: Cluster, machine: Machine, place: Place) -> bytes:
    """What machines like this one are told at their first boot at a place; b"" for nothing.

    Raises InvalidSpec for what cannot be told there, NotReady while the cluster's key is being made.
    """
    wanted, can = machine.spec.machine.over(cluster.spec.machine), place.capabilities
    member = cluster.spec.kubernetes is not None and machine.spec.role in NODE_ROLES
    if member and can.access == "none":
        raise InvalidSpec(
            "there is no way into its machines, and members of a Kubernetes cluster are bootstrapped over one",
            remedy="use a Provider whose machines are reached by ssh, or by its own execute",
        )
    keys = list(wanted.ssh_keys or ())
    if (member or machine.spec.role == "loadBalancer") and can.access == "ssh":
        own = public_key(env, cluster)
        if not own:
            raise NotReady("the cluster's SSH key is being made", retry_after=1.0)
        keys.append(own)
    if member and can.access == "execute":
        return b""  # keys and files are a step (`bootstrapping.own_files`)
    files = [] if member else list(wanted.files or ())
    if not keys and not files:
        return b""
    secret = next((f for f in files if f.secret_ref is not None), None)
    if secret is not None:
        raise InvalidSpec(
            f"the file {secret.path} comes from a Secret, and user-data is no place for one",
            remedy="take it out of the template; members of a Kubernetes cluster get such files over their access",
        )
    if can.user_data_limit == 0:
        raise InvalidSpec(
            "its machines are told nothing at their first boot, so files and sshKeys cannot be put there",
            remedy="take them out of the template, or use another Provider",
        )
    boot = [BootFile(path=f.path, content=f.content or "", mode=f.mode) for f in files]
    return render(keys, boot, limit=can.user_data_limit)


def keep_user_data(env: Env, cluster: Cluster, launch: str, user_data: bytes) -> None:
    """Before the Launch of this name is written."""
    if not user_data:
        return
    metadata = ObjectMeta(name=_name(launch), namespace=cluster.namespace, owner_references=[cluster.reference()])
    secret = Secret(metadata=metadata, type="kubeup.dev/user-data", data={KEY: base64.b64encode(user_data).decode()})
    try:
        env.client.create(secret)
    except AlreadyExists:
        former = env.client.get(Secret, _name(launch), cluster.namespace)
        if former.data != secret.data:
            changed = former.model_copy(deep=True)
            changed.data = secret.data
            env.client.update(changed)


def stored_user_data(env: Env, launch: Launch) -> bytes | None:
    """The bytes that the Launch was written with; None when they are not there any more."""
    if launch.spec.user_data_digest in ("", hashlib.sha256(b"").hexdigest()):
        return b""
    secret = env.cache.get(Secret, _name(launch.name), launch.namespace)
    found = base64.b64decode((secret.data or {}).get(KEY, "")) if secret is not None else b""
    return found if hashlib.sha256(found).hexdigest() == launch.spec.user_data_digest else None


def drop_user_data(env: Env, launch: Launch) -> None:
    if stored_user_data(env, launch):
        with suppress(NotFound):
            env.client.delete(Secret, _name(launch.name), launch.namespace)


def _name(launch: str) -> str:
    return f"userdata-{launch}"

"""etcd's members, as the core asks for them: through the JSON gateway of the local etcd, with curl and the certificate that kubeadm
made for its health checks. Nothing else has to be on the machine."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from kubeup_core import Unknown
from kubeup_core.bootstrapper import EtcdMember

from .shell import script


def list_script() -> str:
    """Shell that prints the member list as JSON."""
    return script("etcd", "etcd_list")


def members(output: bytes) -> tuple[EtcdMember, ...]:
    """Reads it. Raises Unknown when it is something else, such as an error of etcd."""
    text = output.decode(errors="replace").strip()
    try:
        listed = json.loads(text.splitlines()[-1] if text else "")["members"]
        return tuple(
            EtcdMember(
                id=str(member["ID"]),
                name=member.get("name", ""),
                address=urlsplit((member.get("peerURLs") or [""])[0]).hostname or "",
                learner=bool(member.get("isLearner", False)),
            )
            for member in listed
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unknown(f"this is not a member list of etcd: {text[:200]!r}") from error


def remove_script(member: EtcdMember) -> str:
    """Shell that removes the member; fine when it is gone."""
    return script("etcd", "etcd_remove", ID=member.id)

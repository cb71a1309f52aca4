"""The files and SSH keys of a machine's template, as a step before those of the bootstrapper.

Called where the steps of PREPARE are made: by `bootstrapping.py`, by `user_data.py` for those that a machine runs by itself, and by
`runbook.py`. Plain machines have no steps: theirs are in their user-data as files.
"""

from __future__ import annotations

from ..bootstrapper import File, Step
from ..errors import InvalidSpec
from ..kinds import Cluster, Machine, Secret
from ..runtime.controller import Known
from .ssh_keys import values


def named(key: str, secret: str) -> str:
    """Stands for a value where only its place may be told."""
    return f"({key} of Secret {secret})\n"


def own_files(env: Known, cluster: Cluster, machine: Machine, *, reveal: bool = True) -> tuple[Step, ...]:
    """The template's files and SSH keys as a step of their own. Raises InvalidSpec for a Secret that is missing.

    reveal  False: files that come from Secrets hold only where their content is (`named`), and no Secret is read
    """
    template = machine.spec.machine.over(cluster.spec.machine)
    found = []
    for wanted in template.files or ():
        content, secret = (wanted.content or "").encode(), False
        if wanted.secret_ref is not None and not reveal:
            ref, secret = wanted.secret_ref, True
            content = named(ref.key, f"{ref.namespace or machine.namespace}/{ref.name}").encode()
        elif wanted.secret_ref is not None:
            ref, secret = wanted.secret_ref, True
            namespace = ref.namespace or machine.namespace
            held = env.cache.get(Secret, ref.name, namespace)
            value = values(held).get(ref.key) if held is not None else None
            if value is None:
                raise InvalidSpec(
                    f"there is no key {ref.key} in Secret {namespace}/{ref.name} for the file {wanted.path}",
                    remedy=f"kubectl create secret generic {ref.name} -n {namespace} --from-literal={ref.key}=...",
                )
            content = value.encode()
        found.append(File(path=wanted.path, content=content, mode=int(wanted.mode, 8), secret=secret))
    keys = "".join(f"{line.strip()}\n" for line in template.ssh_keys or ())
    if keys:
        found.append(File(path="/etc/ssh/authorized_keys.d/root", content=keys.encode()))
    if not found:
        return ()
    return (
        Step(
            name="machine-files",
            title="puts the template's files in place",
            script=_AUTHORIZE if keys else ":",
            files=tuple(found),
            timeout=60,
            remedy="correct files or sshKeys in the machine's template",
        ),
    )


_AUTHORIZE = """mkdir -p -m 0700 /root/.ssh
touch /root/.ssh/authorized_keys
chmod 0600 /root/.ssh/authorized_keys
while read -r line; do
    grep -qxF "$line" /root/.ssh/authorized_keys || echo "$line" >>/root/.ssh/authorized_keys
done </etc/ssh/authorized_keys.d/root
"""

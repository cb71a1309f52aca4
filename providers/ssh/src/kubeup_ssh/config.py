"""What people write for this provider: `Provider.spec.config`, an inventory file of the same fields, and `overrides.ssh` of machines.

A field of a host wins over the same field of the config, which stands for all hosts.
"""

from __future__ import annotations

from collections.abc import Mapping

from kubeup_core import Problem, SecretRef
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

PATH = "spec.overrides.ssh"
VOLUMES = "/var/lib/kubeup-host/volumes"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, alias_generator=to_camel, populate_by_name=True)


class KeyFrom(_Model):
    """Where the private key is that hosts let in. Exactly one of the three; none: the usual files in ~/.ssh."""

    path: str | None = Field(default=None, min_length=1, description="A file where kubeup runs, without a passphrase")
    secret_ref: SecretRef | None = Field(default=None, description="A key of a Secret")
    agent: bool = Field(default=False, description="What the ssh-agent of SSH_AUTH_SOCK holds")

    @model_validator(mode="after")
    def _one(self) -> KeyFrom:
        if sum((self.path is not None, self.secret_ref is not None, self.agent)) != 1:
            raise ValueError("exactly one of path, secretRef and agent")
        return self


class Login(_Model):
    """How hosts are reached. In the config it is for all hosts, in a host for that one."""

    user: str | None = Field(default=None, min_length=1, description="Who logs in; absent: root")
    port: int | None = Field(default=None, ge=1, le=65535, description="Of sshd; absent: 22")
    key: KeyFrom | None = Field(
        default=None, description="Absent: ~/.ssh/id_ed25519, id_ecdsa or id_rsa, the first that is there"
    )
    sudo_password: SecretRef | None = Field(default=None, description="What sudo asks the user for; absent: it asks nothing")
    via: str | None = Field(default=None, min_length=1, description="A jump host, user@host:port")
    via_host_key: str | None = Field(default=None, min_length=1, description="The jump host's key, as in a .pub file")
    zone: str | None = Field(
        default=None, min_length=1, description="Rack, room or site, for spreading; absent: each host its own"
    )
    volume_group: str | None = Field(
        default=None,
        pattern=r"^[a-zA-Z0-9+_.][a-zA-Z0-9+_.-]*$",
        description="LVM group for volumes; absent: files on a loop device",
    )
    volume_folder: str | None = Field(default=None, pattern=r"^/", description=f"Where files for volumes lie ({VOLUMES})")


class HostEntry(Login):
    """One host, or a range of them: host[01-20].example.org stands for twenty."""

    address: str = Field(min_length=1, description="Name or IP address, with ranges like host[01-20]")
    name: str | None = Field(
        default=None, min_length=1, description="What it is called; ranges as in address; absent: the address"
    )
    host_key: str | None = Field(default=None, min_length=1, description="Its key, as in a .pub file; absent: from knownHosts")
    internal_address: str | None = Field(
        default=None,
        min_length=1,
        description="By which the others reach it; absent: the one that its default route starts with",
    )
    external_address: str | None = Field(
        default=None, min_length=1, description="By which it is reached from outside, if at all"
    )
    labels: dict[str, str] = Field(default_factory=dict, description="For overrides.ssh.labels")
    roles: list[str] = Field(
        default_factory=list, description="controlPlane, worker, loadBalancer, plain: what it may become; none: anything"
    )


class SshConfig(Login):
    """An inventory of hosts."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"user": "admin", "key": {"path": "~/.ssh/id_ed25519"}, "hosts": ["host[1-3].example.org"]}]
        }
    )

    hosts: list[HostEntry | str] = Field(default_factory=list, description="The hosts; text is an address")
    inventory: str | None = Field(
        default=None, min_length=1, description="A YAML file where kubeup runs, with the same fields as this config"
    )
    host_keys: str = Field(
        default="pinned",
        pattern=r"^(pinned|firstUse)$",
        description="firstUse: a host that knownHosts does not name is believed once, and its key written there",
    )
    known_hosts: str = Field(
        default="~/.ssh/known_hosts", min_length=1, description="OpenSSH's file of host keys, for hosts without hostKey"
    )

    @model_validator(mode="after")
    def _some(self) -> SshConfig:
        if not self.hosts and self.inventory is None:
            raise ValueError("name hosts, or an inventory file")
        return self


class SshOverrides(_Model):
    """Which hosts a machine may get."""

    hosts: list[str] = Field(default_factory=list, description="Their names, with * and ?; none: all")
    labels: dict[str, str] = Field(default_factory=dict, description="Labels that they must have")


def overrides(value: Mapping[str, object]) -> SshOverrides | list[Problem]:
    """The overrides, or what is wrong with them."""
    try:
        return SshOverrides.model_validate(dict(value))
    except ValidationError as error:
        known = ", ".join(f.alias or n for n, f in SshOverrides.model_fields.items())
        return [
            Problem(
                path=".".join([PATH, *(str(part) for part in detail["loc"])]),
                message=detail["msg"],
                remedy=f"known fields: {known}",
            )
            for detail in error.errors(include_url=False, include_input=False, include_context=False)
        ]

"""Hosts that people own, reached over SSH: the provider type `ssh`.

This module only introduces the plugin. `config.py` is what people write, `inventory.py` the hosts that come of it, `doors.py` how one
is reached, `guest.sh` what runs on it, `looks.py` what that says; `machines.py` and `volumes.py` are the suppliers.
"""

from __future__ import annotations

from kubeup_core import Context, ProviderRegister, Suppliers, hookimpl

from .config import SshConfig, SshOverrides

__all__ = ["SshConfig", "SshOverrides", "build", "kubeup_register_providers"]


@hookimpl
def kubeup_register_providers(register: ProviderRegister) -> None:
    register.provider(type="ssh", config=SshConfig, overrides=SshOverrides, build=build)


def build(config: SshConfig, context: Context) -> Suppliers:
    """The suppliers of one inventory. Connects to nobody; raises InvalidSpec for an inventory or a key that cannot be read."""
    from .suppliers import suppliers

    return suppliers(config, context)

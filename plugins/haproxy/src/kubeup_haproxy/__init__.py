"""Load balancers out of machines, by HAProxy: the provider type `haproxy`.

This module only introduces the plugin. It has no machines: the core lends it some (`Capabilities.hosts`). `balancers.py` is the
supplier, `rendering.py` writes haproxy.cfg, `guest.sh` is what runs on a machine, `hosts.py` runs it, `states.py` reads the answers.
"""

from __future__ import annotations

from kubeup_core import Context, ProviderRegister, Suppliers, hookimpl

from .config import HaproxyConfig, HaproxyOverrides

__all__ = ["HaproxyConfig", "HaproxyOverrides", "build", "kubeup_register_providers"]


@hookimpl
def kubeup_register_providers(register: ProviderRegister) -> None:
    register.provider(type="haproxy", config=HaproxyConfig, overrides=HaproxyOverrides, build=build)


def build(config: HaproxyConfig, context: Context) -> Suppliers:
    """One place for all balancers of an installation: wherever their machines are, they are the installation's own."""
    from .balancers import suppliers

    return suppliers(config, context)

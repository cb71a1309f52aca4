"""Google Compute Engine: the provider type `gce`.

This module only introduces the plugin; the SDK is imported when the first Provider is built. `config.py` is what people write,
the suppliers are a module each, `client.py` is the only place that knows the SDK.
"""

from __future__ import annotations

from kubeup_core import Context, ProviderRegister, Suppliers, hookimpl

from .config import GceConfig, GceOverrides

__all__ = ["GceConfig", "GceOverrides", "build", "kubeup_register_providers"]


@hookimpl
def kubeup_register_providers(register: ProviderRegister) -> None:
    register.provider(type="gce", config=GceConfig, overrides=GceOverrides, build=build, ambient=True)


def build(config: GceConfig, context: Context) -> Suppliers:
    """The suppliers of one region of one project. Asks for the region, so wrong credentials or names are said at once."""
    from .suppliers import suppliers

    return suppliers(config, context)

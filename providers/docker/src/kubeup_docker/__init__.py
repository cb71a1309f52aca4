"""Containers on a Docker engine as machines: the provider type `docker`.

This module only introduces the plugin; the SDK is imported when the first Provider is built. `config.py` is what people write,
`machines.py` and `networks.py` are the suppliers, `client.py` is the only place that knows the SDK.
"""

from __future__ import annotations

from kubeup_core import Context, ProviderRegister, Suppliers, hookimpl

from .config import DockerConfig, DockerOverrides

__all__ = ["DockerConfig", "DockerOverrides", "build", "kubeup_register_providers"]


@hookimpl
def kubeup_register_providers(register: ProviderRegister) -> None:
    register.provider(type="docker", config=DockerConfig, overrides=DockerOverrides, build=build, ambient=True)


def build(config: DockerConfig, context: Context) -> Suppliers:
    """The suppliers of one engine. Asks the engine who it is and what it can do; raises NotReady when none answers."""
    from .suppliers import suppliers

    return suppliers(config, context)

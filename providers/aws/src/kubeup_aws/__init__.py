"""EC2 as a place for machines: the provider type `aws`.

This module only introduces the plugin; the SDK is imported when the first Provider is built. `config.py` is what people write,
`machines.py`, `networks.py`, `volumes.py` and `load_balancers.py` are the suppliers, `client.py` is the only place that knows the SDK.
"""

from __future__ import annotations

from kubeup_core import Context, ProviderRegister, Suppliers, hookimpl

from .config import AwsConfig, AwsOverrides

__all__ = ["AwsConfig", "AwsOverrides", "build", "kubeup_register_providers"]


@hookimpl
def kubeup_register_providers(register: ProviderRegister) -> None:
    register.provider(type="aws", config=AwsConfig, overrides=AwsOverrides, build=build, ambient=True)


def build(config: AwsConfig, context: Context) -> Suppliers:
    """The suppliers of one account in one region. Asks who it is; raises Denied without credentials, NotReady when nobody answers."""
    from .suppliers import suppliers

    return suppliers(config, context)

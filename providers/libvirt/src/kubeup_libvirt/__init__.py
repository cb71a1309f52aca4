"""Virtual machines of libvirt as machines: the provider type `libvirt`.

This module only introduces the plugin; libvirt-python, which is built against the system's libvirt, is imported when the first
Provider is built. `config.py` is what people write, `client.py` the only place that knows the SDK.
"""

from __future__ import annotations

from kubeup_core import Context, InvalidSpec, ProviderRegister, Suppliers, hookimpl

from .config import LibvirtConfig, LibvirtOverrides

__all__ = ["LibvirtConfig", "LibvirtOverrides", "build", "kubeup_register_providers"]


@hookimpl
def kubeup_register_providers(register: ProviderRegister) -> None:
    register.provider(type="libvirt", config=LibvirtConfig, overrides=LibvirtOverrides, build=build, ambient=True)


def build(config: LibvirtConfig, context: Context) -> Suppliers:
    """The suppliers of one libvirt. Asks it what it can do; raises NotReady when it does not answer,
    and InvalidSpec when libvirt-python is not there."""
    try:
        from .suppliers import suppliers
    except ModuleNotFoundError as error:
        if error.name != "libvirt":
            raise
        raise InvalidSpec(
            "libvirt-python is not installed, which the provider libvirt speaks through",
            remedy="apt-get install libvirt-dev pkg-config gcc python3-dev; pip install 'kubeup-libvirt[libvirt]'; kubeup restart",
        ) from error
    return suppliers(config, context)

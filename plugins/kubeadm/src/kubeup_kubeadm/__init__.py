"""Kubernetes clusters out of bare machines with kubeadm: the bootstrapper `kubeadm`.

This module only introduces the plugin. `config.py` is what people write, `bootstrapper.py` what kubeup calls, `bundle_command.py` the
command `kubeup bundle`.
"""

from __future__ import annotations

from kubeup_core import BootstrapperRegister, hookimpl
from kubeup_core.bootstrapper import Bootstrapper

from .config import KubeadmConfig

__all__ = ["KubeadmConfig", "build", "kubeup_register_bootstrappers"]


@hookimpl
def kubeup_register_bootstrappers(register: BootstrapperRegister) -> None:
    register.bootstrapper(name="kubeadm", config=KubeadmConfig, build=build)


def build() -> Bootstrapper:
    """The bootstrapper; one for all clusters."""
    from .bootstrapper import Kubeadm

    return Kubeadm()

"""Runs scripts on machines over SSH, for every provider whose machines are reached that way.

Introduced to the core by the hook below; a provider that speaks SSH itself may import `SshExecutor`. Nothing else in kubeup
imports paramiko. Whom to trust is decided by who calls: see `kubeup_core/executor.py` for the contract.
"""

from __future__ import annotations

from kubeup_core import ExecutorRegister, hookimpl

from .executor import SshExecutor
from .known_hosts import KnownHosts
from .targets import check_key, jump_host

__all__ = ["KnownHosts", "SshExecutor", "check_key", "jump_host", "kubeup_register_executors"]


@hookimpl
def kubeup_register_executors(register: ExecutorRegister) -> None:
    register.executor(kind="ssh", build=SshExecutor)

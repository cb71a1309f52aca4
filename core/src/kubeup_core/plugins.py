"""Discovery of plugins: each comes by an entry point of the group `kubeup`, ours too, or as a file (`--plugin ./mine.py`).

`discover` is called once per process by the server and by the commands that need plugins, and gives a `Plugins` registry
(`provider_types.py`). It never raises: a plugin that cannot be used is switched off and recorded as a BrokenPlugin, so that one bad
package stops neither the healer nor a delete. There is no default list. The hooks themselves are in `hookspecs.py`.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Protocol

import pluggy

from . import hookspecs
from .hookspecs import PROJECT, Build, BuildBootstrapper, BuildExecutor, BuildSnapshotStore, ModelClass
from .plugin_config import model_faults, secret_refs, validate
from .provider_types import (
    LABEL,
    BadBuild,
    BootstrapperType,
    BrokenPlugin,
    ExecutorType,
    InvalidConfig,
    NotInstalled,
    PluginError,
    Plugins,
    ProviderType,
    SnapshotStoreType,
    SwitchedOff,
    install_line,
)
from .supplier import CONTRACT

__all__ = [
    "BadBuild",
    "BootstrapperType",
    "BrokenPlugin",
    "ExecutorType",
    "InvalidConfig",
    "NotInstalled",
    "PluginError",
    "Plugins",
    "ProviderType",
    "SnapshotStoreType",
    "SwitchedOff",
    "discover",
    "install_line",
    "load_file",
    "secret_refs",
]


def discover(files: Iterable[str | os.PathLike[str]] = (), found: Iterable[EntryPoint] | None = None) -> Plugins:
    """Load every plugin. Never raises for a plugin's fault: see `Plugins.broken`.

    files  plugins given as files, loaded after the installed ones
    found  the entry points, instead of this interpreter's own of the group `kubeup`
    """
    points = entry_points(group=PROJECT) if found is None else found
    discovery = _Discovery()
    for point in sorted(points, key=lambda point: (point.dist.name if point.dist else "", point.name)):
        distribution, version = (point.dist.name, point.dist.version) if point.dist else (point.module, "")
        discovery.add(_Candidate(distribution, version, point.name), point)
    for file in files:
        path = Path(file)
        discovery.add(_Candidate(str(path), "", str(path)), path)
    return Plugins(
        providers=MappingProxyType(discovery.providers),
        broken=tuple(discovery.broken),
        executors=MappingProxyType(discovery.executors),
        bootstrappers=MappingProxyType(discovery.bootstrappers),
        snapshot_stores=MappingProxyType(discovery.snapshot_stores),
    )


def load_file(path: str | os.PathLike[str]) -> ModuleType:
    """Import a single file as a plugin module. Raises what the file raises, FileNotFoundError when it is not there."""
    file = Path(path).resolve()
    if not file.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    name = f"kubeup_plugin_{re.sub(r'[^0-9A-Za-z]', '_', str(file))}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file (its name must end in .py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pydantic look annotations up in the module by name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@dataclass(frozen=True)
class _Candidate:
    distribution: str
    version: str
    name: str


class _Fault(Exception):
    """Why a plugin is switched off: (reason, remedy)."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason, self.remedy = reason, remedy


class _Discovery:
    """Collects plugin by plugin; one that is at fault leaves nothing behind, not even those of its types that were right."""

    def __init__(self) -> None:
        self.providers: dict[str, ProviderType] = {}
        self.executors: dict[str, ExecutorType] = {}
        self.bootstrappers: dict[str, BootstrapperType] = {}
        self.snapshot_stores: dict[str, SnapshotStoreType] = {}
        self.broken: list[BrokenPlugin] = []

    def add(self, candidate: _Candidate, origin: EntryPoint | Path) -> None:
        try:
            self._introduce(candidate, _load(candidate, origin))
        except _Fault as fault:
            c = candidate
            self.broken.append(
                BrokenPlugin(
                    distribution=c.distribution, version=c.version, name=c.name, reason=fault.reason, remedy=fault.remedy
                )
            )

    def _introduce(self, candidate: _Candidate, module: object) -> None:
        contract = _contract(module)
        manager = _manager(candidate, module)
        providers, executors, bootstrappers = _Providers(candidate, contract), _Executors(candidate), _Bootstrappers(candidate)
        stores = _SnapshotStores(candidate)
        try:
            manager.hook.kubeup_register_providers(register=providers)
            manager.hook.kubeup_register_executors(register=executors)
            manager.hook.kubeup_register_bootstrappers(register=bootstrappers)
            manager.hook.kubeup_register_snapshot_stores(register=stores)
        except _Fault:
            raise
        except (Exception, SystemExit) as error:
            raise _Fault(f"registering failed: {_said(error)}", _blame(candidate)) from error
        if not (providers.types or executors.types or bootstrappers.types or stores.types):
            raise _Fault(
                "it registers nothing", _unmarked(module) or "call register.provider(...) in kubeup_register_providers"
            )
        _refuse_twice(candidate, providers.types, self.providers)
        _refuse_twice(candidate, executors.types, self.executors)
        _refuse_twice(candidate, bootstrappers.types, self.bootstrappers)
        _refuse_twice(candidate, stores.types, self.snapshot_stores)
        self.providers.update(providers.types)
        self.executors.update(executors.types)
        self.bootstrappers.update(bootstrappers.types)
        self.snapshot_stores.update(stores.types)


class _Sourced(Protocol):
    @property
    def source(self) -> str: ...


def _refuse_twice(candidate: _Candidate, names: Iterable[str], known: Mapping[str, _Sourced]) -> None:
    for name in names:
        if name in known:
            first = known[name].source
            raise _Fault(
                f"it registers {name}, which {first} has registered already",
                f"uninstall one of {first} and {candidate.distribution}",
            )


class _Providers:
    """The ProviderRegister that a plugin is handed."""

    def __init__(self, candidate: _Candidate, contract: int) -> None:
        self.candidate = candidate
        self.contract = contract
        self.types: dict[str, ProviderType] = {}

    def provider(self, *, type: str, config: ModelClass, overrides: ModelClass, build: Build, ambient: bool = False) -> None:
        blame = _blame(self.candidate)
        if not LABEL.fullmatch(str(type)):
            raise _Fault(f"the type {type!r} is not a DNS label (a-z, 0-9 and -)", blame)
        if type in self.types:
            raise _Fault(f"it registers {type} twice", blame)
        faults = model_faults(config, "config") + model_faults(overrides, "overrides")
        faults += [] if callable(build) else ["build is not callable"]
        if faults:
            raise _Fault(f"type {type}: {'; '.join(faults)}", blame)
        c = self.candidate
        self.types[type] = ProviderType(
            type=type,
            config=config,
            overrides=overrides,
            build=build,
            distribution=c.distribution,
            version=c.version,
            contract=self.contract,
            ambient=ambient,
        )


class _Executors:
    """The ExecutorRegister that a plugin is handed."""

    def __init__(self, candidate: _Candidate) -> None:
        self.candidate = candidate
        self.types: dict[str, ExecutorType] = {}

    def executor(self, *, kind: str, build: BuildExecutor) -> None:
        blame = _blame(self.candidate)
        if not LABEL.fullmatch(str(kind)):
            raise _Fault(f"the kind {kind!r} is not a DNS label (a-z, 0-9 and -)", blame)
        if kind in ("execute", "none"):
            raise _Fault(f"executor {kind}: machines of that kind are not reached by an executor", blame)
        if kind in self.types:
            raise _Fault(f"it registers executor {kind} twice", blame)
        if not callable(build):
            raise _Fault(f"executor {kind}: build is not callable", blame)
        c = self.candidate
        self.types[kind] = ExecutorType(kind=kind, build=build, distribution=c.distribution, version=c.version)


class _SnapshotStores:
    """The SnapshotStoreRegister that a plugin is handed."""

    def __init__(self, candidate: _Candidate) -> None:
        self.candidate = candidate
        self.types: dict[str, SnapshotStoreType] = {}

    def snapshot_store(self, *, scheme: str, build: BuildSnapshotStore) -> None:
        blame = _blame(self.candidate)
        if not LABEL.fullmatch(str(scheme)):
            raise _Fault(f"the scheme {scheme!r} is not a DNS label (a-z, 0-9 and -)", blame)
        if scheme == "file":
            raise _Fault("snapshot store file: directories are kubeup's own", blame)
        if scheme in self.types:
            raise _Fault(f"it registers snapshot store {scheme} twice", blame)
        if not callable(build):
            raise _Fault(f"snapshot store {scheme}: build is not callable", blame)
        c = self.candidate
        self.types[scheme] = SnapshotStoreType(scheme=scheme, build=build, distribution=c.distribution, version=c.version)


class _Bootstrappers:
    """The BootstrapperRegister that a plugin is handed."""

    def __init__(self, candidate: _Candidate) -> None:
        self.candidate = candidate
        self.types: dict[str, BootstrapperType] = {}

    def bootstrapper(self, *, name: str, config: ModelClass, build: BuildBootstrapper) -> None:
        blame = _blame(self.candidate)
        if not LABEL.fullmatch(str(name)):
            raise _Fault(f"the bootstrapper {name!r} is not a DNS label (a-z, 0-9 and -)", blame)
        if name in self.types:
            raise _Fault(f"it registers bootstrapper {name} twice", blame)
        faults = model_faults(config, "config")
        if not faults and not isinstance(validate(config, {}, ""), config):
            faults = ["a field of its config has no default"]
        faults += [] if callable(build) else ["build is not callable"]
        if faults:
            raise _Fault(f"bootstrapper {name}: {'; '.join(faults)}", blame)
        c = self.candidate
        self.types[name] = BootstrapperType(
            name=name, config=config, build=build, distribution=c.distribution, version=c.version
        )


def _load(candidate: _Candidate, origin: EntryPoint | Path) -> object:
    try:
        return load_file(origin) if isinstance(origin, Path) else origin.load()
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        raise _Fault(
            f"it cannot be imported: {_said(error)}",
            f"install what it needs ({missing}), or reinstall {candidate.distribution}",
        ) from error
    except FileNotFoundError as error:
        raise _Fault(_said(error), "give the path of a Python file") from error
    except (Exception, SystemExit) as error:
        raise _Fault(f"it cannot be imported: {_said(error)}", _blame(candidate)) from error


def _contract(module: object) -> int:
    """The contract that a plugin was written for; without a word about it, the current one."""
    contract = getattr(module, "KUBEUP_CONTRACT", CONTRACT)
    if not isinstance(contract, int) or isinstance(contract, bool):
        raise _Fault(f"KUBEUP_CONTRACT is {contract!r}, not a number", f"set KUBEUP_CONTRACT = {CONTRACT}")
    oldest = max(1, CONTRACT - 1)
    if contract > CONTRACT:
        raise _Fault(
            f"it is written for contract {contract}, this kubeup knows {oldest} to {CONTRACT}",
            f"upgrade kubeup: {install_line('kubeup')} --upgrade",
        )
    if contract < oldest:
        raise _Fault(f"it is written for contract {contract}, this kubeup knows {oldest} to {CONTRACT}", "upgrade the plugin")
    return contract


def _manager(candidate: _Candidate, module: object) -> pluggy.PluginManager:
    """A manager of its own for each plugin, so that one with a wrong hook leaves nothing in the others'."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    known = [name for name in dir(hookspecs) if name.startswith(f"{PROJECT}_")]
    try:
        manager.register(module, candidate.name)
    except pluggy.PluginValidationError as error:
        right = ", ".join(f"{name}({', '.join(_arguments(name))})" for name in known)
        raise _Fault(f"a hook has the wrong arguments: {' '.join(str(error).split())}", f"the hooks are: {right}") from error
    for name in sorted(hook.name for hook in manager.get_hookcallers(module) or () if hook.name not in known):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        raise _Fault(f"there is no hook {name}", f"did you mean {near[0]}?" if near else f"the hooks are: {', '.join(known)}")
    return manager


def _arguments(hook: str) -> tuple[str, ...]:
    code = getattr(hookspecs, hook).__code__
    return tuple(code.co_varnames[: code.co_argcount])


def _unmarked(module: object) -> str:
    """A function that looks like a hook but lacks the marker, which pluggy passes over in silence."""
    hooks = [name for name in dir(module) if name.startswith(f"{PROJECT}_register") and callable(getattr(module, name))]
    marked = [name for name in hooks if hasattr(getattr(module, name), f"{PROJECT}_impl")]
    return f"put @kubeup_core.hookimpl above {hooks[0]}" if hooks and not marked else ""


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _blame(candidate: _Candidate) -> str:
    return f"tell the author of {candidate.distribution}, or uninstall it"

"""The registry of provider types: look-up by name, validation of configs, the build, and what to say when a type is missing.

Made by `plugins.discover`, read by the server, the controllers and the CLI. Everything in it is immutable. How plugins are found
and why one is off is in `plugins.py`, the rules for models in `plugin_config.py`, the tracing in `trace.py`.
"""

from __future__ import annotations

import difflib
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pydantic import BaseModel

from .bootstrapper import Bootstrapper
from .hookspecs import PROJECT, Build, BuildBootstrapper, BuildExecutor, BuildSnapshotStore, ModelClass
from .plugin_config import validate
from .snapshots import Directory, SnapshotStore
from .supplier import Capabilities, Context, Problem, Suppliers
from .trace import traced, tracing

LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_METHODS = {
    "machines": ("check", "offers", "launch", "lookup", "observe", "delete", "execute", "console", "reboot"),
    "networks": ("ensure", "observe", "delete"),
    "load_balancers": ("ensure", "observe", "delete"),
    "volumes": ("ensure", "attach", "detach", "observe", "delete"),
}


_BOOTSTRAPPER_METHODS = (
    "check",
    "newest",
    "hops",
    "steps",
    "addons",
    "certificates",
    "etcd_list",
    "etcd_members",
    "etcd_remove",
)


class PluginError(Exception):
    """Base of what a look-up or a build may raise: `message` says what is wrong, `remedy` what to do now."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.message = message
        self.remedy = remedy


class NotInstalled(PluginError):
    """No plugin offers this type; the remedy is the install line for this interpreter, or the nearest installed type."""


class SwitchedOff(NotInstalled):
    """A plugin for this type is installed but broken; the message has the reason."""


class InvalidConfig(PluginError):
    """A config or overrides that the plugin's model refuses. `problems`: each with its path from the object's root."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{first.path}: {first.message}{more}", first.remedy)
        self.problems = tuple(problems)


class BadBuild(PluginError):
    """build() returned what is not Suppliers, or Suppliers with parts missing. The plugin's author has to act."""


@dataclass(frozen=True, kw_only=True)
class BrokenPlugin:
    """A plugin that is off. `name` is its entry point's, or the file's path; `reason` and `remedy` are for people."""

    distribution: str
    version: str
    name: str
    reason: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class ProviderType:
    """One registered type of provider, and who brought it."""

    type: str
    config: ModelClass
    overrides: ModelClass
    build: Build
    distribution: str
    version: str
    contract: int
    ambient: bool = False

    @property
    def source(self) -> str:
        """The distribution and its version, for messages."""
        return f"{self.distribution} {self.version}".strip()

    def make(self, config: BaseModel, context: Context) -> Suppliers:
        """build(), checked, and traced when KUBEUP_TRACE=1. Raises BadBuild, and whatever build itself raises."""
        suppliers: object = self.build(config, context)
        faults = _build_faults(suppliers)
        if faults or not isinstance(suppliers, Suppliers):
            raise BadBuild(
                f"the plugin for {self.type} ({self.source}) returned what cannot be used: {'; '.join(faults)}",
                f"tell its author, or install another version of {self.distribution}",
            )
        return traced(suppliers, self.type, tuple(context.secrets.values())) if tracing() else suppliers


@dataclass(frozen=True, kw_only=True)
class ExecutorType:
    """One registered way to run things on machines, and who brought it."""

    kind: str
    build: BuildExecutor
    distribution: str
    version: str

    @property
    def source(self) -> str:
        """The distribution and its version, for messages."""
        return f"{self.distribution} {self.version}".strip()


@dataclass(frozen=True, kw_only=True)
class BootstrapperType:
    """One registered bootstrapper, and who brought it."""

    name: str
    config: ModelClass
    build: BuildBootstrapper
    distribution: str
    version: str

    @property
    def source(self) -> str:
        """The distribution and its version, for messages."""
        return f"{self.distribution} {self.version}".strip()

    @cached_property
    def made(self) -> Bootstrapper:
        """build()'s bootstrapper: one per process, it has no state. Raises BadBuild."""
        made = self.build()
        missing = [method for method in _BOOTSTRAPPER_METHODS if not callable(getattr(made, method, None))]
        if missing:
            raise BadBuild(
                f"the plugin for bootstrapper {self.name} ({self.source}) returned what cannot be used: "
                f"it lacks {', '.join(missing)}",
                f"tell its author, or install another version of {self.distribution}",
            )
        return made


@dataclass(frozen=True, kw_only=True)
class SnapshotStoreType:
    """One registered place for snapshots of etcd, and who brought it."""

    scheme: str
    build: BuildSnapshotStore
    distribution: str
    version: str

    @property
    def source(self) -> str:
        """The distribution and its version, for messages."""
        return f"{self.distribution} {self.version}".strip()


@dataclass(frozen=True)
class Plugins:
    """The registry: what is installed, and what is installed but off."""

    providers: Mapping[str, ProviderType] = field(default_factory=dict)
    broken: tuple[BrokenPlugin, ...] = ()
    executors: Mapping[str, ExecutorType] = field(default_factory=dict)
    bootstrappers: Mapping[str, BootstrapperType] = field(default_factory=dict)
    snapshot_stores: Mapping[str, SnapshotStoreType] = field(default_factory=dict)

    def find(self, type: str) -> ProviderType:
        """Raises SwitchedOff or NotInstalled."""
        if type in self.providers:
            return self.providers[type]
        for plugin in self.broken:
            if type in (plugin.name, plugin.distribution.removeprefix(f"{PROJECT}-")):
                raise SwitchedOff(f"the plugin for {type} ({_source(plugin)}) is off: {plugin.reason}", plugin.remedy)
        installed = ", ".join(sorted(self.providers)) or "none"
        raise NotInstalled(f"no provider type {type!r} is installed (installed: {installed})", self._remedy(type))

    def executor(self, kind: str) -> ExecutorType:
        """What runs things on machines whose Access is of this kind. Raises SwitchedOff or NotInstalled."""
        if kind in self.executors:
            return self.executors[kind]
        name = f"{PROJECT}-{kind}-executor"
        for plugin in self.broken:
            if plugin.distribution == name:
                raise SwitchedOff(f"the executor for {kind} ({_source(plugin)}) is off: {plugin.reason}", plugin.remedy)
        raise NotInstalled(
            f"machines are reached by {kind}, and no plugin for that is installed", f"install it: {install_line(name)}"
        )

    def bootstrapper(self, name: str) -> BootstrapperType:
        """Raises SwitchedOff or NotInstalled."""
        if name in self.bootstrappers:
            return self.bootstrappers[name]
        for plugin in self.broken:
            if name in (plugin.name, plugin.distribution.removeprefix(f"{PROJECT}-")):
                raise SwitchedOff(f"the bootstrapper {name} ({_source(plugin)}) is off: {plugin.reason}", plugin.remedy)
        installed = ", ".join(sorted(self.bootstrappers)) or "none"
        remedy = (
            f"install it: {install_line(f'{PROJECT}-{name}')}"
            if LABEL.fullmatch(name)
            else "write the name of an installed one"
        )
        raise NotInstalled(f"no bootstrapper {name!r} is installed (installed: {installed})", remedy)

    def bootstrapper_config(self, name: str, value: Mapping[str, object]) -> BaseModel:
        """`spec.kubernetes.config` as the bootstrapper's model. Raises InvalidConfig with paths `spec.kubernetes.config...`,
        and what bootstrapper() raises."""
        return _checked(self.bootstrapper(name).config, value, "spec.kubernetes.config")

    def snapshot_store(self, url: str, secrets: Mapping[str, str]) -> SnapshotStore:
        """The store that a URL names. Raises InvalidSpec for a URL that is none, SwitchedOff or NotInstalled for its plugin."""
        scheme = url.partition(":")[0]
        if scheme == "file":
            return Directory(url)
        if scheme in self.snapshot_stores:
            return self.snapshot_stores[scheme].build(url, secrets)
        name = f"{PROJECT}-{scheme}"
        for plugin in self.broken:
            if plugin.distribution == name:
                raise SwitchedOff(f"the snapshot store {scheme} ({_source(plugin)}) is off: {plugin.reason}", plugin.remedy)
        known = ", ".join(["file", *sorted(self.snapshot_stores)])
        raise NotInstalled(
            f"nothing keeps snapshots at {url!r} (there is {known})",
            f"install it: {install_line(name)}, or use file:///DIRECTORY",
        )

    def config(self, type: str, value: Mapping[str, object]) -> BaseModel:
        """`Provider.spec.config` as the plugin's model. Raises InvalidConfig with paths `spec.config...`, and what find raises."""
        return _checked(self.find(type).config, value, "spec.config")

    def overrides(self, type: str, value: Mapping[str, object], path: str = "") -> BaseModel:
        """`overrides.<type>` as the plugin's model. Raises InvalidConfig with paths `spec.overrides.<type>...` (or under `path`)."""
        return _checked(self.find(type).overrides, value, path or f"spec.overrides.{type}")

    def implicit(self) -> tuple[str, ...]:
        """The types whose config needs no field: each has a Provider of its own name without anybody writing one, those that are
        `ambient` once something names it."""
        return tuple(name for name, p in sorted(self.providers.items()) if isinstance(validate(p.config, {}, ""), p.config))

    def _remedy(self, type: str) -> str:
        near = difflib.get_close_matches(type, list(self.providers), n=1, cutoff=0.7)
        if near:
            return f"did you mean {near[0]}?"
        if not LABEL.fullmatch(type):
            return "write the type of an installed provider"
        return f"install it: {install_line(f'{PROJECT}-{type}')}"


def install_line(distribution: str) -> str:
    """The command that installs a distribution for this very interpreter."""
    return f"{shlex.quote(sys.executable)} -m pip install {shlex.quote(distribution)}"


def _build_faults(suppliers: object) -> list[str]:
    if not isinstance(suppliers, Suppliers):
        return [f"build gave {type(suppliers).__name__}, not Suppliers"]
    parts: dict[str, object] = vars(suppliers)
    faults = []
    if not getattr(parts["identity"], "key", ""):
        faults.append("identity has no key")
    if not isinstance(parts["capabilities"], Capabilities):
        faults.append("capabilities is not a Capabilities")
    for part, methods in _METHODS.items():
        supplier = parts[part]
        if supplier is None and part != "machines":
            continue
        missing = [method for method in methods if not callable(getattr(supplier, method, None))]
        if missing:
            faults.append(f"{part} lacks {', '.join(missing)}")
    faults += [f"{part} is not callable" for part in ("probe", "close") if not callable(parts[part])]
    return faults


def _checked(model: type[BaseModel], value: Mapping[str, object], path: str) -> BaseModel:
    result = validate(model, value, path)
    if isinstance(result, tuple):
        raise InvalidConfig(result)
    return result


def _source(plugin: BrokenPlugin) -> str:
    return f"{plugin.distribution} {plugin.version}".strip()

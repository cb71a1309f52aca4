"""What the API machinery knows of a kind: names, scope, model, columns, and the rules that need one object only.

`verbs` validates by it, `server` describes it to clients, `runtime` watches by it. Rules that need another object (references,
capabilities) are conditions, written by controllers: files arrive in any order, and a real kube-apiserver runs none of our code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..objects import GROUP, VERSION, Resource
from ..statuses import Cause

Rules = Callable[[Any, Any | None], Sequence[Cause]]
"""rules(new, old) -> faults; `old` is None on create. Both are models of the kind."""


@dataclass(frozen=True)
class Column:
    """One printed column. `path` is a JSONPath as in a CRD's additionalPrinterColumns; priority 1 shows with `-o wide`."""

    name: str
    path: str
    type: str = "string"  # string | integer | number | boolean | date
    priority: int = 0
    description: str = ""


AGE = Column("Age", ".metadata.creationTimestamp", "date", description="Time since the object was created")


def ready() -> Column:
    return Column("Ready", '.status.conditions[?(@.type=="Ready")].status', description="Whether it does what was declared")


@dataclass(frozen=True)
class Kind:
    """immutable: paths below the root that may not change once set (`spec.type`); "spec" means all of it.
    defaulted_status: a created object gets the status model's defaults."""

    kind: str
    plural: str
    model: type[Resource]
    group: str = GROUP
    version: str = VERSION
    namespaced: bool = True
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    columns: tuple[Column, ...] = (AGE,)
    has_status: bool = True
    scale: bool = False
    immutable: tuple[str, ...] = ()
    rules: Rules | None = field(default=None, repr=False)
    builtin: bool = False
    deletecollection: bool = True
    description: str = ""

    @property
    def resource(self) -> str:
        """Key in the store and in messages: `machines.kubeup.dev`, `secrets`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """As kube-apiserver names a kind in errors: `Machine.kubeup.dev`, `Secret`."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def singular_name(self) -> str:
        return self.singular or self.kind.lower()

"""What every object has: metadata, conditions, owner references; and the small types that specs share.

The kinds themselves are in `kinds/`. Models are used by controllers and for validation; the store and the server pass encoded
bytes and never keep a model. All models are strict (a number in quotes is an error), use camelCase on the wire, ignore what
they do not know (the strict check of unknown fields is in `verbs`), and leave out what is None when dumped.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

GROUP = "kubeup.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

IN_USE = f"{GROUP}/in-use"
"""Finalizer on a Provider, and on Secrets that one refers to, while anything made with it exists."""


class Model(BaseModel):
    """Base of everything inside an object."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, strict=True, extra="ignore")

    def to_dict(self) -> dict[str, Any]:
        """As it goes over the wire: camelCase, without what is None."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


class OwnerReference(Model):
    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool | None = None
    block_owner_deletion: bool | None = None


class ObjectMeta(Model):
    """Kubernetes' ObjectMeta, as far as it is used here."""

    name: str = ""
    generate_name: str | None = None
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    generation: int | None = None
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: list[str] | None = None
    owner_references: list[OwnerReference] | None = None
    managed_fields: list[dict[str, Any]] | None = None
    self_link: str | None = None


class Condition(Model):
    """kstatus-compatible. `reason` is CamelCase for machines, `message` a sentence for people that names the next thing to do."""

    type: str
    status: Literal["True", "False", "Unknown"]
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None
    observed_generation: int | None = None


class LastError(Model):
    """The last error of a supplier. `decision` is the class of `errors.py`."""

    decision: str
    message: str
    code: str | None = None
    request_id: str | None = Field(default=None, alias="requestID")
    remedy: str | None = None
    at: str | None = None
    retry_at: str | None = None


class Status(Model):
    """What every status has."""

    observed_generation: int | None = None
    conditions: list[Condition] = Field(default_factory=list)
    last_error: LastError | None = None

    def condition(self, type_: str) -> Condition | None:
        return next((c for c in self.conditions if c.type == type_), None)

    def is_true(self, type_: str) -> bool:
        found = self.condition(type_)
        return found is not None and found.status == "True"

    def set_condition(
        self, type_: str, status: bool | None, reason: str, message: str = "", *, now: float, generation: int | None = None
    ) -> None:
        """Set one condition; `lastTransitionTime` changes only with the status. None means Unknown. Order is by first use."""
        value: Literal["True", "False", "Unknown"] = "Unknown" if status is None else "True" if status else "False"
        new = Condition(type=type_, status=value, reason=reason, message=message, observed_generation=generation)
        for i, old in enumerate(self.conditions):
            if old.type == type_:
                same = old.status == value and old.last_transition_time
                new.last_transition_time = old.last_transition_time if same else timestamp(now)
                self.conditions[i] = new
                return
        new.last_transition_time = timestamp(now)
        self.conditions.append(new)

    def drop_condition(self, type_: str) -> None:
        self.conditions = [c for c in self.conditions if c.type != type_]


class Resource(Model):
    """Base of every kind. Subclasses add `spec` and `status` (or, for built-ins, what Kubernetes has)."""

    api_version: str = API_VERSION
    kind: str = ""
    metadata: ObjectMeta = Field(default_factory=ObjectMeta)

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        return self.metadata.namespace or ""

    @property
    def uid(self) -> str:
        return self.metadata.uid or ""

    @property
    def labels(self) -> dict[str, str]:
        return self.metadata.labels or {}

    @property
    def annotations(self) -> dict[str, str]:
        return self.metadata.annotations or {}

    @property
    def finalizers(self) -> list[str]:
        return self.metadata.finalizers or []

    @property
    def deleting(self) -> bool:
        return self.metadata.deletion_timestamp is not None

    def owner(self) -> OwnerReference | None:
        """The controlling owner."""
        return next((o for o in self.metadata.owner_references or () if o.controller), None)

    def reference(self, *, controller: bool = True, block: bool = True) -> OwnerReference:
        """An owner reference to this object."""
        return OwnerReference(
            api_version=self.api_version,
            kind=self.kind,
            name=self.name,
            uid=self.uid,
            controller=controller or None,
            block_owner_deletion=block or None,
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """From what the store holds. Lenient where a stored object could not be refused any more."""
        return cls.model_validate_json(data)

    def to_bytes(self) -> bytes:
        return orjson.dumps(self.to_dict())


def timestamp(at: float) -> str:
    """Kubernetes' Time: whole seconds, UTC."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_timestamp(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


# -- names ---------------------------------------------------------------------------------------------------------------

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


def is_dns_label(name: str) -> bool:
    return len(name) <= 63 and _LABEL.fullmatch(name) is not None


def is_dns_subdomain(name: str) -> bool:
    return len(name) <= 253 and _SUBDOMAIN.fullmatch(name) is not None


# -- quantities ----------------------------------------------------------------------------------------------------------

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?")
_UNITS = {None: 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15,
          "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}  # fmt: skip


def parse_size(text: str) -> int:
    """Bytes of a Kubernetes quantity (`4Gi`, `500M`). ValueError says what to write instead."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        nearest = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kKmMgGtTpP])(i?)[bB]?", text.strip())
        hint = f'; did you mean "{nearest[1]}{nearest[2].upper()}{nearest[3] or "i"}"?' if nearest else ', for example "4Gi"'
        raise ValueError(f"{text!r} is not a size: write a number with a unit of Mi, Gi, Ti (or M, G, T){hint}")
    return int(float(match[1]) * _UNITS[match[2]])


def format_size(size: int) -> str:
    """The shortest exact binary unit: 8589934592 -> 8Gi."""
    for unit in ("Ti", "Gi", "Mi", "Ki"):
        if size and size % _UNITS[unit] == 0:
            return f"{size // _UNITS[unit]}{unit}"
    return str(size)


def _text(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f'{value} has no unit: write "{value}Gi" or "{value}Mi", in quotes or not')
    return value


def _size(value: str) -> str:
    if parse_size(value) and _QUANTITY.fullmatch(value)[2] is None:  # type: ignore[index]
        raise ValueError(f'{value!r} has no unit: write "{value}Gi" or "{value}Mi"')
    return value


Size = Annotated[
    str,
    BeforeValidator(_text),
    AfterValidator(_size),
    Field(json_schema_extra={"x-kubernetes-int-or-string": False}, examples=["4Gi"]),
]
"""Bytes, as text with a unit. A bare number is refused: nobody means four bytes."""

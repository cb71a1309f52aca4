"""What a plugin's config and overrides models may look like, and how what a person wrote is checked against them.

Plugin authors use `SecretRef` from here (through `kubeup_core`); `plugins.py` calls the rest: `model_faults` when a plugin
registers, `validate` when a Provider, a Cluster or a pool is looked at, `secret_refs` before a build. No value of a config is
ever put into a message: it may be a secret in the wrong place. Where configs come from is in `kinds/` and the controllers.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from .supplier import Problem

M = TypeVar("M", bound=BaseModel)

INLINE_SECRET = "inline_secret"
"""Type of the pydantic error for text where a SecretRef belongs."""

_LAST_WORDS = frozenset({"password", "passwd", "passphrase", "secret", "token", "credential", "credentials"})
_LAST_PAIRS = frozenset({("secret", "key"), ("private", "key"), ("api", "key"), ("signing", "key")})


class SecretRef(BaseModel):
    """One key of a Secret. Use it as the type of a config field; the value arrives in `Context.secrets[ref.path]`."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    namespace: str = Field(min_length=1, description="Namespace of the Secret")
    name: str = Field(min_length=1, description="Name of the Secret")
    key: str = Field(min_length=1, description="Key in the Secret")

    @property
    def path(self) -> str:
        """Under which `Context.secrets` holds the value: "namespace/name/key"."""
        return f"{self.namespace}/{self.name}/{self.key}"

    @model_validator(mode="before")
    @classmethod
    def _no_inline_value(cls, value: object) -> object:
        if isinstance(value, str | bytes | int | float):
            raise PydanticCustomError(INLINE_SECRET, "a secret is never written here, only a reference to a Secret")
        return value


def secret_refs(config: object) -> Iterator[SecretRef]:
    """Every SecretRef in a config, however deep, in the order of the fields. The core resolves them before it builds."""
    if isinstance(config, SecretRef):
        yield config
    elif isinstance(config, BaseModel):
        for name in type(config).model_fields:
            yield from secret_refs(getattr(config, name))
    elif isinstance(config, Mapping):
        for value in config.values():
            yield from secret_refs(value)
    elif isinstance(config, list | tuple | set | frozenset):
        for value in config:
            yield from secret_refs(value)


def model_faults(model: object, what: str) -> list[str]:
    """Why a plugin's model is refused: not a pydantic model, lax about unknown fields, or with a secret in plain text.

    what  "config" or "overrides", for the message
    """
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return [f"{what} is {_named(model)}, not a pydantic model class"]
    faults = []
    for path, nested in _models(model, what, frozenset()):
        if nested.model_config.get("extra") != "forbid":
            faults.append(
                f'{path}: {nested.__name__} accepts unknown fields; it needs model_config = ConfigDict(extra="forbid")'
            )
        for name, info in nested.model_fields.items():
            if sounds_secret(name) and _holds_text(info.annotation):
                faults.append(f"{path}.{name} sounds like a secret but is plain text; declare it as kubeup_core.SecretRef")
    return faults


def validate(model: type[M], value: Mapping[str, object], path: str) -> M | tuple[Problem, ...]:
    """The model, or what is wrong with `value`, each with its path from the object's root (`spec.config.region`)."""
    try:
        return model.model_validate(dict(value))
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        return tuple(_problem(model, detail, path) for detail in details)


def _problem(model: type[BaseModel], detail: ErrorDetails, path: str) -> Problem:
    loc = [part for part in detail["loc"] if not (isinstance(part, str) and part.startswith("function-"))]
    where = path + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    field = str(loc[-1]) if loc else path
    match detail["type"]:
        case "extra_forbidden":
            known = sorted(_fields_at(model, loc[:-1]))
            near = difflib.get_close_matches(field, known, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"known fields: {', '.join(known) or 'none'}"
            return Problem(path=where, message=f"unknown field {field}", remedy=remedy)
        case "missing":
            return Problem(path=where, message=f"{field} is required", remedy=f"set {where}")
        case kind if kind == INLINE_SECRET:
            return Problem(
                path=where,
                message="secrets are never written into a config",
                remedy=(
                    f"make a Secret (kubectl create secret generic NAME -n NAMESPACE --from-file={field}=FILE) and write "
                    f"{field}: {{namespace: NAMESPACE, name: NAME, key: {field}}}"
                ),
            )
        case _:
            return Problem(path=where, message=detail["msg"], remedy=f"correct {where}")


def _fields_at(model: type[BaseModel], loc: list[int | str]) -> set[str]:
    """Names, as written in a file, of the fields of the model that `loc` leads to."""
    here: list[type[BaseModel]] = [model]
    for part in loc:
        if isinstance(part, str):
            infos = [info for m in here for name, info in m.model_fields.items() if part in (name, info.alias)]
            here = [m for info in infos for m in _models_in(info.annotation)] or here
    return {info.alias or name for m in here for name, info in m.model_fields.items()}


def _models(model: type[BaseModel], path: str, above: frozenset[type[BaseModel]]) -> Iterator[tuple[str, type[BaseModel]]]:
    if model in above or model is SecretRef:
        return
    yield path, model
    for name, info in model.model_fields.items():
        for nested in _models_in(info.annotation):
            yield from _models(nested, f"{path}.{name}", above | {model})


def _models_in(annotation: object) -> list[type[BaseModel]]:
    return [leaf for leaf in _leaves(annotation) if isinstance(leaf, type) and issubclass(leaf, BaseModel)]


def _holds_text(annotation: object) -> bool:
    return any(
        leaf in (str, bytes, Any) or getattr(leaf, "__name__", "") in ("SecretStr", "SecretBytes")
        for leaf in _leaves(annotation)
    )


def _leaves(annotation: object) -> list[object]:
    """The types that an annotation is made of: those inside of unions, lists and mappings."""
    if get_origin(annotation) in (Union, types.UnionType) or get_args(annotation):
        return [leaf for arg in get_args(annotation) for leaf in _leaves(arg)]
    return [annotation]


def sounds_secret(name: str) -> bool:
    """Whether a field of this name would hold a secret (`secretKey`, `api_token`), and so may not be plain text."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)]
    return bool(words) and (words[-1] in _LAST_WORDS or tuple(words[-2:]) in _LAST_PAIRS)


def _named(thing: object) -> str:
    return f"{thing.__name__}" if isinstance(thing, type) else f"of type {type(thing).__name__}"

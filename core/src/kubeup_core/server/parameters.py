"""Query parameters and DeleteOptions, into what `verbs` takes. Wrong values are 422 as kube-apiserver has them.

Parameters that nobody knows are accepted and ignored: clients send `pretty`, `timeout` and whatever comes next.
"""

from __future__ import annotations

from typing import Any, Literal

from ..statuses import BadRequest, Cause, Invalid
from ..verbs import DeleteOptions, Options
from .http import Request

_MAX_MANAGER = 128
_VALIDATIONS: tuple[Literal["Ignore", "Warn", "Strict"], ...] = ("Ignore", "Warn", "Strict")
_POLICIES = ("Background", "Foreground", "Orphan")


def write_options(request: Request, kind: str, subresource: str, twice: list[str]) -> Options:
    """`kind` is CreateOptions, UpdateOptions or PatchOptions; `twice` are the fields that stood twice in the body."""
    query = request.query
    return Options(
        dry_run=_dry_run(query.get("dryRun"), kind),
        field_manager=_manager(request, kind),
        field_validation=validation(request, kind),
        force=request.flag("force"),
        subresource="status" if subresource == "status" else "scale" if subresource == "scale" else "",
        unknown=tuple(f'duplicate field "{path}"' for path in twice),
    )


def validation(request: Request, kind: str) -> Literal["Ignore", "Warn", "Strict"]:
    value = request.query.get("fieldValidation") or "Warn"
    for known in _VALIDATIONS:
        if value == known:
            return known
    message = f'Unsupported value: "{value[:40]}": supported values: "Ignore", "Warn", "Strict"'
    raise _invalid(kind, Cause("FieldValueNotSupported", message, "fieldValidation"))


def delete_options(request: Request, body: Any) -> DeleteOptions:
    """From the body, else from the query."""
    if body is None:
        body = {}
    if not isinstance(body, dict):
        raise BadRequest("the body of a delete must be DeleteOptions")
    if body.get("kind", "DeleteOptions") != "DeleteOptions":
        raise BadRequest(f"the body of a delete must be DeleteOptions, not {str(body['kind'])[:60]}")
    query = request.query
    wanted = body.get("dryRun")
    if wanted is not None and not isinstance(wanted, list):
        raise BadRequest("dryRun in DeleteOptions must be a list")
    dry = wanted[0] if wanted else query.get("dryRun")
    policy = body.get("propagationPolicy") or query.get("propagationPolicy")
    if policy and policy not in _POLICIES:
        message = f'Unsupported value: "{str(policy)[:40]}": supported values: "Background", "Foreground", "Orphan"'
        raise _invalid("DeleteOptions", Cause("FieldValueNotSupported", message, "propagationPolicy"))
    orphan = body.get("orphanDependents", request.flag("orphanDependents"))
    if policy and orphan:
        message = "Invalid value: true: orphanDependents and propagationPolicy cannot be both set"
        raise _invalid("DeleteOptions", Cause("FieldValueInvalid", message, "propagationPolicy"))
    conditions = body.get("preconditions") or {}
    if not isinstance(conditions, dict):
        raise BadRequest("preconditions in DeleteOptions must be an object")
    return DeleteOptions(
        propagation=policy or ("Orphan" if orphan else None),
        uid=_text(conditions.get("uid"), "preconditions.uid"),
        resource_version=_text(conditions.get("resourceVersion"), "preconditions.resourceVersion"),
        dry_run=_dry_run(dry, "DeleteOptions"),
    )


def _dry_run(value: Any, kind: str) -> bool:
    if not value:
        return False
    if value != "All":
        message = f'Unsupported value: "{str(value)[:40]}": supported values: "All"'
        raise _invalid(kind, Cause("FieldValueNotSupported", message, "dryRun"))
    return True


def _manager(request: Request, kind: str) -> str:
    """The parameter, else the program that the User-Agent names. For a patch it stays absent: apply requires it."""
    given = request.query.get("fieldManager", "")
    if len(given) > _MAX_MANAGER:
        message = f"Too long: may not be more than {_MAX_MANAGER} bytes"
        raise _invalid(kind, Cause("FieldValueTooLong", message, "fieldManager"))
    if not given.isprintable():
        message = "Invalid value: should only contain printable characters"
        raise _invalid(kind, Cause("FieldValueInvalid", message, "fieldManager"))
    if given or request.header(b"content-type").startswith("application/apply-patch"):
        return given
    agent = request.header(b"user-agent").partition("/")[0][:_MAX_MANAGER]
    return agent if agent.isprintable() else ""


def _text(value: Any, field: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise BadRequest(f"{field} in DeleteOptions must be text")
    return value or None


def _invalid(kind: str, cause: Cause) -> Invalid:
    text = f'{kind}.meta.k8s.io "" is invalid: {cause.field}: {cause.message}'
    return Invalid(text, group="meta.k8s.io", kind=kind, causes=[cause])

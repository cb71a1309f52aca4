"""What may become of an object: names, metadata, immutable fields, protection.

`verbs` asks before each write. Each fault names the field, what is wrong and what to do instead. Types and ranges are in
`validation.py`; rules of one kind are in `kinds/`. Here are the rules that are the same for all kinds, and the few that look at
other objects and that only the API itself can hold: `protect`, and a Cluster's provider while control planes exist.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .kinds import Kind
from .kinds.installation import NAME as INSTALLATION
from .objects import is_dns_label, is_dns_subdomain
from .plugin_config import sounds_secret
from .statuses import BadRequest, Cause, Forbidden
from .validation import invalid, text_of

Others = Callable[[str, str, bytes], Iterable[Mapping[str, Any]]]
"""others(plural, namespace, containing) -> decoded objects of a kind of ours whose encoding contains some bytes."""

OWNED_BY_CLUSTER = ("nodepools", "machines", "loadbalancers", "volumes")

_QUALIFIED = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)")
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_MAX_ANNOTATIONS = 256 * 1024

_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an "
    "alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
_INSTEAD = {
    "Machine": "a machine is replaced, not edited: change its NodePool, or delete it and create another",
    "Launch": "a launch is never changed; the core writes another one",
    "Provider": "create a Provider of another name and point clusters or pools at it",
    "Secret": "delete it and create it again",
}


def check_identity(kind: Kind, obj: Any, namespace: str, name: str | None) -> None:
    """The body must be an object of this kind, at this place. Raises BadRequest, and Invalid for another kind."""
    if not isinstance(obj, dict):
        raise BadRequest("the body must be one object, with apiVersion, kind and metadata")
    for key in ("kind", "apiVersion"):
        if not isinstance(obj.get(key), str) or not obj[key]:
            raise BadRequest(f"{key} is missing in the body: write {key}: {kind.kind if key == 'kind' else kind.api_version}")
    if obj["apiVersion"] != kind.api_version:
        raise BadRequest(
            f"the API version in the data ({obj['apiVersion']}) does not match the expected API version ({kind.api_version})"
        )
    if obj["kind"] != kind.kind:
        cause = Cause("FieldValueInvalid", f"Invalid value: {text_of(obj['kind'])}: must be {kind.kind}", "kind")
        raise invalid(kind, name or "", [cause])
    metadata = obj.get("metadata")
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict):
        raise BadRequest("metadata must be an object")
    given = metadata.get("namespace")
    if given and given != namespace:
        if kind.namespaced:
            raise BadRequest(
                f"the namespace of the provided object does not match the namespace sent on the request ({given} != {namespace})"
            )
        raise BadRequest(f"{kind.kind} is not namespaced; leave out metadata.namespace")
    if name is not None and metadata.get("name") not in (None, "", name):
        raise BadRequest(f"the name of the object ({metadata['name']}) does not match the name on the URL ({name})")


def metadata_faults(kind: Kind, metadata: Mapping[str, Any], *, create: bool) -> list[Cause]:
    """Faults of names, labels, annotations, finalizers and owner references."""
    faults = _name_faults(kind, metadata.get("name", "")) if create else []
    for key, value in (metadata.get("labels") or {}).items():
        if not _is_qualified(key):
            faults.append(Cause("FieldValueInvalid", f"Invalid value: {text_of(key)}: {_KEY_RULE}", "metadata.labels"))
        if len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            faults.append(Cause("FieldValueInvalid", f"Invalid value: {text_of(value)}: {_VALUE_RULE}", "metadata.labels"))
    size = 0
    for key, value in (metadata.get("annotations") or {}).items():
        size += len(key) + len(value)
        if not _is_qualified(key.lower()):
            faults.append(Cause("FieldValueInvalid", f"Invalid value: {text_of(key)}: {_KEY_RULE}", "metadata.annotations"))
    if size > _MAX_ANNOTATIONS:
        message = f"Too long: may not be more than {_MAX_ANNOTATIONS} bytes"
        faults.append(Cause("FieldValueTooLong", message, "metadata.annotations"))
    for i, finalizer in enumerate(metadata.get("finalizers") or ()):
        if not _is_qualified(finalizer):
            message = f"Invalid value: {text_of(finalizer)}: {_KEY_RULE}"
            faults.append(Cause("FieldValueInvalid", message, f"metadata.finalizers[{i}]"))
    owners = metadata.get("ownerReferences") or ()
    for i, owner in enumerate(owners):
        for key in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(key):
                message = 'Invalid value: "": must not be empty'
                faults.append(Cause("FieldValueInvalid", message, f"metadata.ownerReferences[{i}].{key}"))
    if sum(1 for owner in owners if owner.get("controller")) > 1:
        message = 'Invalid value: "array": only one reference can have controller set to true'
        faults.append(Cause("FieldValueInvalid", message, "metadata.ownerReferences"))
    return faults


def immutable_faults(
    kind: Kind, new: Mapping[str, Any], old: Mapping[str, Any], defaulted: Callable[[], Mapping[str, Any]]
) -> list[Cause]:
    """A field of `Kind.immutable` that was set once and is another now. `defaulted` gives the old object with the defaults of
    today, which an object that an older version stored does not have yet."""
    faults = []
    instead = _INSTEAD.get(kind.kind, f"delete the {kind.kind} and create it anew")
    for path in kind.immutable:
        before, after = _at(old, path), _at(new, path)
        if before is not None and before != after and _at(defaulted(), path) != after:
            message = f"Invalid value: {text_of(after)}: field is immutable; {instead}"
            faults.append(Cause("FieldValueInvalid", message, path))
    return faults


def duplicate_conditions(status: Any) -> list[Cause]:
    """Conditions are a map by type, written as a list."""
    conditions = status.get("conditions") if isinstance(status, Mapping) else None
    if not isinstance(conditions, list):
        return []
    types = [item.get("type") if isinstance(item, Mapping) else None for item in conditions]
    return [
        Cause("FieldValueDuplicate", f"Duplicate value: {text_of(name)}", f"status.conditions[{i}]")
        for i, name in enumerate(types)
        if isinstance(name, str) and name in types[:i]
    ]


def secret_faults(obj: Mapping[str, Any]) -> list[Cause]:
    """Secrets in plain text in the free-form parts of a spec. A plugin's model takes them by reference only, but it is asked
    after the object was stored, and then the secret would be in the store, in backups and in every listing."""
    faults: list[Cause] = []
    for path in ("spec.config", "spec.overrides", "spec.controlPlane.overrides", "spec.kubernetes.config"):
        _find_secrets(_at(obj, path), path, faults)
    return faults


def _find_secrets(value: Any, path: str, faults: list[Cause]) -> None:
    if isinstance(value, list):
        for i, item in enumerate(value):
            _find_secrets(item, f"{path}[{i}]", faults)
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, dict | list):
                _find_secrets(item, f"{path}.{key}", faults)
            elif item not in (None, "") and sounds_secret(key):
                message = (
                    "Forbidden: a secret is never written here; put it into a Secret (kubectl create secret generic) and "
                    f"write {key}: {{namespace: NAMESPACE, name: NAME, key: KEY}}"
                )
                faults.append(Cause("FieldValueForbidden", message, f"{path}.{key}"))


def provider_faults(new: Mapping[str, Any], old: Mapping[str, Any], others: Others) -> list[Cause]:
    """A Cluster keeps its provider while it has control-plane machines: etcd does not move between places."""
    before, after = _at(old, "spec.provider"), _at(new, "spec.provider")
    if before == after:
        return []
    metadata = old["metadata"]
    held = sorted(
        machine["metadata"]["name"]
        for machine in others("machines", metadata["namespace"], b'"controlPlane"')
        if _at(machine, "spec.cluster") == metadata["name"] and _at(machine, "spec.role") == "controlPlane"
    )
    if not held:
        return []
    message = (
        f"Invalid value: {text_of(after)}: field is immutable while control-plane machines exist ({', '.join(held[:3])}"
        f"{', ...' if len(held) > 3 else ''}); move pools with NodePool spec.provider, or create another Cluster"
    )
    return [Cause("FieldValueInvalid", message, "spec.provider")]


def check_delete(kind: Kind, obj: Mapping[str, Any], others: Others) -> None:
    """Raises Forbidden for what is protected, for what holds something protected, and for what must always be there."""
    name, namespace = obj["metadata"]["name"], obj["metadata"].get("namespace", "")
    if kind.kind == "Installation" and name == INSTALLATION:
        raise forbidden(kind, name, "it says which resources are this installation's, and may not be deleted")
    if kind.kind == "Namespace" and name == "default":
        raise forbidden(kind, name, "this namespace may not be deleted")
    if kind.builtin and kind.kind != "Namespace":
        return
    if _at(obj, "spec.protect"):
        raise forbidden(kind, name, _remedy(kind.singular_name, name, namespace, "it is protected"))
    for plural, held in _protected_inside(kind, name, namespace, others):
        where = held["metadata"].get("namespace", "")
        inner = held["metadata"]["name"]
        raise forbidden(kind, name, _remedy(plural, inner, where, f'it holds the protected {held["kind"]} "{inner}"'))


def forbidden(kind: Kind, name: str, why: str) -> Forbidden:
    return Forbidden(f'{kind.resource} "{name}" is forbidden: {why}', name=name, group=kind.group, kind=kind.plural)


def _protected_inside(kind: Kind, name: str, namespace: str, others: Others) -> Iterable[tuple[str, Mapping[str, Any]]]:
    if kind.kind == "Namespace":
        inside: Sequence[str] = ("clusters", *OWNED_BY_CLUSTER)
        namespace = name
    elif kind.kind == "Cluster":
        inside = OWNED_BY_CLUSTER
    elif kind.kind == "NodePool":
        inside = ("machines",)
    else:
        return
    belongs = {"Cluster": "spec.cluster", "NodePool": "spec.pool"}.get(kind.kind)
    for plural in inside:
        for other in others(plural, namespace, b'"protect":true'):
            if _at(other, "spec.protect") and (belongs is None or _at(other, belongs) == name):
                yield plural, other


def _remedy(resource: str, name: str, namespace: str, why: str) -> str:
    where = f" -n {namespace}" if namespace else ""
    patch = '{"spec":{"protect":false}}'
    return f"{why}; to delete it anyway, first: kubectl patch {resource} {name}{where} --type merge -p '{patch}'"


def _at(obj: Mapping[str, Any], path: str) -> Any:
    value: Any = obj
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


# -- names -----------------------------------------------------------------------------------------------------------------

_KEY_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc'), with an optional DNS subdomain prefix and '/'"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character, and be no more than 63 characters"
)


def _name_faults(kind: Kind, name: str) -> list[Cause]:
    if not name:
        return [Cause("FieldValueRequired", "Required value: name or generateName is required", "metadata.name")]
    label = not kind.builtin or kind.kind == "Namespace"
    if (is_dns_label if label else is_dns_subdomain)(name):
        return []
    limit, rule = (63, _LABEL_RULE) if label else (253, _SUBDOMAIN_RULE)
    if len(name) > limit:
        rule = f"must be no more than {limit} characters"
    return [Cause("FieldValueInvalid", f"Invalid value: {text_of(name)}: {rule}", "metadata.name")]


def _is_qualified(key: str) -> bool:
    prefix, slash, name = key.rpartition("/")
    return _QUALIFIED.fullmatch(name) is not None and (not slash or is_dns_subdomain(prefix))

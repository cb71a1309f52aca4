"""What each request does. `perform` is called by server.py with a request that has the right form.

What all resources have in common is here: insert, get, list, aggregatedList, patch, delete, operations, and what is found at the
place. `instances.py` and `balancing.py` have what only theirs can do.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping

from . import balancing, catalog, filters, instances
from .refusals import in_use, missing, must_be_ready
from .world import ApiError, Body, Item, World

Late = tuple[str, str] | None
_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_KEY, _LABEL = re.compile(r"[a-z][-_a-z0-9]{0,62}"), re.compile(r"[-_a-z0-9]{0,63}")


def perform(world: World, method: str, at: Mapping[str, str], query: Mapping[str, str], body: Body, late: Late) -> Body:
    resource, _, verb = method.partition(".")
    request_id = query.get("requestId", "")
    if request_id:
        if uuid.UUID(request_id).int == 0:
            raise ApiError(400, "invalid", "Invalid value for field 'requestId'")
        if (known := world.replay(request_id)) is not None:
            return known
    special = SPECIAL.get(method)
    if special is not None:
        return special(world, at, query, body, late)
    scope, collection = _where(at), _collection(resource)
    match verb:
        case "insert":
            return _insert(world, scope, collection, query, body, late)
        case "get":
            return view(world, found(world, scope, collection, _name(at)))
        case "list":
            return _list(world, scope, resource, collection, query)
        case "aggregatedList":
            return _aggregated(world, resource, collection, query)
        case "delete":
            return _delete(world, found(world, scope, collection, _name(at)), request_id, late)
        case "patch":
            return _patch(world, found(world, scope, collection, _name(at)), body, request_id, late)
        case "update":
            return _update(world, found(world, scope, collection, _name(at)), body, request_id, late)
        case "setLabels":
            return _set_labels(world, found(world, scope, collection, at["resource"]), body, request_id, late)
    raise ApiError(501, "notImplemented", f"the emulator does not have {method}")


def found(world: World, scope: str, collection: str, name: str) -> Item:
    item = world.items.get(f"{scope}/{collection}/{name}")
    if item is None:
        raise missing(world, f"{scope}/{collection}/{name}")
    return item


def view(world: World, item: Item) -> Body:
    """What get and list show: stored fields, and those that follow from others."""
    body = dict(item.body)
    if item.collection == "instances":
        return instances.view(world, item, body)
    if item.collection == "disks":
        users = [
            world.link(i.path) for i in world.items.values() if i.collection == "instances" and instances.has(world, i, item)
        ]
        body["status"] = "DELETING" if item.deleting else "READY" if world.now() >= item.ready_at else "CREATING"
        if users:
            body["users"] = users
    if item.collection == "addresses":
        users = [world.link(path) for path in world.users(item.path)]
        users += [world.link(i.path) for i in world.items.values() if i.body.get("IPAddress") == body["address"]]
        body["status"] = "IN_USE" if users else "RESERVED" if world.now() >= item.ready_at else "RESERVING"
        if users:
            body["users"] = users
    return body


def _insert(world: World, scope: str, collection: str, query: Mapping[str, str], body: Body, late: Late) -> Body:
    name = str(body.get("name", ""))
    if not _NAME.fullmatch(name):
        raise ApiError(400, "invalid", f"Invalid value for field 'resource.name': '{name}'")
    _check_labels(body.get("labels", {}))
    path = f"{scope}/{collection}/{name}"
    if path in world.items:
        raise ApiError(409, "alreadyExists", f"The resource 'projects/{world.project}/{path}' already exists")
    must_be_ready(world, body)
    body = {"kind": f"compute#{collection.rstrip('s')}", **body}
    if collection == "disks" and int(body.get("sizeGb", "500")) < 10:
        raise ApiError(400, "invalid", "Disk size cannot be smaller than 10 GB")
    if collection == "subnetworks":
        body.setdefault("gatewayAddress", "10.0.0.1")
    balancing.complete(world, collection, body)
    item = world.add(scope, collection, body)
    _fingerprint(world, item)

    def finish() -> tuple[str, str] | None:
        if late is not None:
            world.remove(item.path)
        return late

    return world.operation("insert", scope, path, finish, request_id=query.get("requestId", ""))


def _delete(world: World, item: Item, request_id: str, late: Late) -> Body:
    if item.collection == "instances":
        return instances.delete(world, item, request_id, late)
    if users := world.users(item.path) + balancing.users(world, item):
        raise in_use(world, item, users[0])
    if item.collection == "disks" and (users := view(world, item).get("users")):
        raise in_use(world, item, world.local(users[0]))
    if world.now() < item.ready_at:
        raise ApiError(400, "resourceNotReady", f"The resource '{item.path}' is not ready")
    item.deleting = True
    gone = item

    def finish() -> tuple[str, str] | None:
        if late is None and world.items.get(gone.path) is gone:
            world.remove(gone.path)
        gone.deleting = False
        return late

    return world.operation("delete", item.scope, item.path, finish, request_id=request_id)


def _patch(world: World, item: Item, body: Body, request_id: str, late: Late) -> Body:
    if "fingerprint" in body and body["fingerprint"] != item.body.get("fingerprint"):
        raise ApiError(412, "conditionNotMet", "Invalid fingerprint.")
    if item.collection == "backendServices" and "fingerprint" not in body:
        raise ApiError(400, "required", "Required field 'resource.fingerprint' not specified")
    must_be_ready(world, body)
    changed = world.linked(body)

    def finish() -> tuple[str, str] | None:
        if late is None:
            item.body.update({k: v for k, v in changed.items() if k != "fingerprint"})
            _fingerprint(world, item)
        return late

    return world.operation("patch", item.scope, item.path, finish, request_id=request_id)


def _update(world: World, item: Item, body: Body, request_id: str, late: Late) -> Body:
    """What the body does not have is gone; what Google wrote stays."""
    must_be_ready(world, body)
    kept = ("kind", "id", "creationTimestamp", "selfLink", "name", "region", "zone")
    changed = {**{key: item.body[key] for key in kept if key in item.body}, **world.linked(body)}

    def finish() -> tuple[str, str] | None:
        if late is None:
            item.body.clear()
            item.body.update(changed)
            _fingerprint(world, item)
        return late

    return world.operation("update", item.scope, item.path, finish, request_id=request_id)


def _set_labels(world: World, item: Item, body: Body, request_id: str, late: Late) -> Body:
    if body.get("labelFingerprint") != item.body.get("labelFingerprint"):
        raise ApiError(412, "conditionNotMet", "Labels fingerprint either invalid or resource labels have changed")
    _check_labels(body.get("labels", {}))

    def finish() -> tuple[str, str] | None:
        if late is None:
            item.body["labels"] = body["labels"]
            _fingerprint(world, item)
        return late

    return world.operation("setLabels", item.scope, item.path, finish, request_id=request_id)


def _list(world: World, scope: str, resource: str, collection: str, query: Mapping[str, str]) -> Body:
    items = [i for i in _listed(world, collection, query) if i.scope == scope]
    start, size = _page(world, query)
    answer: Body = {
        "kind": f"compute#{collection.rstrip('s')}List",
        "id": f"projects/{world.project}/{scope}/{collection}",
        "selfLink": world.link(f"{scope}/{collection}"),
    }
    if items:
        answer["items"] = [view(world, item) for item in items[start : start + size]]
    if len(items) > start + size:
        answer["nextPageToken"] = str(start + size)
    return answer


def _aggregated(world: World, resource: str, collection: str, query: Mapping[str, str]) -> Body:
    """Every scope is named, also those without anything; zones that do not answer are named apart."""
    items = [i for i in _listed(world, collection, query) if i.scope.rpartition("/")[2] not in world.cut]
    start, size = _page(world, query)
    page = items[start : start + size]
    scopes: dict[str, Body] = {}
    for region in catalog.REGIONS:
        for zone in catalog.zones(region):
            if zone not in world.cut:
                nothing = {
                    "code": "NO_RESULTS_ON_PAGE",
                    "message": f"There are no results for scope 'zones/{zone}' on this page.",
                }
                scopes[f"zones/{zone}"] = {"warning": nothing}
    for item in page:
        part = scopes.setdefault(item.scope, {})
        part.pop("warning", None)
        part.setdefault(collection, []).append(view(world, item))
    answer: Body = {
        "kind": f"compute#{collection.rstrip('s')}AggregatedList",
        "id": f"projects/{world.project}/aggregated/{collection}",
        "items": scopes,
        "selfLink": world.link(f"aggregated/{collection}"),
    }
    if world.cut:
        answer["unreachables"] = [f"projects/{world.project}/zones/{zone}" for zone in sorted(world.cut)]
    if len(items) > start + size:
        answer["nextPageToken"] = str(start + size)
    return answer


def _listed(world: World, collection: str, query: Mapping[str, str]) -> list[Item]:
    test = _filter(query)
    known = sorted(world.items.values(), key=lambda i: i.path)
    return [i for i in known if i.collection == collection and i.listed_at <= world.now() and test(view(world, i))]


def _filter(query: Mapping[str, str]) -> filters.Test:
    if not query.get("filter"):
        return lambda body: True
    try:
        return filters.parse(query["filter"])
    except filters.BadFilter as error:
        raise ApiError(400, "invalid", f"Invalid value for field 'filter': {error}") from error


def _page(world: World, query: Mapping[str, str]) -> tuple[int, int]:
    size = min(int(query.get("maxResults", "500")), 500, world.page or 500)
    return int(query.get("pageToken") or 0), size


def _operations(world: World, at: Mapping[str, str], query: Mapping[str, str], body: Body, late: Late) -> Body:
    test, scope = _filter(query), _where(at)
    all_of_it = [o.body for o in reversed(world.operations.values()) if o.scope == scope and test(o.body)]
    start, size = _page(world, query)
    answer: Body = {"kind": "compute#operationList", "id": scope, "selfLink": world.link(f"{scope}/operations")}
    answer["items"] = all_of_it[start : start + size]
    if len(all_of_it) > start + size:
        answer["nextPageToken"] = str(start + size)
    return answer


def _operation(world: World, at: Mapping[str, str], query: Mapping[str, str], body: Body, late: Late) -> Body:
    operation = world.operations.get(at["operation"])
    if operation is None:
        raise missing(world, f"{_where(at)}/operations/{at['operation']}")
    return operation.body


def _region(world: World, at: Mapping[str, str], query: Mapping[str, str], body: Body, late: Late) -> Body:
    name = at["region"]
    if name not in catalog.REGIONS:
        raise missing(world, f"regions/{name}")
    quotas = [] if world.quota is None else [{"metric": "INSTANCES", "limit": world.quota, "usage": instances.count(world)}]
    return {
        "kind": "compute#region",
        "id": "1000",
        "name": name,
        "status": "UP",
        "zones": [world.link(f"zones/{zone}") for zone in catalog.zones(name)],
        "quotas": quotas,
        "selfLink": world.link(f"regions/{name}"),
    }


def _machine_types(world: World, at: Mapping[str, str], query: Mapping[str, str], body: Body, late: Late) -> Body:
    test = _filter(query)
    all_of_it = [catalog.machine_type(name, at["zone"], world.most_disks) for name in catalog.MACHINE_TYPES]
    return {
        "kind": "compute#machineTypeList",
        "id": f"projects/{world.project}/zones/{at['zone']}/machineTypes",
        "items": [one for one in all_of_it if test(one)],
    }


def _image(world: World, at: Mapping[str, str], query: Mapping[str, str], body: Body, late: Late) -> Body:
    name = catalog.IMAGES.get(f"{at['project']}/{at['family']}")
    if name is None:
        raise missing(world, f"global/images/family/{at['family']}")
    return {
        "kind": "compute#image",
        "id": "2000",
        "name": name,
        "family": at["family"],
        "status": "READY",
        "diskSizeGb": "10",
        "architecture": "ARM64" if "arm64" in name else "X86_64",
        "selfLink": f"https://www.googleapis.com/compute/v1/projects/{at['project']}/global/images/{name}",
    }


def _resize(world: World, at: Mapping[str, str], query: Mapping[str, str], body: Body, late: Late) -> Body:
    item = found(world, _where(at), "disks", at["disk"])
    if int(body["sizeGb"]) <= int(item.body["sizeGb"]):
        raise ApiError(400, "invalid", "New disk size must be larger than the existing size")

    def finish() -> tuple[str, str] | None:
        if late is None:
            item.body["sizeGb"] = body["sizeGb"]
        return late

    return world.operation("resizeDisk", item.scope, item.path, finish, request_id=query.get("requestId", ""))


def _check_labels(labels: Mapping[str, str]) -> None:
    for key, value in labels.items():
        if not _LABEL_KEY.fullmatch(key) or not _LABEL.fullmatch(value):
            raise ApiError(400, "invalid", f"Invalid value for field 'labels': '{key}={value}'")


def _fingerprint(world: World, item: Item) -> None:
    """A new one with each change, where the resource has such a field."""
    if item.collection in ("backendServices", "subnetworks"):
        item.body["fingerprint"] = f"f{world.number()}"
    if item.collection in ("disks", "addresses", "forwardingRules", "instances"):
        item.body["labelFingerprint"] = f"l{world.number()}"


def _where(at: Mapping[str, str]) -> str:
    if "zone" in at:
        return f"zones/{at['zone']}"
    return f"regions/{at['region']}" if "region" in at else "global"


def _collection(resource: str) -> str:
    """regionBackendServices are the backendServices of a region."""
    for prefix in ("region", "global"):
        if resource.startswith(prefix) and resource != prefix and resource != "regions":
            rest = resource.removeprefix(prefix)
            return rest[0].lower() + rest[1:]
    return resource


def _name(at: Mapping[str, str]) -> str:
    return next(value for key, value in at.items() if key not in ("project", "zone", "region"))


SPECIAL: Mapping[str, Callable[[World, Mapping[str, str], Mapping[str, str], Body, Late], Body]] = {
    "zoneOperations.list": _operations,
    "regionOperations.list": _operations,
    "globalOperations.list": _operations,
    "zoneOperations.get": _operation,
    "regionOperations.get": _operation,
    "globalOperations.get": _operation,
    "regions.get": _region,
    "machineTypes.list": _machine_types,
    "images.getFromFamily": _image,
    "disks.resize": _resize,
    "instances.bulkInsert": instances.bulk_insert,
    "instances.attachDisk": instances.attach_disk,
    "instances.detachDisk": instances.detach_disk,
    "instances.getSerialPortOutput": instances.serial_port,
    "instances.reset": instances.reset,
    "networkEndpointGroups.attachNetworkEndpoints": balancing.attach,
    "networkEndpointGroups.detachNetworkEndpoints": balancing.detach,
    "networkEndpointGroups.listNetworkEndpoints": balancing.endpoints,
    "regionBackendServices.getHealth": balancing.health,
}

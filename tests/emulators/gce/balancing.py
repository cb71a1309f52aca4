"""Passthrough load balancing of a region: endpoint groups, backend services, forwarding rules, health of members."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from .refusals import missing
from .world import ApiError, Body, Item, World

Late = tuple[str, str] | None


def complete(world: World, collection: str, body: Body) -> None:
    """What a new one gets without asking, and what is refused."""
    if collection == "addresses":
        _number(world, body)
    if collection == "forwardingRules":
        scheme = body.get("loadBalancingScheme", "EXTERNAL")
        if scheme not in ("EXTERNAL", "INTERNAL"):
            raise ApiError(400, "invalid", f"Invalid value for field 'resource.loadBalancingScheme': '{scheme}'")
        if len(body.get("ports", ())) > 5:
            raise ApiError(400, "invalid", "Exceeded the limit of 5 ports")
        address = world.items.get(world.local(body.get("IPAddress", "")))
        body["IPAddress"] = address.body["address"] if address else body.get("IPAddress", "203.0.113.254")
        _of_the_scheme(world, body, scheme)
    if collection == "networkEndpointGroups":
        if body.get("networkEndpointType") == "GCE_VM_IP" and "defaultPort" in body:
            raise ApiError(400, "invalid", "defaultPort is not allowed with GCE_VM_IP")
        body["size"] = 0


def _number(world: World, body: Body) -> None:
    """The address: of the subnetwork for an internal one, which has to be free in it, and of the world for another."""
    if body.get("addressType", "EXTERNAL") == "EXTERNAL":
        body.setdefault("address", f"203.0.113.{len(world.items) % 250 + 1}")
        return
    subnetwork = world.items.get(world.local(world.linked(body.get("subnetwork", ""))))
    if subnetwork is None:
        raise ApiError(400, "invalid", "Invalid value for field 'resource.subnetwork': the default network has none here")
    inside = ip_network(subnetwork.body["ipCidrRange"])
    body.setdefault("address", str(inside[len(world.items) % 200 + 10]))
    if ip_address(body["address"]) not in inside:
        raise ApiError(400, "invalid", "Invalid value for field 'resource.address': it is not in the subnetwork's range")


def _of_the_scheme(world: World, rule: Body, scheme: str) -> None:
    """Rule, address and backend service are all internal or all external."""
    of_address = {
        item.body.get("addressType", "EXTERNAL")
        for item in world.items.values()
        if item.collection == "addresses" and item.body["address"] == rule["IPAddress"]
    }
    service = world.items.get(world.local(world.linked(rule.get("backendService", ""))))
    of_service = {service.body.get("loadBalancingScheme", "EXTERNAL")} if service else set()
    if of_address - {scheme} or of_service - {scheme}:
        raise ApiError(400, "invalid", f"Invalid value for field 'resource.loadBalancingScheme': '{scheme}'")
    if scheme == "INTERNAL" and not rule.get("subnetwork"):
        raise ApiError(400, "invalid", "Invalid value for field 'resource.subnetwork': an internal rule needs one")


def users(world: World, item: Item) -> list[str]:
    """Who has the address; it is named by its number there."""
    if item.collection != "addresses":
        return []
    return [i.path for i in world.items.values() if i.body.get("IPAddress") == item.body["address"]]


def attach(world: World, at: Mapping[str, str], query: Mapping[str, str], body: Body, late: Late) -> Body:
    group = _group(world, at)
    names = [endpoint["instance"].rpartition("/")[2] for endpoint in body.get("networkEndpoints", ())]
    for name in names:
        if f"{group.scope}/instances/{name}" not in world.items:
            raise missing(world, f"{group.scope}/instances/{name}")

    def finish() -> Late:
        if late is None:
            known = group.extra.setdefault("endpoints", {})
            known.update({name: world.now() for name in names if f"{group.scope}/instances/{name}" in world.items})
        return late

    return world.operation("attachNetworkEndpoints", group.scope, group.path, finish, request_id=query.get("requestId", ""))


def detach(world: World, at: Mapping[str, str], query: Mapping[str, str], body: Body, late: Late) -> Body:
    group = _group(world, at)
    names = [endpoint["instance"].rpartition("/")[2] for endpoint in body.get("networkEndpoints", ())]
    known = group.extra.setdefault("endpoints", {})
    for name in names:
        if name not in known:
            raise ApiError(400, "invalid", f"The network endpoint '{name}' is not in the group")

    def finish() -> Late:
        for name in names if late is None else ():
            known.pop(name, None)
        return late

    return world.operation("detachNetworkEndpoints", group.scope, group.path, finish, request_id=query.get("requestId", ""))


def endpoints(world: World, at: Mapping[str, str], query: Mapping[str, str], body: Body, late: Late) -> Body:
    group = _group(world, at)
    shown = [{"networkEndpoint": _endpoint(world, group, name)} for name in sorted(group.extra.get("endpoints", {}))]
    return {"kind": "compute#networkEndpointGroupsListNetworkEndpoints", "items": shown}


def health(world: World, at: Mapping[str, str], query: Mapping[str, str], body: Body, late: Late) -> Body:
    path = f"regions/{at['region']}/backendServices/{at['backendService']}"
    service = world.items.get(path)
    if service is None:
        raise missing(world, path)
    local = world.local(body["group"])
    group = world.items.get(local)
    if group is None or local not in set(world.mentions(service.body)):
        raise ApiError(400, "invalid", f"'{local}' is no backend of '{path}'")
    shown = []
    for name in sorted(group.extra.get("endpoints", {})):
        endpoint = _endpoint(world, group, name)
        state = "UNHEALTHY" if name in world.unhealthy else "HEALTHY"
        shown.append(
            {
                "instance": world.link(f"{group.scope}/instances/{name}"),
                "ipAddress": endpoint["ipAddress"],
                "healthState": state,
            }
        )
    return {"kind": "compute#backendServiceGroupHealth", "healthStatus": shown}


def traffic(world: World, service: str) -> set[str]:
    """Names of the machines that get new connections through a backend service (its path): in the group, in the service, healthy,
    and with a forwarding rule in front."""
    item = world.items.get(service)
    if item is None or not world.users(service):
        return set()
    groups = [world.items[path] for path in world.mentions(item.body) if "/networkEndpointGroups/" in path]
    return {name for group in groups for name in group.extra.get("endpoints", {}) if name not in world.unhealthy}


def _endpoint(world: World, group: Item, name: str) -> Body:
    instance = world.items.get(f"{group.scope}/instances/{name}")
    address = instance.body["networkInterfaces"][0]["networkIP"] if instance else "10.0.0.0"
    return {"instance": name, "ipAddress": address}


def _group(world: World, at: Mapping[str, str]) -> Item:
    path = f"zones/{at['zone']}/networkEndpointGroups/{at['networkEndpointGroup']}"
    if path not in world.items:
        raise missing(world, path)
    return world.items[path]

"""The LoadBalancerSupplier: regional passthrough balancing of TCP, with a static address.

An address, a health check, a group of endpoints in each zone, a backend service that joins them, a forwarding rule in front, and
firewall rules for who may come. Endpoint groups and not instance groups: a machine can be in one balanced instance group only.
Packets arrive as they were sent, so a listener's port is its members' port, and a member that calls the balancer reaches itself.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kubeup_core import (
    Blocked,
    InvalidSpec,
    LBMember,
    LoadBalancerSpec,
    LoadBalancerState,
    NotFound,
    Phase,
    Ref,
    Scope,
    Snapshot,
)

from . import marks
from .client import Compute, Record
from .parts import Part, Parts

CHECKERS = ("35.191.0.0/16", "130.211.0.0/22", "209.85.152.0/22", "209.85.204.0/22")
"""Where Google's health checks come from (documentation of passthrough load balancers)."""

ANYONE = "0.0.0.0/0"
ROOM = 5
HEALTH = {"HEALTHY": "healthy", "UNHEALTHY": "unhealthy"}


class GceLoadBalancers:
    def __init__(self, compute: Compute, zones: Sequence[str]) -> None:
        self._compute, self._zones = compute, tuple(zones)
        self._parts = Parts(compute)
        self._leaving: dict[tuple[str, str], float] = {}  # balancer and machine -> when it was last in its group
        self._keys: dict[tuple[str, str], str] = {}
        self._wishes: dict[str, LoadBalancerSpec] = {}
        self._unfinished: set[str] = set()  # whose last wish waits for an operation: PENDING, so that it is said again
        self._lock = threading.Lock()

    def ensure(self, want: LoadBalancerSpec) -> LoadBalancerState:
        """What can be made at once is made at once; what needs another part waits for the next call."""
        _possible(want)
        id = marks.name(want.name, want.mark, ROOM)
        with self._lock:
            self._wishes[id] = want
            self._unfinished.add(id)
            self._keys |= {(id, _machine(member)): member.key for member in want.members if member.ref}
        state = self._nearer(want, id)
        if state.phase == Phase.RUNNING:
            with self._lock:
                self._unfinished.discard(id)
        return state

    def _nearer(self, want: LoadBalancerSpec, id: str) -> LoadBalancerState:
        mark = want.mark
        address = self._parts.ensured(self._address(id), mark, self._address_body(want))
        check = self._parts.ensured(self._check(id), mark, _check_body(want))
        known = self._compute.get("RegionBackendServices", region=self._compute.region, backend_service=id)
        backends = _backends(known or {})
        zones = sorted(backends | {_zone(member) for member in want.members if member.ref})
        groups = {zone: self._group_of(id, zone, want) for zone in zones}
        given = (str(address["address"]),) if address and address.get("address") else ()
        pending = LoadBalancerState(
            ref=Ref(id=id, mark=mark),
            phase=Phase.PENDING,
            addresses=given,
            members=self._members(id, backends) if backends else {},
            self_reach=False,
        )
        if not given or check is None or None in groups.values():
            return pending
        if _differs(check, _check_body(want)):
            self._parts.replaced(self._check(id), mark, _check_body(want))
        service = self._backend_service(want, id, zones, known)
        if service is None:
            return pending
        front = self._front(id)
        allowed = self._firewall(want, id, given[0])
        there = (
            self._parts.ensured(front, mark, self._front_body(want, id, given[0]))
            if allowed
            else self._compute.get(front.service, forwarding_rule=id, **front.where)
        )
        asked, backends = [self._brought(want, id, zone) for zone in zones], _backends(service)
        done = all(asked) and backends >= set(zones) and there is not None
        return replace(pending, phase=Phase.RUNNING if done else Phase.PENDING, members=self._members(id, backends))

    def observe(self, scope: Scope) -> Snapshot[LoadBalancerState]:
        """Every type of part says whose it is; one with a forwarding rule runs, and each group of its service knows its members."""
        states: dict[str, LoadBalancerState] = {}
        addresses: dict[str, str] = {}
        zones: dict[str, set[str]] = {}
        records, silent = self._everything()
        for service, record in records:
            found = marks.mark_in(str(record.get("description", "")))
            if found is None or found[0].kind != "LoadBalancer" or not scope.covers(found[0]):
                continue
            id = found[1].get("id") or str(record["name"])
            if service == "Addresses" and record.get("address"):
                addresses[id] = str(record["address"])
            if service == "RegionBackendServices":
                zones[id] = _backends(record)
            whole = service == "ForwardingRules" and self._complete(id)
            phase = Phase.RUNNING if whole else Phase.PENDING
            if id not in states or phase == Phase.RUNNING:
                states[id] = LoadBalancerState(ref=Ref(id=id, mark=found[0]), phase=phase, self_reach=False)
        items = (
            replace(
                state,
                addresses=(addresses[id],) if id in addresses else (),
                members=self._members(id, zones[id]) if zones.get(id) else {},
            )
            for id, state in states.items()
        )
        return Snapshot(items=tuple(items), unreachable=frozenset(silent & set(self._zones)))

    def _complete(self, id: str) -> bool:
        """Whether nothing that this process knows of is still on its way."""
        with self._lock:
            return id not in self._unfinished and not self._parts.begun_here(self._front(id))

    def delete(self, ref: Ref) -> None:
        """From the front to the back: each part is named by the one before it."""
        id = ref.id
        with self._lock:
            self._wishes.pop(id, None)
            self._unfinished.discard(id)
        groups, _ = self._compute.everywhere("NetworkEndpointGroups", "network_endpoint_groups", filter=f'name = "{id}"')
        rest = [self._group(id, str(record["zone"]).rpartition("/")[2]) for record in groups]
        rest += [self._check(id), self._address(id), self._rule(id), self._rule(f"{id}-deny")]
        stages: list[list[Part]] = [[self._front(id)], [self._service(id)], rest]
        for stage in stages:
            there = self._parts.found(stage, ref.mark)
            if there:
                self._parts.removed(there)
                names = ", ".join(f"{part.service}/{part.name}" for part in there)
                raise Blocked(f"{names} of load balancer {id} are being deleted", by=(id,), code="deleting")

    # -- members --

    def _brought(self, want: LoadBalancerSpec, id: str, zone: str) -> bool:
        """Whether the group of the zone is as wished, or was asked to become so: not while an operation on it runs."""
        ours = {_machine(member): member for member in want.members if member.ref and _zone(member) == zone}
        there = self._endpoints(id, zone)
        wanted = {name for name, member in ours.items() if not member.drain}
        attached = self._endpoints_changed("attach", id, zone, sorted(wanted - there))
        return self._endpoints_changed("detach", id, zone, sorted(there - wanted)) and attached

    def _members(self, id: str, zones: Iterable[str]) -> dict[str, str]:
        """How they are, by the name in kubeup. One that is being taken out gets connections until it is out, and keeps those that it
        has for as long as the service drains; a restart of kubeup forgets since when."""
        health = {name: state for zone in zones for name, state in self._health(id, zone).items()}
        with self._lock:
            want, now = self._wishes.get(id), time.monotonic()
            ours = {_machine(member): member for member in (want.members if want else ()) if member.ref}
            drain = max((listener.drain for listener in want.listeners), default=0.0) if want else 0.0
            self._leaving |= {(id, name): now for name in health if name not in ours or ours[name].drain}
            found: dict[str, str] = {}
            for name, member in ours.items():
                out = "draining" if now - self._leaving.get((id, name), -drain) < drain else "unused"
                found[member.key] = health.get(name) or (out if member.drain else "initial")
            # Of those that no wish of this process named: what stands in front of the mark's part of the instance's name.
            keys = {name: self._keys.get((id, name)) or name.rpartition("-")[0] for name in health if name not in ours}
        return {key: health[name] for name, key in keys.items()} | found

    def _endpoints_changed(self, verb: str, id: str, zone: str, names: Sequence[str]) -> bool:
        """False when it has to be asked for again."""
        part = self._group(id, zone)
        if not names:
            return True
        if self._parts.changing(part):
            return False
        content = {"network_endpoints": [{"instance": name} for name in names]}
        try:
            operation = self._compute.change(
                part.service,
                f"{verb}_network_endpoints",
                zone=zone,
                network_endpoint_group=part.name,
                **{f"network_endpoint_groups_{verb}_endpoints_request_resource": content},
            )
        except NotFound:  # a member died in the meantime; the next wish is without it
            return True
        except InvalidSpec:
            if verb == "attach":
                raise
            return True  # it was taken out in the meantime
        self._parts.begun(part, operation)
        return True

    def _endpoints(self, id: str, zone: str) -> set[str]:
        part = self._group(id, zone)
        content: Record = {"health_status": "SKIP"}
        listed = self._compute.all(
            part.service,
            "list_network_endpoints",
            zone=zone,
            network_endpoint_group=part.name,
            network_endpoint_groups_list_endpoints_request_resource=content,
        )
        return {str(item["network_endpoint"]["instance"]).rpartition("/")[2] for item in listed}

    def _health(self, id: str, zone: str) -> dict[str, str]:
        asked = {"group": self._group_link(id, zone)}
        try:
            found = self._compute.ask(
                "RegionBackendServices",
                "get_health",
                region=self._compute.region,
                backend_service=id,
                resource_group_reference_resource=asked,
            )
        except (NotFound, InvalidSpec):  # it went in the meantime: nobody in it gets anything
            return {}
        seen = found.get("health_status", ())
        return {str(s["instance"]).rpartition("/")[2]: HEALTH.get(str(s.get("health_state")), "initial") for s in seen}

    # -- parts --

    def _group_of(self, id: str, zone: str, want: LoadBalancerSpec) -> Record | None:
        network = want.network
        content: Record = {"network_endpoint_type": "GCE_VM_IP"}
        content |= {key: network[key] for key in ("network", "subnetwork") if network.get(key)}
        content.setdefault("network", f"projects/{self._compute.project}/global/networks/default")
        return self._parts.ensured(self._group(id, zone), want.mark, content)

    def _backend_service(self, want: LoadBalancerSpec, id: str, zones: Sequence[str], known: Record | None) -> Record | None:
        part, body = self._service(id), self._service_body(want, id, zones)
        found = known if self._parts.ours(part, known, want.mark) else self._parts.ensured(part, want.mark, body)
        if found is None:
            return None
        drain, groups = body["connection_draining"], {str(b["group"]) for b in body["backends"]}
        drained = int(found.get("connection_draining", {}).get("draining_timeout_sec", 0)) == drain["draining_timeout_sec"]
        there = {str(b["group"]) for b in found.get("backends", ())}
        if not drained or not all(any(link.endswith(group) for link in there) for group in groups):
            changed = {"backends": body["backends"], "connection_draining": drain, "fingerprint": found.get("fingerprint", "")}
            self._parts.changed(part, changed)
        return found

    def _service_body(self, want: LoadBalancerSpec, id: str, zones: Sequence[str]) -> Record:
        drain = int(max((listener.drain for listener in want.listeners), default=0.0))
        body: Record = {
            "load_balancing_scheme": _scheme(want),
            "protocol": "TCP",
            "health_checks": [f"{self._region}/healthChecks/{id}"],
            "backends": [{"group": self._group_link(id, zone), "balancing_mode": "CONNECTION"} for zone in zones],
            "connection_draining": {"draining_timeout_sec": min(drain, 3600)},
        }
        if want.internal and want.network.get("network"):
            body["network"] = want.network["network"]
        return body

    def _front_body(self, want: LoadBalancerSpec, id: str, address: str) -> Record:
        """All ports: those of a rule cannot be changed later. The firewall rules have the listeners."""
        body: Record = {
            "load_balancing_scheme": _scheme(want),
            "I_p_protocol": "TCP",
            "all_ports": True,
            "I_p_address": address,
            "backend_service": f"{self._region}/backendServices/{id}",
        }
        if want.internal:
            body |= {key: want.network[key] for key in ("network", "subnetwork") if want.network.get(key)}
        return body

    def _address_body(self, want: LoadBalancerSpec) -> Record:
        body: Record = {"address_type": _scheme(want)}
        if want.address:
            body["address"] = want.address
        if want.internal and want.network.get("subnetwork"):
            body |= {"subnetwork": want.network["subnetwork"], "purpose": "GCE_ENDPOINT"}
        return body

    def _firewall(self, want: LoadBalancerSpec, id: str, address: str) -> bool:
        """Who may come to this address. Packets carry it to the machine, so a rule can tell balancers apart by it."""
        network = want.network.get("network") or f"projects/{self._compute.project}/global/networks/default"
        common: Record = {"network": network, "direction": "INGRESS", "destination_ranges": [f"{address}/32"]}
        if want.network.get("tag"):
            common["target_tags"] = [want.network["tag"]]
        ports = sorted({str(listener.port) for listener in want.listeners} | {_check_port(want)})
        allow = {
            **common,
            "priority": 900,
            "allowed": [{"I_p_protocol": "tcp", "ports": ports}],
            "source_ranges": sorted({*want.allow_from, *CHECKERS}),
        }
        closed = ANYONE not in want.allow_from
        deny = {**common, "priority": 950, "denied": [{"I_p_protocol": "all"}], "source_ranges": [ANYONE]}
        found = self._parts.ensured(self._rule(id), want.mark, allow, id=id)
        if found is None:
            return False
        changes = any(_sorted(found.get(key, [])) != _sorted(allow.get(key, [])) for key in ("allowed", "source_ranges"))
        if changes and not closed:
            self._parts.removed(self._parts.found([self._rule(f"{id}-deny")], want.mark))
        if changes:
            self._parts.changed(self._rule(id), allow)
        return not closed or self._parts.ensured(self._rule(f"{id}-deny"), want.mark, deny, id=id) is not None

    def _everything(self) -> tuple[list[tuple[str, Record]], set[str]]:
        found: list[tuple[str, Record]] = []
        for service in ("ForwardingRules", "RegionBackendServices", "RegionHealthChecks", "Addresses"):
            found += [(service, record) for record in self._compute.all(service, region=self._compute.region)]
        found += [("Firewalls", record) for record in self._compute.all("Firewalls")]
        groups, silent = self._compute.everywhere("NetworkEndpointGroups", "network_endpoint_groups")
        return found + [("NetworkEndpointGroups", record) for record in groups], silent

    @property
    def _region(self) -> str:
        return f"projects/{self._compute.project}/regions/{self._compute.region}"

    def _group_link(self, id: str, zone: str) -> str:
        return f"projects/{self._compute.project}/zones/{zone}/networkEndpointGroups/{id}"

    def _address(self, id: str) -> Part:
        return Part("Addresses", "address", "address_resource", id, region=self._compute.region)

    def _check(self, id: str) -> Part:
        return Part("RegionHealthChecks", "health_check", "health_check_resource", id, region=self._compute.region)

    def _service(self, id: str) -> Part:
        return Part("RegionBackendServices", "backend_service", "backend_service_resource", id, region=self._compute.region)

    def _front(self, id: str) -> Part:
        return Part("ForwardingRules", "forwarding_rule", "forwarding_rule_resource", id, region=self._compute.region)

    def _group(self, id: str, zone: str) -> Part:
        return Part("NetworkEndpointGroups", "network_endpoint_group", "network_endpoint_group_resource", id, zone=zone)

    def _rule(self, id: str) -> Part:
        return Part("Firewalls", "firewall", "firewall_resource", id)


def _possible(want: LoadBalancerSpec) -> None:
    for index, listener in enumerate(want.listeners):
        if listener.protocol != "TCP":
            raise InvalidSpec("the provider gce balances TCP only", path=f"spec.listeners[{index}].protocol")
        if listener.port != listener.target:
            raise InvalidSpec(
                f"port {listener.port} cannot become {listener.target}: Google passes packets on as they are",
                path=f"spec.listeners[{index}].targetPort",
                remedy="leave targetPort out, or take the load balancers of another provider (loadBalancers.provider: haproxy)",
            )


def _scheme(want: LoadBalancerSpec) -> str:
    return "INTERNAL" if want.internal else "EXTERNAL"


def _check_port(want: LoadBalancerSpec) -> str:
    first = want.listeners[0]
    return first.health.get("port") or str(first.target)


def _check_body(want: LoadBalancerSpec) -> Record:
    """The first listener's: a backend service has one health check."""
    health: Mapping[str, str] = want.listeners[0].health
    kind = health.get("protocol", "TCP").upper()
    interval, timeout = _seconds(health.get("interval"), 10), _seconds(health.get("timeout"), 5)
    probe: Record = {"port": int(_check_port(want))}
    if kind != "TCP":
        probe["request_path"] = health.get("path") or "/"
    return {
        "type_": kind,
        "check_interval_sec": interval,
        "timeout_sec": min(timeout, interval),
        "healthy_threshold": int(health.get("healthy") or 2),
        "unhealthy_threshold": int(health.get("unhealthy") or 3),
        f"{kind.lower()}_health_check": probe,
    }


def _seconds(value: str | None, otherwise: int) -> int:
    return max(1, round(float(value))) if value else otherwise


def _differs(found: Record, content: Record) -> bool:
    """Answers have more fields than were asked for; a check of another type has none of this one's."""
    return any(
        _differs(found.get(key, {}), value) if isinstance(value, dict) else found.get(key) != value
        for key, value in content.items()
    )


def _zone(member: LBMember) -> str:
    return member.ref.id.partition("/")[0] if member.ref else ""


def _machine(member: LBMember) -> str:
    return member.ref.id.partition("/")[2] if member.ref else ""


def _backends(service: Record) -> set[str]:
    """Zones of its groups."""
    return {_zone_of(str(backend["group"])) for backend in service.get("backends", ())}


def _zone_of(group: str) -> str:
    return group.split("/")[-3]


def _sorted(value: list[object]) -> list[str]:
    return sorted(repr(sorted(item.items()) if isinstance(item, dict) else item) for item in value)

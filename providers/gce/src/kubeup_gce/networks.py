"""The NetworkSupplier: a network with one subnetwork in the region, or one that is there already, and firewall rules by role.

Machines carry a network tag for their cluster and one for their role (`launching.py`), and rules name those tags, so nothing
changes in a rule when a machine comes or goes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from kubeup_core import (
    Blocked,
    InvalidSpec,
    Mark,
    NetworkSpec,
    NetworkState,
    Phase,
    Ref,
    Rule,
    Scope,
    Snapshot,
)

from . import config, marks
from .client import Compute, Record
from .launching import ROLES, role_tag
from .parts import Part, Parts

CIDR = "10.10.0.0/16"
"""Of a subnetwork when nobody says; apart from the defaults for pods and services."""

DESCRIPTION = 2048
"""Characters, of what carries the mark where there are no labels."""

ANYWHERE = ("0.0.0.0/0",)

ROOM = 14
"""Characters of a name that are kept free for what is put behind it."""


class GceNetworks:
    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._parts = Parts(compute)

    def ensure(self, want: NetworkSpec) -> NetworkState:
        chosen = config.required(want.overrides)
        id = marks.name(want.name, want.mark, ROOM)
        named = self._named(chosen) if chosen.network else self._own(want, id)
        if named is None:
            return self._state(id, want.mark, Phase.PENDING, {})
        network, subnetwork = named
        more = {"network": network, "subnetwork": subnetwork, "ssh-keys": "\n".join(want.ssh_keys)}
        ready = self._firewall(want, id, network, more)
        return self._state(id, want.mark, Phase.RUNNING if ready else Phase.PENDING, more)

    def observe(self, scope: Scope) -> Snapshot[NetworkState]:
        """Networks, subnetworks and rules: each says whose it is, and what it belongs to."""
        states: dict[str, NetworkState] = {}
        for record in self._everything():
            found = marks.mark_in(str(record.get("description", "")))
            if found is None or found[0].kind != "Network" or not scope.covers(found[0]):
                continue
            mark, more = found
            if more.get("region", self._compute.region) != self._compute.region:
                continue
            id = more.get("id") or str(record["name"])
            data = {key: value for key, value in more.items() if key in ("network", "subnetwork", "ssh-keys")}
            known = states.get(id)
            complete = str(record["name"]) == _last_name(id)
            if known is None or (complete and known.phase == Phase.PENDING):
                states[id] = self._state(id, mark, Phase.RUNNING if complete else Phase.PENDING, data)
        return Snapshot(items=tuple(states.values()))

    def delete(self, ref: Ref) -> None:
        """First the subnetwork, which Google does not delete while a machine is in it; only then the rules."""
        self._parts.found([self._network(ref.id)], ref.mark)
        stages = [[self._subnetwork(ref.id)], [part for part, _ in self._rules(ref.mark)], [self._network(ref.id)]]
        for stage in stages:
            there = self._parts.found(stage, ref.mark)
            if there:
                self._parts.removed(there)
                names = ", ".join(part.name for part in there)
                raise Blocked(f"{names} of network {ref.id} are being deleted", by=(ref.id,), code="deleting")

    def _own(self, want: NetworkSpec, id: str) -> tuple[str, str] | None:
        place = {"region": self._compute.region}
        network, subnetwork = (
            f"{self._path}/global/networks/{id}",
            f"{self._path}/regions/{self._compute.region}/subnetworks/{id}",
        )
        content: Record = {"auto_create_subnetworks": False, "routing_config": {"routing_mode": "REGIONAL"}}
        if self._parts.ensured(self._network(id), want.mark, content, **place) is None:
            return None
        content = {"network": network, "ip_cidr_range": want.cidr or CIDR}
        if self._parts.ensured(self._subnetwork(id), want.mark, content, **place) is None:
            return None
        return network, subnetwork

    def _named(self, chosen: config.GceOverrides) -> tuple[str, str]:
        network = f"{self._path}/global/networks/{chosen.network}"
        if self._compute.get("Networks", network=chosen.network) is None:
            raise InvalidSpec(
                f"project {self._compute.project} has no network {chosen.network}",
                path=f"{config.PATH}.network",
                remedy="name one that exists, or leave it out to get one made",
            )
        listed = self._compute.all("Subnetworks", region=self._compute.region)
        inside = sorted(str(s["name"]) for s in listed if str(s["network"]).endswith(f"/networks/{chosen.network}"))
        fitting = [name for name in inside if chosen.subnetwork in (None, name)]
        if len(fitting) != 1:
            raise InvalidSpec(
                f"network {chosen.network} has {', '.join(inside) or 'no subnetwork'} in {self._compute.region}",
                path=f"{config.PATH}.subnetwork",
                remedy="name the subnetwork that the machines are to be in",
            )
        return network, f"{self._path}/regions/{self._compute.region}/subnetworks/{fitting[0]}"

    def _firewall(self, want: NetworkSpec, id: str, network: str, more: Mapping[str, str]) -> bool:
        """Brings the rules to the wish; their names say roles. True once they were all there: what changes later does so while
        the network is in use. The last one made is the one that says so, here and to `observe`."""
        wanted = dict(_rules(want.rules, id, network))
        description = marks.text(want.mark, id=id, region=self._compute.region, **more)
        if len(description) > DESCRIPTION:
            raise InvalidSpec(
                f"the ssh keys of network {want.name} do not fit into the {DESCRIPTION} characters of a description",
                path="spec.machine.sshKeys",
                remedy="use fewer keys, or ed25519 instead of RSA",
            )
        there = {part.name: (part, record) for part, record in self._rules(want.mark)}
        ready = [self._ruled(want.mark, name, {**wanted[name], "description": description}, there) for name in wanted]
        last = _last_name(id)
        self._parts.removed([part for name, (part, _) in there.items() if name not in wanted and name != last])
        if last not in there and not all(ready):
            return False
        self._ruled(want.mark, last, {**_last_rule(id, network), "description": description}, there)
        return True

    def _ruled(self, mark: Mark, name: str, content: Record, there: Mapping[str, tuple[Part, Record]]) -> bool:
        part = self._rule(name)
        record = there[name][1] if name in there else self._parts.ensured(part, mark, content)  # a listing may lag
        if record is None or self._parts.changing(part):
            return False
        if _differs(record, content):
            self._parts.changed(part, content)
            return False
        return True

    def _rules(self, mark: Mark) -> list[tuple[Part, Record]]:
        listed = self._compute.all("Firewalls")
        found = [(record, marks.mark_in(str(record.get("description", "")))) for record in listed]
        return [(self._rule(str(record["name"])), record) for record, who in found if who is not None and who[0].same(mark)]

    def _everything(self) -> Iterable[Record]:
        yield from self._compute.all("Firewalls")
        yield from self._compute.all("Subnetworks", region=self._compute.region)
        yield from self._compute.all("Networks")

    def _state(self, id: str, mark: Mark, phase: Phase, more: Mapping[str, str]) -> NetworkState:
        network = more.get("network") or f"{self._path}/global/networks/{id}"
        return NetworkState(
            ref=Ref(id=id, mark=mark),
            phase=phase,
            fabric=f"gce:{network}",
            data={**more, "tag": id} if phase == Phase.RUNNING else {},
        )

    @property
    def _path(self) -> str:
        return f"projects/{self._compute.project}"

    def _network(self, name: str) -> Part:
        return Part("Networks", "network", "network_resource", name)

    def _subnetwork(self, name: str) -> Part:
        return Part("Subnetworks", "subnetwork", "subnetwork_resource", name, region=self._compute.region)

    def _rule(self, name: str) -> Part:
        return Part("Firewalls", "firewall", "firewall_resource", name)


def _rules(rules: Iterable[Rule], id: str, network: str) -> Iterable[tuple[str, Record]]:
    """One firewall for each pair of roles, and for each set of networks that "*" is narrowed to, as (name, content)."""
    pairs: dict[tuple[str, str, tuple[str, ...]], list[Rule]] = {}
    for rule in rules:
        pairs.setdefault((rule.from_role, rule.to_role, _networks(rule)), []).append(rule)
    for (source, target, networks), of_pair in sorted(pairs.items()):
        if source == "*" and not networks:
            continue
        content: Record = {
            "network": network,
            "direction": "INGRESS",
            "priority": 1000,
            "allowed": _allowed(of_pair),
            "target_tags": [id if target == "*" else role_tag(id, target)],
        }
        if source == "*":
            content["source_ranges"] = list(networks)
        else:
            content["source_tags"] = [role_tag(id, source)]
        narrowed = "" if networks in ((), ANYWHERE) else "-" + hashlib.sha256(repr(networks).encode()).hexdigest()[:5]
        yield f"{id}-{ROLES.get(source, 'any')}-{ROLES.get(target, 'any')}{narrowed}", content


def _networks(rule: Rule) -> tuple[str, ...]:
    """Networks here are IPv4, and Google takes no list of both kinds."""
    return tuple(sorted(network for network in rule.sources if ":" not in network)) if rule.from_role == "*" else ()


def _last_name(id: str) -> str:
    return f"{id}-icmp"


def _last_rule(id: str, network: str) -> Record:
    """Pings, and the messages about packet sizes that TCP depends on, among the cluster's own machines."""
    allowed = [{"I_p_protocol": "icmp"}]
    return {
        "network": network,
        "direction": "INGRESS",
        "priority": 1000,
        "allowed": allowed,
        "source_tags": [id],
        "target_tags": [id],
    }


def _allowed(rules: Iterable[Rule]) -> list[Record]:
    ports: dict[str, set[str]] = {}
    for rule in rules:
        both = str(rule.low) if rule.low == rule.high else f"{rule.low}-{rule.high}"
        ports.setdefault(rule.protocol, set()).add(both)
    if "all" in ports:
        return [{"I_p_protocol": "all"}]
    return [{"I_p_protocol": protocol, "ports": sorted(ports[protocol])} for protocol in sorted(ports)]


def _differs(record: Record, content: Record) -> bool:
    """Answers have full addresses, and lists in any order."""
    if record.get("description") != content.get("description"):
        return True
    for key in ("allowed", "source_ranges", "source_tags", "target_tags"):
        if _sorted(record.get(key, [])) != _sorted(content.get(key, [])):
            return True
    return False


def _sorted(value: list[object]) -> list[str]:
    return sorted(repr(sorted(item.items()) if isinstance(item, dict) else item) for item in value)

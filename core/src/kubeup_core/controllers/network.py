"""Networks: one per cluster and Provider that it uses, made before anything is put into it and removed after everything is out.

A part of the Cluster controller, which alone writes `Cluster.status`; other controllers read `network_data`. A network's mark
names the Cluster, so two Providers of one account share one. Which traffic it lets through is in `network_rules.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..errors import SupplierError
from ..kinds import Cluster, Launch, LoadBalancer, Machine, NodePool
from ..kinds.cluster import ClusterStatus, NetworkRecord
from ..plugins import InvalidConfig
from ..runtime.calls import InProgress
from ..runtime.controller import Env, Key
from ..runtime.places import Place
from ..supplier import Mark, NetworkSpec, NetworkState, NetworkSupplier, Phase
from .network_rules import providers_of, rules
from .single import STEP, NotYet, Single
from .ssh_keys import public_key
from .troubles import Trouble, not_usable, trouble

CREATING, READY, DELETING, FAILED = "Creating", "Ready", "Deleting", "Failed"


@dataclass(frozen=True, kw_only=True)
class Members:
    """What belongs to a cluster, as far as it is stored."""

    pools: list[NodePool]
    machines: list[Machine]
    launches: list[Launch]
    balancers: list[LoadBalancer]

    def wanted(self, cluster: Cluster) -> tuple[str, ...]:
        """The Providers that need a network, in a fixed order: the cluster's own, those of its pools, and where things are."""
        names = [] if cluster.deleting else [cluster.spec.provider]
        for pool in sorted(self.pools, key=lambda p: p.name):
            names += providers_of(cluster, pool)
        names += sorted(m.spec.provider for m in self.machines if m.spec.provider and not m.spec.pool)
        for balancer in sorted(self.balancers, key=lambda b: b.name):
            named = (balancer.spec.provider, cluster.spec.load_balancers.provider)
            names += [next((n for n in named if n != "auto"), cluster.spec.provider)]
        return tuple(dict.fromkeys([*names, *sorted(self.inside())]))

    def inside(self) -> set[str]:
        """The Providers at which something is, or may yet come: their networks cannot go."""
        names = {launch.spec.provider for launch in self.launches if launch.status.phase == "Open"}
        names |= {m.status.resolved.provider for m in self.machines if m.status.resolved and m.status.resolved.provider}
        launched = {m.status.launch for m in self.machines}
        names |= {launch.spec.provider for launch in self.launches if launch.name in launched}
        return names | {b.status.provider for b in self.balancers if b.status.provider}


@dataclass
class Progress:
    """after: when to look again. troubles: by Provider. waiting: what the removal of a network waits for."""

    troubles: dict[str, Trouble] = field(default_factory=dict)
    after: float | None = None
    error: SupplierError | None = None

    def take(self, provider: str, error: SupplierError | None) -> None:
        """What went wrong at a Provider; it stays said while another try is under way."""
        if error is not None:
            found = trouble(error, provider)
            self.troubles[provider], self.error = found, error
            self.again(found.after)

    def again(self, after: float | None) -> None:
        if after is not None:
            self.after = after if self.after is None else min(self.after, after)


class Obstacle(Exception):
    """The place takes no such change now."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


def network_data(cluster: Cluster, place: Place) -> Mapping[str, str] | None:
    """What a launch or a balancer at this place is given; None while its network is not there (or is on its way out).

    Nothing may be made for a cluster before this answers: it also says that the Cluster keeps a record of the Provider, by which
    the place is searched for leftovers at the end. A place without networks needs none.
    """
    if cluster.deleting or place.name not in cluster.status.providers:
        return None
    record = record_of(cluster.status, place.name)
    if record is None:
        return {} if place.suppliers.networks is None else None
    return record.data if record.state == READY else None


def record_of(status: ClusterStatus, provider: str) -> NetworkRecord | None:
    return next((n for n in status.networks if n.provider == provider), None)


def mark_of(env: Env, cluster: Cluster) -> Mark:
    return Mark(
        installation=env.installation, cluster=cluster.uid, cluster_name=cluster.name, kind="Network", maker=cluster.uid
    )


class Networks:
    """Used by one controller. Records are written by it between `plan` and `step`, so that intent comes before the call."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self.single: Single[NetworkState] = Single(env, "networks", "cluster")
        self._said: dict[tuple[str, str], SupplierError] = {}

    def plan(self, cluster: Cluster, status: ClusterStatus, members: Members, places: Mapping[str, Place]) -> None:
        """Bring the list of records in `status` up to what is wanted; the caller writes it before `step`."""
        wanted, inside = members.wanted(cluster), members.inside()
        for name in wanted:
            place = places.get(name)
            if place is None or place.suppliers.networks is None or cluster.deleting:
                continue
            if record_of(status, name) is None:
                status.networks.append(NetworkRecord(provider=name, id="", state=CREATING))
                self.single.began(place, mark_of(self.env, cluster))
        for record in status.networks:
            if record.provider not in wanted and record.provider not in inside:
                record.state = DELETING
            elif record.state == DELETING and record.provider in wanted and not cluster.deleting:
                record.state = CREATING  # wanted again; what was being deleted is looked for first

    def step(
        self, cluster: Cluster, status: ClusterStatus, members: Members, places: Mapping[str, Place], key: Key
    ) -> Progress:
        """One step for each record: ensured, or removed; a record goes when observation has proven its network gone."""
        progress = Progress()
        for record in list(status.networks):
            place = places.get(record.provider)
            if place is None or place.suppliers.networks is None:
                continue  # the cluster's conditions say what is wrong with the Provider
            try:
                if record.state == DELETING:
                    if self._remove(cluster, record, status, place, places, place.suppliers.networks, key):
                        status.networks.remove(record)
                elif not cluster.deleting:
                    self._ensure(cluster, record, members, place, place.suppliers.networks, key)
            except NotYet as wait:
                progress.again(wait.after)
            except InProgress as running:
                progress.again(running.after)
                progress.take(record.provider, self._said.get((cluster.uid, record.provider)))
            except Obstacle as obstacle:
                progress.troubles[record.provider] = obstacle.trouble
            except InvalidConfig as error:
                progress.troubles[record.provider] = Trouble(reason="InvalidOverrides", message=str(error), stalled=True)
            except SupplierError as error:
                self._said[(cluster.uid, record.provider)] = error
                progress.take(record.provider, error)
            else:
                self._said.pop((cluster.uid, record.provider), None)
            if record.state == CREATING and record.provider not in progress.troubles:
                progress.again(STEP)
        return progress

    def _ensure(
        self,
        cluster: Cluster,
        record: NetworkRecord,
        members: Members,
        place: Place,
        supplier: NetworkSupplier,
        key: Key,
    ) -> None:
        mark = mark_of(self.env, cluster)
        wish = self._wish(cluster, members, place, mark)
        if not (place.may_change if record.id else place.may_create):
            raise Obstacle(not_usable(place.name, place))
        state = self.single.ensure(place, mark, lambda: supplier.ensure(wish), wish=wish, key=key, id=record.id)
        record.id = state.ref.id
        record.fabric, record.flat = state.fabric or record.fabric, state.flat
        record.data = dict(state.data) or record.data
        record.state = {Phase.RUNNING: READY, Phase.FAILED: FAILED}.get(state.phase, CREATING)
        if state.error is not None:
            raise state.error

    def _remove(
        self,
        cluster: Cluster,
        record: NetworkRecord,
        status: ClusterStatus,
        place: Place,
        places: Mapping[str, Place],
        supplier: NetworkSupplier,
        key: Key,
    ) -> bool:
        others = [n for n in status.networks if n is not record and n.state != DELETING]
        if any(n.provider in places and places[n.provider].identity.key == place.identity.key for n in others):
            return True  # another Provider of the same account keeps using it
        if not place.may_delete:
            raise Obstacle(not_usable(place.name, place))
        return self.single.remove(
            place,
            mark_of(self.env, cluster),
            supplier.delete,
            key=key,
            id=record.id,
            guard=lambda: self._still_unwanted(cluster, place.name),
        )

    def _still_unwanted(self, cluster: Cluster, provider: str) -> bool:
        """Read from the store itself, just before the call: a launch may have been written since this was decided."""
        stored = self.env.client.find(Cluster, cluster.name, cluster.namespace)
        record = record_of(stored.status, provider) if stored is not None and stored.uid == cluster.uid else None
        if record is None or record.state != DELETING:
            return False
        launches, _ = self.env.client.list(Launch, cluster.namespace)
        return not any(
            launch.spec.cluster_uid == cluster.uid and launch.spec.provider == provider and launch.status.phase == "Open"
            for launch in launches
        )

    def _wish(self, cluster: Cluster, members: Members, place: Place, mark: Mark) -> NetworkSpec:
        """Raises InvalidConfig, with the path, for overrides that the plugin refuses."""
        type_ = place.provider.spec.type
        overrides = cluster.spec.overrides.get(type_, {})
        if overrides:
            self.env.plugins.overrides(type_, overrides)
        cidr = cluster.spec.network.machine_cidr
        ssh_port = place.provider.spec.access.port if place.access == "ssh" else None
        return NetworkSpec(
            mark=mark,
            name=cluster.name,
            cidr="" if cidr == "auto" else cidr,
            rules=rules(cluster, members.balancers, members.machines, ssh_port),
            ssh_keys=_ssh_keys(cluster, members.pools, public_key(self.env, cluster)),
            overrides=overrides,
        )


def _ssh_keys(cluster: Cluster, pools: Iterable[NodePool], own: str) -> tuple[str, ...]:
    """Those of people, and the cluster's own, for places where a key is a thing of the network."""
    templates = [cluster.spec.machine, cluster.spec.control_plane.machine, *(pool.spec.machine for pool in pools)]
    return tuple(sorted({key for template in templates for key in template.ssh_keys or ()} | ({own} if own else set())))

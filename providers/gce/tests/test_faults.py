"""What goes wrong at Google, one by one: told late, told never, told twice, and changed behind one's back."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from kubeup_core import Blocked, Denied, InvalidSpec, NoCapacity, NotReady, Outcome, Phase, Ref, Rule, Scope, Unknown
from kubeup_emulators.gce import traffic

HOME = Scope(installation="home")
GiB = 1024**3


def settled(place: Any, launch: Any) -> list[Any]:
    for _ in range(10):
        place.world.advance()
    return list(place.suppliers.machines.lookup(launch))


def test_a_zone_with_room_for_some_gives_some_and_says_of_the_others_why(place: Any) -> None:
    launch = place.launch(3)
    place.world.room = {"us-central1-a": 2}
    assert {r.outcome for r in place.suppliers.machines.launch(launch)} == {Outcome.PENDING}
    results = settled(place, launch)
    (refused,) = [r for r in results if r.outcome == Outcome.REFUSED]
    assert [r.outcome for r in results if r is not refused] == [Outcome.MADE, Outcome.MADE]
    error = refused.error
    assert isinstance(error, NoCapacity)
    assert (error.scope.place, error.scope.machine_type, error.person) == ("us-central1-a", launch.offer.machine_type, False)
    assert [s.phase for s in place.of(launch)] == [Phase.RUNNING, Phase.RUNNING]


def test_a_failure_that_only_the_operation_tells_is_found_by_a_process_that_did_not_make_it(place: Any) -> None:
    launch = place.launch(2)
    with place.world.having("instances.bulkInsert", late=("ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "sold out")):
        place.suppliers.machines.launch(launch)
    place.suppliers = place.build()
    results = settled(place, launch)
    assert [type(r.error) for r in results] == [NoCapacity, NoCapacity]
    assert not place.of(launch)


def test_a_quota_is_said_at_once_and_needs_a_person(place: Any) -> None:
    launch = place.launch(3)
    place.world.quota = 2
    with pytest.raises(NoCapacity) as caught:
        place.suppliers.machines.launch(launch)
    assert caught.value.person
    assert caught.value.scope.place is None, "a quota is the region's, not the zone's"
    assert not place.of(launch)


def test_a_used_up_quota_is_reported_before_a_launch_runs_into_it(place: Any) -> None:
    place.run(place.launch(2))
    assert not place.suppliers.probe()
    place.world.quota = 2
    assert "INSTANCES" in place.suppliers.probe()[0].message


@pytest.mark.parametrize("reason", ["rateLimitExceeded", "CONCURRENT_OPERATIONS_QUOTA_EXCEEDED"])
def test_throttling_is_no_refusal_and_is_not_repeated_blindly(place: Any, reason: str) -> None:
    launch = place.launch()
    before = len(place.world.calls)
    with place.world.having("instances.bulkInsert", error=(403, reason, "too fast")), pytest.raises(NotReady) as caught:
        place.suppliers.machines.launch(launch)
    assert caught.value.retry_after
    assert len(place.world.calls) == before + 1


def test_a_missing_right_is_denied_and_reading_goes_on(place: Any) -> None:
    launch = place.launch()
    with place.world.having("*.bulkInsert", error=(403, "forbidden", "Required 'compute.instances.create' permission")):
        with pytest.raises(Denied) as caught:
            place.suppliers.machines.launch(launch)
        assert "roles" in caught.value.remedy
        assert place.suppliers.machines.observe(HOME).items == ()


def test_credentials_that_expire_in_the_middle_are_denied_and_nothing_is_concluded(place: Any) -> None:
    launch = place.launch()
    (state,) = place.run(launch)
    with place.world.having("*", error=(401, "authError", "Invalid Credentials")):
        with pytest.raises(Denied):
            place.suppliers.machines.observe(HOME)
        with pytest.raises(Denied):
            place.suppliers.machines.delete([state.ref])
    with place.world.having("instances.delete", error=(401, "authError", "Invalid Credentials")):
        (result,) = place.suppliers.machines.delete([state.ref])
        assert (result.outcome, type(result.error)) == (Outcome.UNKNOWN, Denied)
    place.world.advance(5)
    assert [s.phase for s in place.of(launch)] == [Phase.RUNNING]


def test_a_reply_that_is_lost_leaves_one_machine(place: Any) -> None:
    launch = place.launch()
    with place.world.having("instances.bulkInsert", lost="reply", times=1), pytest.raises(Unknown):
        place.suppliers.machines.launch(launch)
    place.suppliers.machines.launch(launch)
    assert [r.outcome for r in settled(place, launch)] == [Outcome.MADE]
    assert len(place.of(launch)) == 1


def test_a_machine_that_no_list_shows_yet_is_neither_dead_nor_made_again(place: Any) -> None:
    launch = place.launch(2)
    place.world.lag = True
    place.suppliers.machines.launch(launch)
    results = settled(place, launch)
    assert [r.outcome for r in results] == [Outcome.MADE, Outcome.MADE]
    assert place.suppliers.machines.observe(HOME).items == ()
    doubt = tuple(Ref(id=r.id, mark=launch.member_mark(i)) for i, r in enumerate(results))
    assert len(place.suppliers.machines.observe(replace(HOME, doubt=doubt)).items) == 2


def test_a_machine_that_somebody_deleted_is_dead_and_stays_so(place: Any) -> None:
    launch = place.launch(2)
    victim = place.run(launch)[0]
    with place.world.lock:
        place.world.remove(f"zones/us-central1-a/instances/{victim.name}")
    for results in (place.suppliers.machines.lookup(launch), place.suppliers.machines.launch(launch)):
        assert [r.outcome for r in results] == [Outcome.DEAD, Outcome.MADE]


def test_a_token_that_google_has_forgotten_makes_nothing_twice(place: Any) -> None:
    launch = place.launch(2)
    place.run(launch)
    with place.world.lock:
        place.world._by_request.clear()
        place.world.operations.clear()
    results = place.suppliers.machines.launch(launch)
    assert [r.outcome for r in results] == [Outcome.MADE, Outcome.MADE]
    assert len(place.of(launch)) == 2


def test_a_changed_machine_shows_its_change(place: Any) -> None:
    launch = place.launch()
    (before,) = place.run(launch)
    with place.world.lock:
        item = place.world.items[f"zones/us-central1-a/instances/{before.name}"]
        item.body["machineType"] = item.body["machineType"].replace(before.machine_type, "n2-standard-4")
    assert place.of(launch)[0].facts["machineType"] == "n2-standard-4"


def test_a_stopped_machine_is_stopped(place: Any) -> None:
    launch = place.launch()
    (state,) = place.run(launch)
    with place.world.lock:
        place.world.items[f"zones/us-central1-a/instances/{state.name}"].extra["status"] = "TERMINATED"
    assert place.of(launch)[0].phase == Phase.STOPPED


def test_a_delete_that_fails_in_its_operation_can_be_repeated(place: Any) -> None:
    launch = place.launch()
    (state,) = place.run(launch)
    with place.world.having("instances.delete", late=("INTERNAL_ERROR", "try again"), times=1):
        place.suppliers.machines.delete([state.ref])
    for _ in range(5):
        place.world.advance()
    assert place.of(launch)
    place.suppliers.machines.delete([state.ref])
    for _ in range(5):
        place.world.advance()
    assert not place.of(launch)


def test_a_network_that_is_still_in_use_is_not_deleted_and_names_its_user(place: Any) -> None:
    place.run(place.launch())
    (network,) = place.suppliers.networks.observe(HOME).items
    with pytest.raises(Blocked) as caught:
        place.suppliers.networks.delete(network.ref)
    assert "instances" in caught.value.message
    rules = [path for path in place.world.everything() if "firewalls" in path]
    assert rules, "the rules must outlive the last machine"


def test_a_network_that_changes_just_now_is_waited_for(place: Any) -> None:
    launch = place.launch()
    with place.world.having("instances.bulkInsert", error=(400, "resourceNotReady", "is not ready")), pytest.raises(NotReady):
        place.suppliers.machines.launch(launch)


def test_what_an_operation_refuses_of_a_network_is_said_by_the_next_look(place: Any) -> None:
    from kubeup_core import NetworkSpec

    want = NetworkSpec(mark=place.mark("Network"), name="demo")
    with place.world.having("networks.insert", late=("QUOTA_EXCEEDED", "Quota 'NETWORKS' exceeded")):
        place.suppliers.networks.ensure(want)
        for _ in range(5):
            place.world.advance()
        with pytest.raises(NoCapacity, match="NETWORKS"):
            place.suppliers.networks.ensure(want)
    place.network(mark=want.mark)


def test_a_disk_that_google_refuses_only_later_is_said_by_the_next_look_and_asked_for_once_for_each_time_it_is_said(
    place: Any,
) -> None:
    want, volumes = place.volume_spec(), place.suppliers.volumes
    with place.world.having("disks.insert", late=("QUOTA_EXCEEDED", "Quota 'SSD_TOTAL_GB' exceeded")):
        for attempt in (1, 2):
            assert volumes.ensure(want).phase == Phase.PENDING
            assert volumes.ensure(want).phase == Phase.PENDING, "the operation runs"
            place.world.advance(5)
            with pytest.raises(NoCapacity, match="SSD_TOTAL_GB") as caught:
                volumes.ensure(want)
            assert caught.value.person
            assert place.world.count("disks.insert") == attempt
    assert volumes.ensure(want).phase == Phase.PENDING
    place.world.advance(5)
    assert volumes.ensure(want).phase == Phase.RUNNING


@pytest.mark.parametrize(
    ("method", "more"), [("disks.resize", {"size": 20 * GiB}), ("disks.setLabels", {"keep": True})], ids=["grow", "keep"]
)
def test_a_change_of_a_disk_that_fails_only_later_is_said_and_observation_asks_for_another_look(
    place: Any, method: str, more: dict[str, Any]
) -> None:
    want, _volume = place.volume()
    changed = replace(want, mark=replace(want.mark, keep=True)) if "keep" in more else replace(want, **more)
    volumes = place.suppliers.volumes
    with place.world.having(method, late=("QUOTA_EXCEEDED", "Quota exceeded")):
        assert volumes.ensure(changed).phase == Phase.PENDING
        place.world.advance(5)
        assert volumes.observe(HOME).items[0].phase == Phase.PENDING, "nobody has looked how it ended"
        with pytest.raises(NoCapacity):
            volumes.ensure(changed)
    assert volumes.observe(HOME).items[0].phase == Phase.RUNNING
    assert volumes.ensure(changed).phase == Phase.PENDING
    place.world.advance(5)
    state = volumes.ensure(changed)
    assert (state.phase, state.size, state.ref.mark.keep) == (Phase.RUNNING, changed.size, changed.mark.keep)


def test_an_attach_that_fails_in_its_operation_is_said_by_the_next_one_and_works_after_that(place: Any) -> None:
    (machine,) = place.run(place.launch())
    _want, volume = place.volume()
    volumes = place.suppliers.volumes
    with place.world.having("instances.attachDisk", late=("ZONE_RESOURCE_POOL_EXHAUSTED", "no more disks here")):
        volumes.attach(volume.ref, machine.ref)
        volumes.attach(volume.ref, machine.ref)
        place.world.advance(5)
        with pytest.raises(NoCapacity, match="no more disks here") as caught:
            volumes.attach(volume.ref, machine.ref)
    assert caught.value.scope.machine_type == machine.machine_type
    assert place.world.count("instances.attachDisk") == 1
    assert volumes.observe(HOME).items[0].attached == ()
    volumes.attach(volume.ref, machine.ref)
    place.world.advance(5)
    assert volumes.observe(HOME).items[0].attached == (machine.ref.id,)


def test_a_detach_that_is_busy_is_said_by_the_next_one_and_not_forced(place: Any) -> None:
    (machine,) = place.run(place.launch())
    _want, volume = place.volume()
    volumes = place.suppliers.volumes
    volumes.attach(volume.ref, machine.ref)
    place.world.advance(5)
    with place.world.having("instances.detachDisk", late=("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "busy")):
        volumes.detach(volume.ref, machine.ref)
        place.world.advance(5)
        with pytest.raises(Blocked, match="busy"):
            volumes.detach(volume.ref, machine.ref)
    assert volumes.observe(HOME).items[0].attached == (machine.ref.id,)
    with pytest.raises(Blocked):
        volumes.delete(volume.ref)
    volumes.detach(volume.ref, machine.ref)
    place.world.advance(5)
    assert volumes.observe(HOME).items[0].attached == ()


def test_a_disk_whose_deletion_fails_in_its_operation_says_why_and_goes_the_next_time(place: Any) -> None:
    _want, volume = place.volume()
    volumes = place.suppliers.volumes
    with place.world.having("disks.delete", late=("RESOURCE_IN_USE_BY_ANOTHER_RESOURCE", "a snapshot is being made")):
        volumes.delete(volume.ref)
        place.world.advance(5)
        with pytest.raises(Blocked, match="snapshot"):
            volumes.delete(volume.ref)
    volumes.delete(volume.ref)
    place.world.advance(5)
    assert volumes.observe(HOME).items == ()


def test_a_volume_in_another_zone_than_its_machine_is_refused(place: Any) -> None:
    (machine,) = place.run(place.launch())
    _want, volume = place.volume(place="us-central1-b")
    with pytest.raises(InvalidSpec, match="us-central1-b"):
        place.suppliers.volumes.attach(volume.ref, machine.ref)


def test_a_fingerprint_that_is_stale_is_read_again(place: Any) -> None:
    want, _volume = place.volume()
    kept = replace(want, mark=replace(want.mark, keep=True))
    with place.world.having("disks.setLabels", error=(412, "conditionNotMet", "Labels fingerprint is stale"), times=1):
        place.suppliers.volumes.ensure(kept)
    place.suppliers.volumes.ensure(kept)
    for _ in range(5):
        place.world.advance()
    assert place.suppliers.volumes.observe(HOME).items[0].ref.mark.keep


def test_a_zone_that_does_not_answer_is_named_and_offers_nothing(place: Any) -> None:
    place.world.cut = {"us-central1-b"}
    offers = place.suppliers.machines.offers(place.template())
    assert {offer.place for offer in offers} == {"us-central1-a", "us-central1-c"}
    assert place.suppliers.machines.observe(HOME).unreachable == {"us-central1-b"}
    assert place.suppliers.volumes.observe(HOME).unreachable == {"us-central1-b"}


def test_a_balancer_forwards_only_what_stays_as_it_is(place: Any) -> None:
    from kubeup_core import Listener

    with pytest.raises(InvalidSpec) as caught:
        place.suppliers.load_balancers.ensure(place.balancer_spec(listeners=(Listener(port=80, target=8080),)))
    assert caught.value.path == "spec.listeners[0].targetPort"


def test_an_internal_balancer_has_an_address_of_the_subnetwork_and_nothing_external(place: Any) -> None:
    machines = place.run(place.launch(2))
    want = place.balancer_spec(machines, internal=True)
    state = place.balancer(want)
    place.world.advance(5)
    (address,) = state.addresses
    assert ip_address(address) in ip_network("10.10.0.0/16")
    of = {item.collection: item.body for item in place.world.items.values() if item.name == state.ref.id}
    assert (of["addresses"]["addressType"], of["addresses"]["purpose"]) == ("INTERNAL", "GCE_ENDPOINT")
    front, service = of["forwardingRules"], of["backendServices"]
    assert (front["IPAddress"], front["loadBalancingScheme"], service["loadBalancingScheme"]) == (address, *["INTERNAL"] * 2)
    assert front["subnetwork"] == of["addresses"]["subnetwork"]
    assert front["network"] == service["network"]
    assert traffic(place.world, f"regions/us-central1/backendServices/{state.ref.id}") == {m.name for m in machines}
    (seen,) = place.suppliers.load_balancers.observe(HOME).items
    assert (seen.phase, seen.addresses) == (Phase.RUNNING, (address,))


def test_an_internal_balancer_takes_the_address_that_is_asked_for_where_the_subnetwork_has_it(place: Any) -> None:
    assert place.balancer(place.balancer_spec(internal=True, address="10.10.3.3")).addresses == ("10.10.3.3",)
    with pytest.raises(InvalidSpec, match="range"):
        place.suppliers.load_balancers.ensure(place.balancer_spec(internal=True, address="192.0.2.1"))


def test_an_unhealthy_member_is_told_and_one_that_dies_is_out(place: Any) -> None:
    machines = place.run(place.launch(2))
    want = place.balancer_spec(machines)
    place.balancer(want)
    for _ in range(5):
        place.world.advance()
    place.world.unhealthy = {machines[0].name}
    members = place.suppliers.load_balancers.ensure(want).members
    assert members == {machines[0].name: "unhealthy", machines[1].name: "healthy"}


def test_a_port_is_open_to_the_networks_that_its_rules_name_and_to_no_other(place: Any) -> None:
    def open_ports() -> dict[str, list[str]]:
        rules = [item.body for item in place.world.items.values() if item.collection == "firewalls"]
        return {",".join(sorted(r["sourceRanges"])): r["allowed"][0]["ports"] for r in rules if "sourceRanges" in r}

    everybody = Rule(from_role="*", to_role="worker", protocol="tcp", low=22, high=22)
    some = replace(everybody, low=80, high=80, sources=("192.0.2.0/24", "10.0.0.0/8", "2001:db8::/32"))
    others = replace(everybody, low=81, high=81, sources=("198.51.100.0/24",))
    nobody = replace(everybody, low=82, high=82, sources=("2001:db8::/32",))
    want, _ = place.network(rules=(everybody, some, others, nobody))
    assert open_ports() == {"0.0.0.0/0": ["22"], "10.0.0.0/8,192.0.2.0/24": ["80"], "198.51.100.0/24": ["81"]}
    for _ in range(10):
        place.suppliers.networks.ensure(replace(want, rules=(everybody,)))
        place.world.advance()
    assert open_ports() == {"0.0.0.0/0": ["22"]}


def test_who_may_come_to_a_balancer_is_a_rule_on_its_address(place: Any) -> None:
    want = place.balancer_spec(allow_from=("192.0.2.0/24",))
    (address,) = place.balancer(want).addresses
    rules = [item.body for item in place.world.items.values() if item.collection == "firewalls"]
    mine = [rule for rule in rules if rule.get("destinationRanges") == [f"{address}/32"]]
    assert sorted("denied" in rule for rule in mine) == [False, True]
    allowed = next(rule for rule in mine if "allowed" in rule)
    assert "192.0.2.0/24" in allowed["sourceRanges"]
    assert "0.0.0.0/0" not in allowed["sourceRanges"]
    open_to_all = replace(want, allow_from=("0.0.0.0/0",))
    for _ in range(10):
        place.suppliers.load_balancers.ensure(open_to_all)
        place.world.advance()
    rules = [item.body for item in place.world.items.values() if item.collection == "firewalls"]
    assert not [rule for rule in rules if "denied" in rule]


def test_the_disk_of_a_system_that_outlives_its_machine_is_a_stray_until_it_is_deleted(place: Any) -> None:
    """Somebody told Google to keep it, or Google failed to delete it."""
    launch = place.launch(2)
    first, second = place.run(launch)
    for item in place.world.items.values():
        for disk in item.body.get("disks", ()):
            disk["autoDelete"] = False
    machines = place.suppliers.machines
    assert not machines.observe(HOME).strays
    machines.delete([first.ref])
    place.world.advance(5)
    (stray,) = machines.observe(HOME).strays
    assert stray == Ref(id=f"us-central1-a/disks/{first.name}", mark=first.ref.mark)
    assert machines.observe(HOME).strays == (stray,), "as long as it is there"

    (foreign,) = machines.delete([replace(stray, mark=second.ref.mark)])
    place.world.advance(5)
    assert foreign.error is not None
    assert machines.observe(HOME).strays == (stray,)

    assert [result.outcome for result in machines.delete([stray])] == [Outcome.PENDING]
    place.world.advance(5)
    assert not machines.observe(HOME).strays
    assert [result.outcome for result in machines.delete([stray])] == [Outcome.MADE]
    assert place.world.items[f"zones/us-central1-a/disks/{second.name}"], "a disk in use is none"


def test_a_member_that_falls_ill_is_told_by_observation_alone(place: Any) -> None:
    first, second = place.run(place.launch(2))
    place.balancer(place.balancer_spec([first, second]))
    balancers = place.suppliers.load_balancers
    place.world.unhealthy.add(first.name)
    (seen,) = balancers.observe(HOME).items
    assert seen.members == {first.name: "unhealthy", second.name: "healthy"}


def test_a_wish_that_comes_while_a_group_still_changes_is_not_taken_for_done(place: Any) -> None:
    """The core repeats a wish until the balancer runs, and not any more then."""
    first, second = place.run(place.launch(2))
    want = place.balancer_spec([first])
    place.balancer(want)
    balancers = place.suppliers.load_balancers
    balancers.ensure(replace(want, members=(*want.members, place.member(second))))
    both = replace(want, members=(place.member(second),))
    assert balancers.ensure(both).phase == Phase.PENDING, "the group is being changed"
    (seen,) = balancers.observe(HOME).items
    assert seen.phase == Phase.PENDING
    place.balancer(both)
    place.world.advance(5)
    (seen,) = balancers.observe(HOME).items
    assert (seen.phase, seen.members) == (Phase.RUNNING, {second.name: "healthy"})


def test_a_member_in_another_zone_joins_a_balancer_that_runs(place: Any) -> None:
    """Its zone's group is no backend until the service is patched, and has no health until then."""
    (first,) = place.run(place.launch())
    (second,) = place.run(place.launch(zone="us-central1-b"))
    want = place.balancer_spec([first])
    place.balancer(want)
    both = replace(want, members=(*want.members, place.member(second)))
    balancers = place.suppliers.load_balancers
    state = balancers.ensure(both)
    assert (state.phase, state.members[first.name]) == (Phase.PENDING, "healthy"), "who is in stays in"
    place.balancer(both)
    place.world.advance(5)
    (seen,) = balancers.observe(HOME).items
    assert seen.members == {first.name: "healthy", second.name: "healthy"}


def test_another_health_check_replaces_the_one_that_a_balancer_has(place: Any) -> None:
    from kubeup_core import Listener

    def checks() -> list[dict[str, Any]]:
        return [item.body for item in place.world.items.values() if item.collection == "healthChecks"]

    want = place.balancer_spec(place.run(place.launch()))
    place.balancer(want)
    (tcp,) = checks()
    assert (tcp["type"], tcp["tcpHealthCheck"]) == ("TCP", {"port": 80})
    for health, probe in (
        ({"protocol": "HTTP", "port": "8080", "path": "/ready"}, {"port": 8080, "requestPath": "/ready"}),
        ({"protocol": "HTTP", "port": "8080", "path": "/live"}, {"port": 8080, "requestPath": "/live"}),
        ({"protocol": "HTTP", "port": "8081", "path": "/live"}, {"port": 8081, "requestPath": "/live"}),
    ):
        changed = replace(want, listeners=(Listener(port=80, target=80, health=health),))
        place.balancer(changed)
        place.world.advance(5)
        (http,) = checks()
        assert (http["type"], http["httpHealthCheck"]) == ("HTTP", probe)
        assert "tcpHealthCheck" not in http, "a check has one type"
        updates = place.world.count("regionHealthChecks.update")
        place.balancer(changed)
        assert place.world.count("regionHealthChecks.update") == updates, "it is as wished"

"""What AWS does on bad days, each as a test: the decision that comes out, and what is there afterwards."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from kubeup_artifacts.strict_aws import Dropped
from kubeup_core import (
    Blocked,
    Denied,
    InvalidSpec,
    LBMember,
    Listener,
    LoadBalancerSpec,
    NoCapacity,
    NotFound,
    NotReady,
    Outcome,
    Phase,
    Place,
    Ref,
    Rule,
    Scope,
    Taken,
    Unknown,
    VolumeSpec,
)

OURS = Scope(installation="ours")
GiB = 2**30


def volume(place, **given: object):
    mark = place.mark("Volume")
    return VolumeSpec(**{"mark": mark, "token": mark.maker, "name": "data", "size": GiB, "place": "us-east-1a", **given})


def test_a_throttle_surfaces_at_once_and_is_not_retried_blindly(place) -> None:
    launch = place.launch()
    before = place.account.count("RunInstances")
    with place.account.fault("RunInstances", "RequestLimitExceeded", status=503), pytest.raises(NotReady):
        place.machines.launch(launch)
    assert place.account.count("RunInstances") == before + 1
    assert place.machines.launch(launch)[0].outcome is Outcome.MADE


def test_capacity_that_is_told_with_a_500_is_not_swallowed_by_the_sdk(place) -> None:
    launch = place.launch(2)
    place.account.ec2.room = 0
    with pytest.raises(NoCapacity) as raised:
        place.machines.launch(launch)
    assert raised.value.scope == Place(place="us-east-1a", machine_type=launch.offer.machine_type, spot=False)
    assert place.account.count("RunInstances") == 1


def test_a_quota_is_for_a_person(place) -> None:
    launch = place.launch()
    with place.account.fault("RunInstances", "VcpuLimitExceeded"), pytest.raises(NoCapacity) as raised:
        place.machines.launch(launch)
    assert raised.value.person


def test_fewer_than_asked_are_told_member_by_member(place) -> None:
    launch = place.launch(3)
    place.account.ec2.room = 2
    results = place.machines.launch(launch)
    assert [result.outcome for result in results] == [Outcome.MADE, Outcome.MADE, Outcome.REFUSED]
    assert isinstance(results[2].error, NoCapacity)
    assert [r.id for r in place.machines.launch(launch)] == [r.id for r in results]


def test_a_subnet_without_addresses_is_a_lack_of_its_zone(place) -> None:
    place.data = {**place.network(cidr="10.9.0.0/24").data}
    with pytest.raises(NoCapacity) as raised:
        place.machines.launch(place.launch(20))
    assert raised.value.scope == Place(place="us-east-1a")


def test_a_lost_reply_is_unknown_and_the_repeat_finds_the_machines(place) -> None:
    launch = place.launch(2)
    with place.account.changes_lost("after"), pytest.raises(Unknown):
        place.machines.launch(launch)
    results = place.machines.launch(launch)
    assert [result.outcome for result in results] == [Outcome.MADE, Outcome.MADE]
    assert len(place.machines.observe(OURS).items) == 2


def test_a_token_of_a_dead_instance_shows_the_living(place) -> None:
    launch = place.launch(2)
    dead, living = (result.id for result in place.machines.launch(launch))
    place.account.advance()
    place.account.ec2.end(dead, "Server.InternalError")
    again = place.machines.launch(launch)
    assert [(r.id, r.outcome) for r in again] == [(dead, Outcome.DEAD), (living, Outcome.MADE)]


def test_pending_and_then_terminated_is_a_refusal_with_its_reason(place) -> None:
    launch = place.launch()
    place.account.ec2.refuse_late = True
    assert place.machines.launch(launch)[0].outcome is Outcome.MADE
    place.account.advance()
    (state,) = place.machines.observe(OURS).items
    assert state.phase is Phase.FAILED
    assert isinstance(state.error, NoCapacity)
    assert state.error.scope.place == "us-east-1a"


def test_an_instance_that_only_its_id_finds_is_observed(place) -> None:
    launch = place.launch()
    with place.account.ec2.stale():
        made = place.machines.launch(launch)[0]
        doubt = (Ref(id=made.id, mark=launch.member_mark(0)), Ref(id="i-" + "0" * 17, mark=launch.member_mark(0)))
        assert not place.machines.observe(OURS).items
        assert [s.ref.id for s in place.machines.observe(replace(OURS, doubt=doubt)).items] == [made.id]


def test_credentials_that_expire_in_the_middle_are_denied(place) -> None:
    launch = place.launch()
    with place.account.fault(".*", "ExpiredToken"):
        for call in (lambda: place.machines.launch(launch), lambda: place.machines.observe(OURS)):
            with pytest.raises(Denied):
                call()


def test_a_protected_machine_stays_with_what_to_do_and_the_others_of_its_batch_go(place) -> None:
    launch = place.launch(5)
    refs = [Ref(id=r.id, mark=launch.member_mark(i)) for i, r in enumerate(place.machines.launch(launch))]
    place.account.ec2.protected = {refs[1].id, refs[4].id}
    results = place.machines.delete(refs)
    assert [r.id for r in results] == [ref.id for ref in refs]
    assert [r.outcome for r in results] == [
        Outcome.PENDING, Outcome.REFUSED, Outcome.PENDING, Outcome.PENDING, Outcome.REFUSED,
    ]  # fmt: skip
    for index in (1, 4):
        assert isinstance(results[index].error, Blocked)
        assert "termination protection" in results[index].error.remedy


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("InvalidSubnetID.NotFound", "The subnet ID 'subnet-1' does not exist"),
        ("InvalidGroup.NotFound", "The security group 'sg-1' does not exist"),
        (
            "InvalidParameterValue",
            "Value (web) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name",
        ),
    ],
    ids=["subnet", "group", "profile"],
)
def test_what_was_made_a_moment_ago_and_is_not_known_to_a_launch_is_waited_for(place, code: str, message: str) -> None:
    launch = place.launch()
    with place.account.fault("RunInstances", code, message=message), pytest.raises(NotReady) as raised:
        place.machines.launch(launch)
    assert raised.value.code == code
    assert place.machines.launch(launch)[0].outcome is Outcome.MADE


def test_an_image_that_is_not_there_is_never_waited_for(place) -> None:
    launch = place.launch()
    with place.account.fault("RunInstances", "InvalidAMIID.NotFound"), pytest.raises(InvalidSpec):
        place.machines.launch(launch)


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("Client.InternalError", InvalidSpec),
        ("Client.InvalidKMSKey.InvalidState", InvalidSpec),
        ("Server.InternalError", Unknown),
    ],
)
def test_what_ec2_ends_for_another_reason_is_over_with_that_reason(place, reason: str, error: type) -> None:
    ref = place.machine().ref
    place.account.ec2.end(ref.id, reason, "said so")
    (state,) = place.machines.observe(OURS).items
    assert (state.phase, type(state.error)) == (Phase.GONE, error)
    assert f"{reason}: said so" in state.error.message


def test_a_machine_deleted_by_hand_is_seen_as_gone(place) -> None:
    ref = place.machine().ref
    place.account.ec2.end(ref.id, "Client.UserInitiatedShutdown")
    (state,) = place.machines.observe(OURS).items
    assert (state.phase, state.error) == (Phase.GONE, None)
    assert place.machines.delete([ref])[0].outcome is Outcome.MADE


def test_rules_changed_by_hand_are_put_back(place) -> None:
    mark = place.mark("Network")
    rule = Rule(from_role="*", to_role="worker", protocol="tcp", low=22, high=22)
    place.network(mark=mark, rules=(rule,))
    group = next(
        g for groups in place.account.backend("ec2").groups.values() for g in groups.values() if g.name.endswith("-worker")
    )
    aws = place.machines._aws
    opened = [{"IpProtocol": "tcp", "FromPort": 1, "ToPort": 9, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    aws.call("ec2", "authorize_security_group_ingress", GroupId=group.id, IpPermissions=opened)
    place.network(mark=mark, rules=(rule,))
    (found,) = aws.read("ec2", "describe_security_groups", GroupIds=[group.id])["SecurityGroups"]
    assert [(p["FromPort"], p["ToPort"]) for p in found["IpPermissions"]] == [(22, 22)]


def test_a_port_is_open_to_the_networks_that_its_rules_name_and_to_no_other(place) -> None:
    rule = Rule(from_role="*", to_role="worker", protocol="tcp", low=80, high=80, sources=("10.0.0.0/8", "192.0.2.0/24"))
    mark = place.mark("Network")
    for rules in ((replace(rule, sources=("0.0.0.0/0",)),), (rule, replace(rule, sources=("2001:db8::/32",)))):
        place.network(mark=mark, rules=rules)
    listed = place.machines._aws.read("ec2", "describe_security_groups")["SecurityGroups"]
    (worker,) = [group["IpPermissions"] for group in listed if group["GroupName"].endswith("-worker")]
    assert {source["CidrIp"] for entry in worker for source in entry["IpRanges"]} == {"10.0.0.0/8", "192.0.2.0/24"}
    assert {source["CidrIpv6"] for entry in worker for source in entry["Ipv6Ranges"]} == {"2001:db8::/32"}
    before = len(place.account.seen)
    place.network(mark=mark, rules=rules)
    assert not [seen.action for seen in place.account.seen[before:] if not seen.action.startswith("Describe")]


def test_rules_of_roles_name_each_others_groups(place) -> None:
    rules = (
        Rule(from_role="controlPlane", to_role="worker", protocol="all", low=0, high=65535),
        Rule(from_role="worker", to_role="controlPlane", protocol="tcp", low=6443, high=6443),
    )
    mark = place.mark("Network")
    state = place.network(mark=mark, rules=rules)
    before = place.account.count()
    place.network(mark=mark, rules=rules)
    changed = [seen.action for seen in place.account.seen[before:] if not seen.action.startswith("Describe")]
    assert not changed, "an unchanged network is left alone"
    place.networks.delete(state.ref)
    assert not place.networks.observe(OURS).items


def test_a_security_group_still_in_use_blocks_and_is_finished_later(place) -> None:
    state = place.network()
    with place.account.fault("DeleteSecurityGroup", "DependencyViolation"), pytest.raises(Blocked):
        place.networks.delete(state.ref)
    assert place.networks.observe(OURS).items
    place.networks.delete(state.ref)
    assert not place.networks.observe(OURS).items


def test_a_network_in_use_names_who_uses_it_and_loses_no_rule(place) -> None:
    machine = place.machine()
    (network,) = place.networks.observe(OURS).items
    before = place.account.count()
    with pytest.raises(Blocked) as raised:
        place.networks.delete(network.ref)
    assert machine.ref.id in raised.value.by
    assert all(seen.action.startswith("Describe") for seen in place.account.seen[before:])


def test_in_a_given_vpc_only_groups_are_made(place) -> None:
    backend = place.account.backend("ec2")
    vpc = backend.create_vpc("172.20.0.0/16")
    subnet = backend.create_subnet(vpc.id, "172.20.1.0/24", "us-east-1a")
    before = place.account.everything()
    state = place.network(overrides={"vpc": vpc.id, "subnets": [subnet.id]})
    assert state.data["subnets"] == f"us-east-1a={subnet.id}"
    assert {id[:3] for id in place.account.everything() - before} == {"sg-"}
    place.networks.delete(state.ref)
    assert place.account.everything() == before


def test_a_detach_that_hangs_is_told_and_never_forced(place) -> None:
    machine = place.machine()
    wanted = volume(place)
    ref = place.volumes.ensure(wanted).ref
    place.volumes.attach(ref, machine.ref)
    place.account.advance()
    place.account.ec2.detach_hangs = True
    place.volumes.detach(ref, machine.ref)
    for _ in range(3):
        place.account.advance()
        place.volumes.detach(ref, machine.ref)
    (state,) = place.volumes.observe(OURS).items
    assert (state.busy, state.attached) == ("detaching", (machine.ref.id,))
    asked = [seen.params for seen in place.account.seen if seen.action == "DetachVolume"]
    assert len(asked) == 1
    assert "Force" not in asked[0]
    with pytest.raises(Blocked):
        place.volumes.delete(ref)


def test_an_attachment_that_hangs_is_told_as_not_there_yet(place) -> None:
    machine = place.machine()
    ref = place.volumes.ensure(volume(place)).ref
    place.account.ec2.attach_hangs = True
    for _ in range(3):
        place.volumes.attach(ref, machine.ref)
        place.account.advance()
    (state,) = place.volumes.observe(OURS).items
    assert (state.busy, state.attached) == ("attaching", (machine.ref.id,))
    assert place.account.count("AttachVolume") == 1
    place.account.ec2.attach_hangs = False
    place.account.advance()
    assert place.volumes.observe(OURS).items[0].busy == ""


def test_volumes_that_are_attached_at_once_get_names_of_their_own(place, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = place.machine()
    refs = [place.volumes.ensure(volume(place)).ref for _ in range(4)]
    met, described = threading.Barrier(len(refs)), place.volumes._machine

    def together(ref: Ref):
        found = described(ref)
        met.wait(30)  # all of them have seen the machine without the others' volumes
        return found

    monkeypatch.setattr(place.volumes, "_machine", together)
    with ThreadPoolExecutor(len(refs)) as pool:
        list(pool.map(lambda ref: place.volumes.attach(ref, machine.ref), refs))
    devices = [seen.params["Device"] for seen in place.account.seen if seen.action == "AttachVolume"]
    assert len(set(devices)) == len(devices) == len(refs)


def test_a_device_name_that_another_process_took_is_tried_again(place) -> None:
    machine = place.machine()
    ref = place.volumes.ensure(volume(place)).ref
    taken = "Attachment point /dev/sdf is already in use"
    with place.account.fault("AttachVolume", "InvalidParameterValue", message=taken), pytest.raises(NotReady):
        place.volumes.attach(ref, machine.ref)
    place.volumes.attach(ref, machine.ref)


def test_a_machine_that_takes_no_more_volumes_is_no_capacity(place) -> None:
    machine = place.machine()
    place.account.ec2.device_limit = 1
    ref = place.volumes.ensure(volume(place)).ref
    with pytest.raises(NoCapacity):
        place.volumes.attach(ref, machine.ref)


def test_a_subnet_that_an_unanswered_call_made_is_taken_in_before_any_listing_by_tags_shows_it(place) -> None:
    mark = place.mark("Network")
    with place.account.ec2.stale(parts=True):
        with place.account.fault("CreateSubnet", Dropped, when="after"), pytest.raises(Unknown):
            place.network(mark=mark)
        with pytest.raises(NotReady):  # its route table comes last
            place.network(mark=mark)
    state = place.network(mark=mark)
    assert state.data["subnets"].count("subnet-") == 2
    subnets = [id for id in place.account.everything() if id.startswith("subnet-")]
    assert len(subnets) == 2


def test_a_subnet_that_somebody_made_in_our_vpc_keeps_its_addresses(place) -> None:
    mark = place.mark("Network")
    with place.account.fault("CreateSubnet", "InternalError", status=500), pytest.raises(Unknown):
        place.network(mark=mark, cidr="10.9.0.0/16")
    (vpc,) = [vpc for vpc in place.account.backend("ec2").vpcs.values() if vpc.cidr_block == "10.9.0.0/16"]
    theirs = place.account.backend("ec2").create_subnet(vpc.id, "10.9.0.0/20", "us-east-1a")
    assert theirs.id not in place.network(mark=mark, cidr="10.9.0.0/16").data["subnets"]


def test_a_gateway_that_an_unanswered_call_attached_is_used_and_gets_no_twin(place) -> None:
    mark = place.mark("Network")
    with place.account.ec2.stale(parts=True):
        with place.account.fault("AttachInternetGateway", Dropped, when="after"), pytest.raises(Unknown):
            place.network(mark=mark)
        with pytest.raises(NotReady):
            place.network(mark=mark)
    place.network(mark=mark)
    assert len([id for id in place.account.everything() if id.startswith("igw-")]) == 1


@pytest.mark.parametrize("cidr", ["10.9.0.0/15", "10.9.0.0/25"])
def test_addresses_that_cannot_be_cut_into_subnets_are_refused_before_anything_is_made(place, cidr: str) -> None:
    before = place.account.everything()
    with pytest.raises(InvalidSpec) as raised:
        place.network(cidr=cidr)
    assert (raised.value.path, "/24" in raised.value.remedy) == ("spec.network.machineCIDR", True)
    assert place.account.everything() == before


def test_a_second_change_within_six_hours_waits_without_an_error(place) -> None:
    wanted = volume(place)
    place.volumes.ensure(wanted)
    assert place.volumes.ensure(replace(wanted, size=2 * GiB)).busy == "resizing"
    place.account.advance()
    assert place.volumes.ensure(replace(wanted, size=2 * GiB)).size == 2 * GiB
    later = place.volumes.ensure(replace(wanted, size=4 * GiB))
    assert (later.busy, later.size) == ("resizing", 2 * GiB)


def balancer(place, **given: object) -> LoadBalancerSpec:
    place.data = place.data or place.network().data
    listener = Listener(port=6443, target=6443, health={"protocol": "HTTPS", "path": "/readyz", "interval": "2"}, drain=10)
    spec = {
        "mark": place.mark("LoadBalancer"),
        "name": "api",
        "internal": False,
        "listeners": (listener,),
        "network": place.data,
    }
    return LoadBalancerSpec(**{**spec, **given})


def test_a_balancers_name_that_somebody_holds_is_never_adopted(place) -> None:
    wanted = balancer(place)
    state = place.balancers.ensure(wanted)
    tags = place.account.backend("elbv2").tagging_service
    tags.untag_resource_using_names(state.ref.id, ["kubeup.dev/maker"])
    place.rebuild()
    with pytest.raises(Taken):
        place.balancers.ensure(wanted)


def test_a_balancers_group_that_an_unanswered_call_made_is_used_before_it_is_listed(place) -> None:
    wanted = balancer(place)
    with place.account.ec2.stale(parts=True):
        with place.account.fault("CreateSecurityGroup", Dropped, when="after"), pytest.raises(Unknown):
            place.balancers.ensure(wanted)
        place.balancers.ensure(wanted)
    groups = [id for id in place.account.everything() if id.startswith("sg-")]
    assert len(groups) == 3  # of the network two, of the balancer one


def test_a_member_outside_the_vpc_is_registered_for_all_zones(place) -> None:
    inside = place.machine().internal[0]
    members = tuple(LBMember(key=key, ref=None, address=a) for key, a in (("in", inside), ("out", "192.168.7.7")))
    wanted = balancer(place, members=members)
    place.balancers.ensure(wanted)
    asked = next(seen.params for seen in place.account.seen if seen.action == "RegisterTargets")
    zones = {asked[f"Targets.member.{n}.Id"]: asked.get(f"Targets.member.{n}.AvailabilityZone") for n in (1, 2)}
    assert zones == {inside: None, "192.168.7.7": "all"}
    place.account.advance()
    assert place.balancers.ensure(wanted).members == {"in": "healthy", "out": "healthy"}


def test_a_member_leaves_slowly_and_others_stay(place) -> None:
    members = tuple(LBMember(key=key, ref=None, address=f"10.0.0.{i}") for i, key in enumerate(("a", "b"), 1))
    wanted = balancer(place, members=members)
    place.balancers.ensure(wanted)
    place.account.advance()
    assert place.balancers.ensure(wanted).members == {"a": "healthy", "b": "healthy"}
    leaving = replace(wanted, members=(replace(members[0], drain=True), members[1]))
    place.balancers.ensure(leaving)
    assert place.balancers.ensure(leaving).members == {"a": "draining", "b": "healthy"}
    for _ in range(3):
        place.account.advance()
    assert place.balancers.ensure(leaving).members == {"b": "healthy"}


def test_only_who_is_allowed_may_call_a_balancer(place) -> None:
    wanted = balancer(place, allow_from=("192.0.2.0/24",))
    place.balancers.ensure(wanted)
    place.balancers.ensure(replace(wanted, allow_from=("198.51.100.0/24",)))
    groups = place.machines._aws.pages("ec2", "describe_security_groups", "SecurityGroups")
    (own,) = [g for g in groups if {t["Value"] for t in g.get("Tags", ()) if t["Key"] == "kubeup.dev/part"} == {"calls"}]
    assert [r["CidrIp"] for p in own["IpPermissions"] for r in p["IpRanges"]] == ["198.51.100.0/24"]


def test_what_a_deleted_balancer_leaves_for_a_while_blocks_and_goes(place) -> None:
    ref = place.balancers.ensure(balancer(place)).ref
    with pytest.raises(Blocked):
        place.balancers.delete(ref)
    seen = place.balancers.observe(OURS)
    assert {state.phase for state in seen.items} == {Phase.PARTIAL}
    for _ in range(3):
        place.account.advance()
    for state in seen.items:
        place.balancers.delete(state.ref)
    assert not place.balancers.observe(OURS).items


def test_acting_on_what_was_never_there_is_not_found(place) -> None:
    ref = Ref(id="i-" + "0" * 17, mark=place.mark("Machine"))
    with pytest.raises(NotFound):
        place.machines.console(ref, 100)
    with pytest.raises(NotFound):
        place.volumes.detach(Ref(id="vol-" + "0" * 17, mark=place.mark("Volume")), ref)

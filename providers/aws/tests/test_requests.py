"""How often AWS is asked: near the minimum, and with no right beyond the published policy. Of many machines: `test_scale.py`."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import replace
from pathlib import Path

from kubeup_core import LBMember, Listener, LoadBalancerSpec, Phase, Rule, Scope, VolumeSpec

OURS = Scope(installation="ours")
POLICY = Path(__file__).parents[3] / "docs" / "how-to" / "aws-iam-policy.json"
SERVICES = {"ec2": "ec2", "elasticloadbalancing": "elasticloadbalancing", "ssm": "ssm", "sts": "sts"}


def test_a_launch_of_many_takes_few_requests_until_all_run(place) -> None:
    place.rebuild(zones=("us-east-1a",))
    launch = place.launch(120)
    before = place.account.count()
    place.machines.launch(launch)
    place.account.advance()
    states = place.machines.observe(OURS).items
    assert {state.phase for state in states} == {Phase.RUNNING}
    assert len(states) == 120
    assert [state.name for state in sorted(states, key=lambda s: s.ref.mark.index)] == [m.name for m in launch.members]
    assert place.account.count() - before <= 4


def test_a_recheck_takes_a_request_per_page_and_no_more(place) -> None:
    place.machines.launch(place.launch(30))
    place.account.ec2.page = 10
    before = place.account.count()
    assert len(place.machines.observe(OURS).items) == 30
    assert place.account.count() - before == 3
    asked = [seen.params["MaxResults"] for seen in place.account.seen if seen.action == "DescribeInstances"]
    assert set(asked) == {"1000"}


def test_terminating_many_takes_two_requests(place) -> None:
    launch = place.launch(30)
    place.machines.launch(launch)
    refs = [state.ref for state in place.machines.observe(OURS).items]
    before = place.account.count()
    place.machines.delete(refs)
    assert place.account.count() - before == 2


def test_the_published_policy_allows_every_request_and_names_nothing_else(place) -> None:
    machine = place.machine()
    machines, mark = place.machines, place.mark("Volume")
    place.rebuild(images={})
    place.machines.offers(place.template())
    machines.console(machine.ref, 100)
    machines.reboot(machine.ref)
    place.suppliers.probe()
    rules = (Rule(from_role="*", to_role="worker", protocol="tcp", low=22, high=22),)
    network = place.network(mark=(own := place.mark("Network")), rules=rules)
    place.network(mark=own)
    spec = VolumeSpec(mark=mark, token=mark.maker, name="data", size=2**30, place="us-east-1a")
    volume = place.volumes.ensure(spec).ref
    place.volumes.attach(volume, machine.ref)
    place.account.advance()
    place.volumes.detach(volume, machine.ref)
    place.volumes.ensure(replace(spec, size=2**31, mark=replace(mark, keep=True)))
    members = (LBMember(key="a", ref=None, address="10.0.0.1"),)
    two = (Listener(port=80, target=80), Listener(port=443, target=443))
    balancer = LoadBalancerSpec(
        mark=place.mark("LoadBalancer"), name="web", internal=False, listeners=two, members=members, network=place.data
    )
    arn = place.balancers.ensure(balancer).ref
    other = Listener(port=80, target=80, health={"protocol": "HTTP", "path": "/ok"}, drain=5)
    place.balancers.ensure(replace(balancer, listeners=(other,), members=()))
    place.account.advance()
    for delete in (
        lambda: place.balancers.delete(arn),
        lambda: place.volumes.delete(volume),
        lambda: place.machines.delete([machine.ref]),
        lambda: place.networks.delete(network.ref),
    ):
        for _ in range(5):
            try:
                delete()
                break
            except Exception:
                place.account.advance()
    for _ in range(3):
        place.account.advance()
    used = {f"{SERVICES[seen.service]}:{seen.action}" for seen in place.account.seen}
    policy = json.loads(POLICY.read_text())
    allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
    assert not [action for action in allowed if "*" in action]
    assert {a for a in used if not any(fnmatch.fnmatchcase(a, b) for b in allowed)} == set()
    unasked = {"iam:PassRole", "iam:CreateServiceLinkedRole", "elasticloadbalancing:AddTags"}  # rights that other requests need
    assert allowed - used - unasked == set()


OURS_ONLY = {"StringLike": {"aws:ResourceTag/kubeup.dev/installation": "*"}}
UNBOUND = ("Describe", "Get", "Create", "RunInstances", "AttachInternetGateway")
"""Beginnings of the actions that look, or make something new."""


def test_the_published_policy_binds_what_changes_or_deletes_to_kubeups_tag(place) -> None:
    for statement in json.loads(POLICY.read_text())["Statement"]:
        condition, about = statement.get("Condition", {}), statement["Resource"]
        for action in statement["Action"]:
            service, _, name = action.partition(":")
            if action in ("ec2:CreateTags", "elasticloadbalancing:AddTags"):
                made = condition.get("StringEquals", {}).get(f"{service}:CreateAction", ())
                assert made or (condition == OURS_ONLY and about.endswith(":volume/*")), action
            elif service == "iam":
                assert set(condition["StringEquals"]) <= {"iam:PassedToService", "iam:AWSServiceName"}, action
            elif service == "ssm":
                assert about == ["arn:aws:ssm:*::parameter/aws/service/*"]
            elif not name.startswith(UNBOUND):
                assert condition == OURS_ONLY, action


def test_tags_are_only_put_on_what_is_being_made_but_on_volumes(place) -> None:
    wanted = VolumeSpec(mark=(mark := place.mark("Volume")), token=mark.maker, name="data", size=2**30, place="us-east-1a")
    place.machine()
    volume = place.volumes.ensure(wanted).ref
    assert place.account.count("CreateTags") == 0
    place.volumes.ensure(replace(wanted, mark=replace(mark, keep=True)))
    assert [seen.params["ResourceId.1"] for seen in place.account.seen if seen.action == "CreateTags"] == [volume.id]

"""What is known to be gone: only what AWS itself said of something that was there before."""

from __future__ import annotations

import pytest
from kubeup_aws.departures import APART, Departures
from kubeup_aws.marks import as_list, tags
from kubeup_core import Blocked, Listener, LoadBalancerSpec, Mark, Phase, Scope, VolumeSpec
from kubeup_core.kinds import Cluster, Installation, LoadBalancer, Machine, Volume
from kubeup_core.testing.harness import Harness

GiB = 2**30


def told(place, sort: str, ref) -> list[Phase]:
    """What an observation says of a doubted id."""
    seen = getattr(place, sort).observe(Scope(installation="ours", doubt=(ref,)))
    return [item.phase for item in seen.items if item.ref.id == ref.id]


def volume(place):
    mark = place.mark("Volume")
    return place.volumes.ensure(VolumeSpec(mark=mark, token=mark.maker, name="data", size=GiB, place="us-east-1a")).ref


def test_a_deleted_volume_is_told_to_be_gone(place) -> None:
    ref = volume(place)
    place.volumes.delete(ref)
    assert told(place, "volumes", ref) == [Phase.GONE]


def test_a_volume_that_this_process_never_saw_is_just_not_listed(place) -> None:
    ref = volume(place)
    place.volumes.delete(ref)
    place.rebuild()
    assert told(place, "volumes", ref) == []


def test_a_network_that_was_deleted_is_told_to_be_gone(place) -> None:
    ref = place.network().ref
    place.networks.delete(ref)
    assert told(place, "networks", ref) == [Phase.GONE]


def test_a_network_in_a_vpc_of_somebody_is_gone_with_its_groups_and_the_vpc_stays(place, account) -> None:
    vpc = account.backend("ec2").create_vpc("172.20.0.0/16")
    account.backend("ec2").create_subnet(vpc.id, "172.20.1.0/24", "us-east-1a")
    ref = place.network(overrides={"vpc": vpc.id}).ref
    place.networks.delete(ref)
    assert told(place, "networks", ref) == [Phase.GONE]
    assert vpc.id in account.everything()


def test_a_balancer_is_told_to_be_gone_when_its_last_part_is(place) -> None:
    place.data = place.data or place.network().data
    spec = LoadBalancerSpec(
        mark=place.mark("LoadBalancer"),
        name="web",
        internal=False,
        network=place.data,
        listeners=(Listener(port=80, target=80),),
    )
    ref = place.balancers.ensure(spec).ref
    with pytest.raises(Blocked):
        place.balancers.delete(ref)
    assert Phase.GONE not in told(place, "balancers", ref)
    for _ in range(3):
        place.account.advance()
    place.balancers.delete(ref)
    assert told(place, "balancers", ref) == [Phase.GONE]


def test_what_was_seen_and_is_not_found_is_believed_to_be_gone_some_seconds_later(place) -> None:
    now = 0.0
    departures, mark = Departures(lambda: now), place.mark("Volume")
    assert not departures.missing(mark, "vol-1"), "it was never there"
    departures.seen(mark, ["vol-1"])
    assert not departures.missing(mark, "vol-1")
    now = APART
    assert departures.missing(mark, "vol-1")
    departures.seen(mark, ["vol-1"])
    assert not departures.missing(mark, "vol-1"), "it was seen again"


@pytest.fixture
def whole(account, tmp_path):
    """A kubeup in this thread with a Provider of that account and Cluster `demo`. .take(holds, limit): seconds until it holds."""
    with Harness(tmp_path, cloud=None) as made:
        spec = {"type": "aws", "zones": ["us-east-1a"], "config": {"region": "us-east-1", "endpointUrl": account.url}}
        made.apply(
            {"kind": "Provider", "metadata": {"name": "aws"}, "spec": spec | {"images": {"debian-12": account.ec2.image}}}
        )
        made.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "aws", "machine": {"cpu": 1}}})
        made.apply({"kind": "NodePool", "metadata": {"name": "w"}, "spec": {"cluster": "demo", "replicas": 2}})
        yield made


def seconds_until(whole, account, holds, limit: float) -> float:
    began = whole.clock.awake()
    while not holds():
        assert whole.clock.awake() - began < limit, whole.diagnosis()
        whole.advance(1.0)
        account.advance()
    return whole.clock.awake() - began


def test_a_cluster_that_has_lived_longer_than_listings_lag_is_gone_within_a_minute(whole, account) -> None:
    """With the default of five minutes: AWS's word on each thing counts, and the proof of the end begins with the last making."""
    attach = {"pool": "w", "slot": 0}
    whole.apply({"kind": "Volume", "metadata": {"name": "data"}, "spec": {"cluster": "demo", "size": "1Gi", "attach": attach}})
    spec = {"cluster": "demo", "listeners": [{"port": 80}], "members": {"selector": {"kubeup.dev/pool": "w"}}}
    whole.apply({"kind": "LoadBalancer", "metadata": {"name": "web"}, "spec": spec})
    seconds_until(whole, account, lambda: [m.status.state for m in whole.machines()] == ["Ready"] * 2, 120)

    def there() -> object:
        return whole.get(LoadBalancer, "web").status.hostname and whole.get(Volume, "data").status.id

    seconds_until(whole, account, there, 120)
    whole.advance(400)
    whole.delete(Cluster, "demo")
    assert seconds_until(whole, account, lambda: whole.find(Cluster, "demo") is None, 900) < 60
    assert not account.everything()


def test_a_part_that_turns_up_after_its_object_is_deleted_and_pauses_nothing(whole, account) -> None:
    whole.apply({"kind": "Cluster", "metadata": {"name": "other"}, "spec": {"provider": "aws", "machine": {"cpu": 1}}})
    whole.apply({"kind": "NodePool", "metadata": {"name": "stays"}, "spec": {"cluster": "other", "replicas": 1}})
    mark = Mark(
        installation=whole.store.installation, cluster=(uid := whole.get(Cluster, "demo").uid), cluster_name="demo",
        kind="Network", maker=uid,
    )  # fmt: skip
    seconds_until(whole, account, lambda: [m.status.state for m in whole.machines()] == ["Ready"] * 3, 120)
    whole.advance(400)
    whole.delete(Cluster, "demo")
    seconds_until(whole, account, lambda: whole.find(Cluster, "demo") is None, 300)
    gateway = account.backend("ec2").create_internet_gateway(tags=as_list(tags(mark, "late"))).id
    seconds_until(whole, account, lambda: gateway not in account.everything(), 120)
    assert not whole.get(Installation, "kubeup").spec.paused
    assert whole.condition(Installation, "kubeup", "MemoryLost") == ("", "", "")


def test_a_machine_that_is_protected_or_that_ec2_ended_says_so(whole, account) -> None:
    seconds_until(whole, account, lambda: [m.status.state for m in whole.machines()] == ["Ready"] * 2, 120)
    kept, ended = whole.machines()
    account.ec2.protected = {kept.status.id}
    whole.delete(Machine, kept.name)
    seconds_until(whole, account, lambda: "termination protection" in whole.condition(Machine, kept.name, "Ready")[2], 60)
    account.ec2.end(ended.status.id, "Server.InternalError", "said so")
    seconds_until(whole, account, lambda: whole.find(Machine, ended.name) is None, 300)
    assert any(said.startswith("Died: ") and "Server.InternalError: said so" in said for said in whole.messages(ended.name))

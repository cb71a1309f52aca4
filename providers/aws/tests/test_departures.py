"""What is known to be gone: only what AWS itself said of something that was there before."""

from __future__ import annotations

import pytest
from kubeup_aws.departures import APART, Departures
from kubeup_core import Blocked, Listener, LoadBalancerSpec, Phase, Scope, VolumeSpec
from kubeup_core.kinds import Cluster, LoadBalancer, Volume
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


def test_a_cluster_that_has_lived_longer_than_listings_lag_is_gone_within_a_minute(account, tmp_path) -> None:
    """With the default of five minutes: AWS's word on each thing counts, and the proof of the end begins with the last making."""
    before = account.everything()
    with Harness(tmp_path, cloud=None) as whole:
        spec = {"type": "aws", "zones": ["us-east-1a"], "config": {"region": "us-east-1", "endpointUrl": account.url}}
        whole.apply(
            {"kind": "Provider", "metadata": {"name": "aws"}, "spec": spec | {"images": {"debian-12": account.ec2.image}}}
        )
        whole.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "aws", "machine": {"cpu": 1}}})
        whole.apply({"kind": "NodePool", "metadata": {"name": "w"}, "spec": {"cluster": "demo", "replicas": 2}})
        attach = {"pool": "w", "slot": 0}
        whole.apply(
            {"kind": "Volume", "metadata": {"name": "data"}, "spec": {"cluster": "demo", "size": "1Gi", "attach": attach}}
        )
        listeners = [{"port": 80, "targetPort": 8080}]
        spec = {"cluster": "demo", "listeners": listeners, "members": {"selector": {"kubeup.dev/pool": "w"}}}
        whole.apply({"kind": "LoadBalancer", "metadata": {"name": "web"}, "spec": spec})

        def seconds_until(holds, limit: float) -> float:
            began = whole.clock.awake()
            while not holds():
                assert whole.clock.awake() - began < limit, whole.diagnosis()
                whole.advance(1.0)
                account.advance()
            return whole.clock.awake() - began

        seconds_until(lambda: [m.status.state for m in whole.machines()] == ["Ready"] * 2, 120)
        seconds_until(lambda: whole.get(LoadBalancer, "web").status.hostname and whole.get(Volume, "data").status.id, 120)
        whole.advance(400)
        whole.delete(Cluster, "demo")
        assert seconds_until(lambda: whole.find(Cluster, "demo") is None, 900) < 60
        assert account.everything() == before

"""The contract tests of the core, against moto's server behind the strict layer (tests/artifacts/strict_aws.py).

Not offered here: a zone that does not answer (the API answers for a region or not at all), launches that are rolled back, names that
somebody holds (EC2 has none).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from kubeup_artifacts.strict_aws import Dropped, StrictAws
from kubeup_aws import AwsConfig, build
from kubeup_aws.marks import name_of
from kubeup_core import Context, Ref
from kubeup_core.testing import LoadBalancerContract, MachineContract, NetworkContract, Rig, VolumeContract

ZONES = ("us-east-1a", "us-east-1b")


def rig(zones: tuple[str, ...] = ZONES) -> Rig:
    aws = StrictAws()
    elsewhere: list[StrictAws] = []

    def suppliers(context: Context, at: StrictAws = aws):
        context = replace(context, zones=zones, images={"debian-12": at.ec2.image}, machine_types=("t3.*",))
        return build(AwsConfig(region=at.region, endpoint_url=at.url), context)

    def other(context: Context):
        elsewhere.append(StrictAws())
        return suppliers(context, elsewhere[-1])

    def close() -> None:
        for place in (aws, *elsewhere):
            place.close()

    @contextmanager
    def no_capacity(room: int):
        aws.ec2.room = room
        yield
        aws.ec2.room = None

    @contextmanager
    def late_refusal():
        aws.ec2.refuse_late = True
        yield
        aws.ec2.refuse_late = False

    def die(ref: Ref) -> None:
        aws.ec2.end(ref.id, "Server.InternalError")

    def existing() -> tuple[dict[str, object], str]:
        vpc = aws.backend("ec2").create_vpc("172.20.0.0/16")
        aws.backend("ec2").create_subnet(vpc.id, "172.20.1.0/24", ZONES[0])
        return {"vpc": vpc.id}, vpc.id

    def broken_page() -> AbstractContextManager[object]:
        aws.ec2.page = 2
        return aws.fault("DescribeInstances", "InternalError", status=500, skip=1)

    def unreachable(place: str) -> AbstractContextManager[object]:
        return aws.fault(".*", Dropped)

    def traffic(ref: Ref) -> set[str]:
        backend = aws.backend("ec2")
        there = [i for r in backend.reservations.values() for i in r.instances]
        names = {i.private_ip: name_of(backend.tags.get(i.id, {}), i.ami_launch_index) for i in there}
        return {names[address] for address in aws.elb.traffic(ref.id)}

    aws.ec2.page = 4
    return Rig(
        build=suppliers,
        advance=aws.advance,
        close=close,
        requests=lambda: len(aws.seen),
        everything=aws.everything,
        elsewhere=other,
        page=4,
        broken_page=broken_page,
        stale=aws.ec2.stale,
        no_capacity=no_capacity,
        late_refusal=late_refusal,
        lost_reply=lambda: aws.changes_lost("after"),
        lost_request=lambda: aws.changes_lost("before"),
        die=die,
        existing_network=existing,
        unreachable=unreachable,
        traffic=traffic,
    )


class TestMachines(MachineContract):
    def supply(self) -> Rig:
        return replace(rig(), unreachable=None)


class TestNetworks(NetworkContract):
    def supply(self) -> Rig:
        return replace(rig(ZONES[:1]), page=None)


class TestVolumes(VolumeContract):
    def supply(self) -> Rig:
        return replace(rig(ZONES[:1]), page=None)


class TestLoadBalancers(LoadBalancerContract):
    def supply(self) -> Rig:
        return replace(rig(ZONES[:1]), page=None)

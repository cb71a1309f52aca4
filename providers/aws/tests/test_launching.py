"""What a RunInstances call says, and what it never says."""

import base64
import gzip
import random
import re
from dataclasses import replace

import pytest
from kubeup_core import InvalidSpec, NotReady


def said(place, launch) -> dict[str, str]:
    place.machines.launch(launch)
    return next(seen.params for seen in reversed(place.account.seen) if seen.action == "RunInstances")


def test_one_call_makes_the_whole_launch_and_tags_all_of_it(place) -> None:
    launch = place.launch(3)
    params = said(place, launch)
    assert place.account.count("RunInstances") == 1
    assert (params["MinCount"], params["MaxCount"], params["ClientToken"]) == ("1", "3", launch.token)
    for number, kind in ((1, "instance"), (2, "volume"), (3, "network-interface")):
        assert params[f"TagSpecification.{number}.ResourceType"] == kind
        tags = {
            params[key]: params[key.replace("Key", "Value")]
            for key in params
            if re.fullmatch(rf"TagSpecification\.{number}\.Tag\.\d+\.Key", key)
        }
        assert (tags["kubeup.dev/maker"], tags["kubeup.dev/kind"]) == (launch.mark.maker, "Machine")
    assert place.account.count("CreateTags") == 0


def test_metadata_needs_a_token_and_disks_are_encrypted(place) -> None:
    params = said(place, place.launch())
    assert params["MetadataOptions.HttpTokens"] == "required"
    assert (params["BlockDeviceMapping.1.Ebs.Encrypted"], params["BlockDeviceMapping.1.Ebs.DeleteOnTermination"]) == (
        "true",
        "true",
    )


def test_overrides_reach_the_call(place) -> None:
    over = {"machineType": "c7i.large", "iamProfile": "nodes", "volumeType": "gp3", "iops": 4000, "kmsKey": "alias/ours"}
    params = said(place, place.launch(want=place.template(overrides=over)))
    assert (params["InstanceType"], params["IamInstanceProfile.Name"]) == ("c7i.large", "nodes")
    disk = {key.rpartition(".")[2]: value for key, value in params.items() if ".Ebs." in key}
    assert (disk["VolumeType"], disk["Iops"], disk["KmsKeyId"]) == ("gp3", "4000", "alias/ours")


@pytest.mark.parametrize(("own", "wanted", "asked"), [
    ("true", None, "true"), ("true", False, "false"), ("false", None, None), ("false", False, "false"), ("false", True, "true"),
])  # fmt: skip
def test_a_machine_gets_a_public_address_as_it_is_wanted_and_else_as_the_network_has_it(place, own, wanted, asked) -> None:
    """own: whether the VPC is the cluster's own. One that is given has a word on this in each subnet."""
    launch = place.launch(want=place.template(public_address=wanted))
    params = said(place, replace(launch, network={**launch.network, "public": own}))
    assert params.get("NetworkInterface.1.AssociatePublicIpAddress") == asked


def test_spot_comes_first_and_on_demand_to_fall_back_on(place) -> None:
    offers = place.machines.offers(place.template(spot=True))
    kinds = [offer.spot for offer in offers]
    assert kinds == sorted(kinds, reverse=True)
    assert {True, False} == set(kinds)
    params = said(place, place.launch(want=place.template(spot=True)))
    assert params["InstanceMarketOptions.MarketType"] == "spot"


def test_user_data_goes_as_it_is_and_compressed_where_it_is_long(place) -> None:
    short, long = b"#cloud-config\n{}\n", b"#cloud-config\n" + b"# a line\n" * 4000
    assert base64.b64decode(said(place, place.launch(user_data=short))["UserData"]) == short
    assert gzip.decompress(base64.b64decode(said(place, place.launch(user_data=long))["UserData"])) == long


def test_user_data_that_is_too_long_even_so_is_a_clear_error_and_makes_nothing(place) -> None:
    noise = random.Random(1).randbytes(20000)
    with pytest.raises(InvalidSpec, match="16384") as raised:
        place.machines.launch(place.launch(user_data=noise))
    assert raised.value.path == "spec.machine.files"
    assert place.account.count("RunInstances") == 0


def test_a_zone_without_a_subnet_is_waited_for(place) -> None:
    with pytest.raises(NotReady, match="us-east-1f"):
        place.machines.launch(place.launch(place="us-east-1f"))


def test_images_are_found_by_their_makers_parameter(place) -> None:
    place.rebuild(images={})
    offers = place.machines.offers(place.template())
    assert {offer.image for offer in offers} == {place.account.ec2.image}
    asked = [seen.params["Name"] for seen in place.account.seen if seen.action == "GetParameter"]
    assert asked == ["/aws/service/debian/release/12/latest/amd64"]


def test_an_unknown_family_is_found_before_anything_is_asked(place) -> None:
    before = place.account.count()
    found = place.machines.check(place.template(image="plan9"))
    assert [problem.path for problem in found] == ["spec.machine.image"]
    assert "debian-12" in found[0].remedy
    assert place.account.count() == before


def test_an_image_that_was_withdrawn_does_not_hide_what_an_earlier_call_made(place) -> None:
    launch = place.launch(2)
    made = [result.id for result in place.machines.launch(launch)]
    place.rebuild()
    with place.account.fault("DescribeImages", "InvalidAMIID.NotFound"):
        again = place.machines.launch(replace(launch))
    assert [result.id for result in again] == made


def test_offers_ask_once_an_hour(place) -> None:
    place.machines.offers(place.template())
    before = place.account.count()
    place.machines.offers(place.template(cpu=4))
    assert place.account.count() == before


def test_machine_types_are_limited_by_the_providers_globs(place) -> None:
    place.rebuild(machine_types=("c7i.*",))
    assert {offer.machine_type.partition(".")[0] for offer in place.machines.offers(place.template())} == {"c7i"}

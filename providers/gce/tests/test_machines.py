"""What is asked of Google for machines: one request for a launch, with everything in it; and how little is asked afterwards."""

from __future__ import annotations

import base64
import gzip
import threading
from dataclasses import replace
from typing import Any

import pytest
from kubeup_core import InvalidSpec, NotReady, Outcome, Phase, Scope
from kubeup_gce import launching, marks

HOME = Scope(installation="home")
GiB = 1024**3


def body(place: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = place.world.items[f"zones/us-central1-a/instances/{name}"].body
    return found


def metadata(place: Any, name: str) -> dict[str, str]:
    return {item["key"]: item["value"] for item in body(place, name)["metadata"]["items"]}


def test_a_machine_has_its_mark_its_network_and_nobodys_rights(place: Any) -> None:
    launch = place.launch(role="controlPlane")
    (state,) = place.run(launch)
    made = body(place, state.name)
    assert marks.mark_of(made["labels"], 0) == launch.member_mark(0)
    assert made["networkInterfaces"][0]["subnetwork"].endswith("/regions/us-central1/subnetworks/" + launch.network["tag"])
    assert made["tags"]["items"] == [launch.network["tag"], f"{launch.network['tag']}-cp"]
    assert "serviceAccounts" not in made
    assert metadata(place, state.name)["block-project-ssh-keys"] == "TRUE"
    disk = place.world.items[f"zones/us-central1-a/disks/{state.name}"].body
    assert (disk["sizeGb"], marks.mark_of(disk["labels"])) == ("20", launch.mark)
    assert state.provider_id == f"gce://{place.world.project}/us-central1-a/{state.name}"
    assert state.access.address == state.external[0]


@pytest.mark.parametrize("user", ["kubeup", "ops"])
def test_kubeup_logs_in_as_the_user_whom_the_guest_agent_makes_for_the_clusters_keys(
    emulator: Any, place: Any, user: str
) -> None:
    inside = type(place)(emulator, ssh_user=user)
    _, network = inside.network(ssh_keys=("ssh-ed25519 AAAA me",))
    (state,) = inside.run(inside.launch(network=network.data))
    assert metadata(inside, state.name)["ssh-keys"] == f"{state.access.user}:ssh-ed25519 AAAA me"
    assert state.access.user == user
    inside.suppliers.close()


def test_machines_of_a_place_without_external_addresses_are_reached_by_their_internal_one(emulator: Any, place: Any) -> None:
    inside = type(place)(emulator, external_addresses=False)
    (state,) = inside.run(inside.launch())
    assert state.external == ()
    assert state.access.address == state.internal[0]
    inside.suppliers.close()


@pytest.mark.parametrize("usual", [True, False])
def test_a_template_has_its_way_about_an_external_address(emulator: Any, place: Any, usual: bool) -> None:
    there = type(place)(emulator, external_addresses=usual)
    for wanted in (True, False):
        (state,) = there.run(there.launch(template=there.template(public_address=wanted)))
        assert bool(state.external) is wanted
        assert ("accessConfigs" in body(there, state.name)["networkInterfaces"][0]) is wanted
    there.suppliers.close()


def test_spot_machines_are_deleted_and_not_stopped_when_they_are_taken(place: Any) -> None:
    (state,) = place.run(place.launch(template=place.template(spot=True)))
    scheduling = body(place, state.name)["scheduling"]
    assert (scheduling["provisioningModel"], scheduling["instanceTerminationAction"]) == ("SPOT", "DELETE")
    assert state.facts["spot"] == "true"


def test_spot_is_offered_first_and_the_same_on_demand_after_it(place: Any) -> None:
    plain = place.suppliers.machines.offers(place.template())
    assert not [offer for offer in plain if offer.spot]
    both = place.suppliers.machines.offers(place.template(spot=True))
    assert both == [*(replace(offer, spot=True, price_per_hour=None) for offer in plain), *plain]


def test_a_machine_that_fell_back_on_demand_is_no_spot_machine(place: Any) -> None:
    template = place.template(spot=True)
    offer = next(o for o in place.suppliers.machines.offers(template) if not o.spot and o.place == "us-central1-a")
    (state,) = place.run(replace(place.launch(template=template), offer=offer))
    assert body(place, state.name).get("scheduling", {}).get("provisioningModel") != "SPOT"
    assert state.facts["spot"] == "false"


def test_user_data_that_is_text_goes_as_it_is_and_what_is_not_in_base64(place: Any) -> None:
    text = b"#cloud-config\nusers: []\n"
    (plain,) = place.run(place.launch(user_data=text))
    assert metadata(place, plain.name)["user-data"] == text.decode()
    packed = gzip.compress(text)
    (squeezed,) = place.run(place.launch(user_data=packed))
    found = metadata(place, squeezed.name)
    assert (base64.b64decode(found["user-data"]), found["user-data-encoding"]) == (packed, "base64")
    assert "cloud-init" in found["startup-script"]


def test_user_data_that_is_too_large_is_refused_before_google_is_asked(place: Any) -> None:
    launch = place.launch(user_data=b"#" * (launching.USER_DATA_LIMIT + 1))
    calls = len(place.world.calls)
    with pytest.raises(InvalidSpec, match="190001"):
        place.suppliers.machines.launch(launch)
    assert len(place.world.calls) == calls


def test_the_end_of_a_name_is_the_machines_index(place: Any) -> None:
    launch = place.launch(12)
    names = [state.name for state in place.run(launch)]
    assert [marks.index_of(name) for name in names] == list(range(12))
    assert all(name.startswith(member.name) for name, member in zip(names, launch.members, strict=True))
    long = marks.machine_name("m" * 80, launch.member_mark(11))
    assert len(long) == 63
    assert marks.index_of(long) == 11


def test_labels_bring_any_mark_back(place: Any) -> None:
    mark = place.mark("Machine", installation="A.b_c", cluster_name="prod.eu", keep=True)
    assert marks.mark_of(marks.labels(mark)) == mark
    assert marks.mark_of({"kubeup-installation": "home"}) is None
    assert marks.mark_in("kubeup {broken") is None


def test_offers_are_the_cheapest_of_each_zone_and_one_of_just_that_size(place: Any) -> None:
    offers = place.suppliers.machines.offers(place.template(cpu=4, memory=5 * GiB))
    assert {offer.place for offer in offers} == {"us-central1-a", "us-central1-b", "us-central1-c"}
    assert offers[0].machine_type == "e2-custom-4-5120"
    assert offers[0].image == "projects/debian-cloud/global/images/debian-12-bookworm-v20261110"
    arm = place.suppliers.machines.offers(place.template(arch="arm64"))
    assert {(offer.machine_type, offer.arch) for offer in arm} >= {("t2a-standard-2", "arm64")}
    assert all("arm64" in offer.image for offer in arm)


def test_a_shared_core_is_not_a_core(place: Any) -> None:
    offers = place.suppliers.machines.offers(place.template(cpu=2, memory=2 * GiB))
    assert not {offer.machine_type for offer in offers} & {"e2-small", "e2-medium"}


def test_a_named_machine_type_is_taken_whatever_its_size(place: Any) -> None:
    want = place.template(overrides={"machineType": "n2-standard-4"})
    assert {offer.machine_type for offer in place.suppliers.machines.offers(want)} == {"n2-standard-4"}


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ({"image": "windows-95"}, "spec.machine.image"),
        ({"overrides": {"machineTyp": "x"}}, "spec.overrides.gce.machineTyp"),
        ({"overrides": {"machineType": "Big One"}}, "spec.overrides.gce.machineType"),
    ],
)
def test_what_can_never_work_is_said_without_asking_google(place: Any, more: dict[str, Any], path: str) -> None:
    calls = len(place.world.calls)
    (problem,) = place.suppliers.machines.check(place.template(**more))
    assert problem.path == path
    assert problem.remedy
    assert len(place.world.calls) == calls


def test_zones_that_the_region_does_not_have_are_a_problem(place: Any) -> None:
    elsewhere = place.build(zones=("europe-west1-b",))
    (problem,) = elsewhere.machines.check(place.template())
    assert problem.path == "spec.zones"
    elsewhere.close()


def test_497_machines_take_three_requests_until_all_run_and_one_for_each_500_to_look_again(place: Any) -> None:
    launch = place.launch(497)
    before = len(place.world.calls)
    place.suppliers.machines.launch(launch)
    for _ in range(5):
        place.world.advance()
    results = place.suppliers.machines.lookup(launch)
    assert {r.outcome for r in results} == {Outcome.MADE}
    assert place.world.calls[before:] == ["instances.bulkInsert", "zoneOperations.list", "instances.list"]
    place.suppliers.machines.observe(HOME)  # the first look is one for disks without a machine, too
    before = len(place.world.calls)
    seen = place.suppliers.machines.observe(HOME).items
    assert {state.phase for state in seen} == {Phase.RUNNING}
    assert len(place.world.calls) == before + 1


def test_who_waits_for_the_charges_is_never_throttled(place: Any) -> None:
    """The place's buckets: one for each group of requests, and a little larger, for the requests that are under way."""
    size, refill, workers = 4.0, 1.0, 8
    left: dict[str, tuple[float, float]] = {}
    lock = threading.Lock()

    def charge(bucket: str, amount: float) -> None:
        with lock:
            tokens, at = left.get(bucket, (size, place.world.now()))
            while (now := min(size, tokens + (place.world.now() - at) * refill)) < amount:
                place.world.advance()
            left[bucket] = (now - amount, place.world.now())

    launch = place.launch(40)
    place.suppliers.close()
    place.suppliers = place.build(charge=charge)
    place.world.rate = (size + workers, refill)
    states = place.run(launch)
    results = place.suppliers.machines.delete([state.ref for state in states])
    assert [result.error for result in results] == [None] * 40
    place.world.advance(5)
    assert not place.of(launch)
    assert left.keys() <= place.suppliers.capabilities.budgets.keys()
    assert place.world.refused == 0


def test_who_does_not_wait_for_them_is_throttled(place: Any) -> None:
    launch = place.launch(40)
    states = place.run(launch)
    place.world.rate = (12, 1)
    results = place.suppliers.machines.delete([state.ref for state in states])
    assert {type(result.error) for result in results} == {NotReady, type(None)}


def test_the_console_is_that_of_the_serial_port(place: Any) -> None:
    (state,) = place.run(place.launch())
    assert place.suppliers.machines.console(state.ref, 7) == "login: "


def test_the_boot_is_told_apart_from_the_next(place: Any) -> None:
    launch = place.launch()
    (state,) = place.run(launch)
    assert state.boot_id
    assert replace(state, boot_id="") != state

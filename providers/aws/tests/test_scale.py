"""How often AWS is asked when there are many machines: by the whole core, on a clock that is moved, within EC2's published limits."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from kubeup_core import NotReady, Scope
from kubeup_core.testing.harness import Harness

MACHINES = ("RunInstances", "CreateTags", "CreateFleet", "DescribeInstances", "DescribeInstanceStatus", "DescribeVolumes")
ZONES = ["us-east-1a", "us-east-1b", "us-east-1c"]
BOOT = 20.0
"""Seconds until an instance runs."""


@pytest.fixture
def whole(account, tmp_path, monkeypatch: pytest.MonkeyPatch):
    """A kubeup in this thread with a Provider of that account. Instances run BOOT seconds after they were made; limits are enforced."""
    from kubeup_artifacts.strict_buckets import Buckets

    with Harness(tmp_path, cloud=None) as made:
        account.buckets = Buckets(made.clock.awake)
        config = {"region": "us-east-1", "endpointUrl": account.url}
        spec = {
            "type": "aws",
            "zones": ZONES,
            "config": config,
            "images": {"debian-12": account.ec2.image},
            "limits": {"machines": 1000},
        }
        made.apply({"kind": "Provider", "metadata": {"name": "aws"}, "spec": spec})
        made.apply({"kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"provider": "aws", "machine": {"cpu": 1}}})
        yield made


def run(whole, account, running, seconds: float) -> None:
    """Until it holds, with instances that take their time."""
    end, since = whole.clock.awake() + seconds, None
    while not running():
        assert whole.clock.awake() < end, whole.diagnosis()
        whole.advance(1.0)
        if account.ec2.starting() and since is None:
            since = whole.clock.awake()
        if since is not None and whole.clock.awake() - since >= BOOT:
            account.advance()
            since = None


def ready(whole, count: int) -> bool:
    machines = whole.machines()
    return len(machines) == count and all(m.status.state == "Ready" for m in machines)


def test_497_machines_take_ten_requests_until_all_of_them_run(whole, account) -> None:
    before = account.count(*MACHINES)
    whole.apply({"kind": "NodePool", "metadata": {"name": "workers"}, "spec": {"cluster": "demo", "replicas": 497}})
    run(whole, account, lambda: ready(whole, 497), 600)
    print(account.actions())
    print(f"all of them were Ready after {whole.clock.awake():.0f} s")
    assert account.count(*MACHINES) - before <= 10
    assert account.buckets.throttled == 0


def test_many_launches_at_once_are_never_throttled(whole, account) -> None:
    """Each pool is a launch of its own, and the limit lets five through at once."""
    for number in range(12):
        whole.apply({"kind": "NodePool", "metadata": {"name": f"p{number}"}, "spec": {"cluster": "demo", "replicas": 1}})
    run(whole, account, lambda: ready(whole, 12), 300)
    assert account.count("RunInstances") == 12
    assert account.buckets.throttled == 0


def test_who_does_not_wait_is_throttled(place, account) -> None:
    """What the test above proves something by."""
    from kubeup_artifacts.strict_buckets import Buckets

    launches = [place.launch(1) for _ in range(6)]
    account.buckets = Buckets(lambda: 0.0)
    for launch in launches[:5]:
        place.machines.launch(launch)
    with pytest.raises(NotReady, match="limit exceeded"):
        place.machines.launch(launches[5])
    assert account.buckets.throttled == 1


def test_the_budget_of_machines_is_that_which_ec2_publishes_and_is_charged_to_its_end() -> None:
    """A launch of a thousand empties the bucket, which fills at two a second. kubeup's figure and the layer's were written apart."""
    from kubeup_artifacts.strict_buckets import MACHINES as PUBLISHED
    from kubeup_artifacts.strict_buckets import Buckets
    from kubeup_aws.budgets import BUDGETS, bucket

    for action, call in (("RunInstances", "run_instances"), ("TerminateInstances", "terminate_instances")):
        charged = dict(bucket("ec2", call, 1000))
        (name,) = [name for name in charged if name.endswith("-machines")]
        assert (charged[name], BUDGETS[name]) == (1000.0, PUBLISHED[action])
    now = [0.0]
    theirs, launch = Buckets(lambda: now[0]), SimpleNamespace(service="ec2", action="RunInstances", params={"MaxCount": "1000"})
    assert not theirs.refuses(launch)
    now[0] = 10.0
    launch.params = {"MaxCount": "21"}
    assert theirs.refuses(launch)
    launch.params = {"MaxCount": "20"}
    assert not theirs.refuses(launch)


@pytest.mark.parametrize(
    ("told", "volumes"),
    [
        ({"EbsInfo": {"MaximumEbsAttachments": 128, "AttachmentLimitType": "dedicated"}}, 127),
        ({"EbsInfo": {"MaximumEbsAttachments": 28, "AttachmentLimitType": "shared"}}, 26),
        ({"EbsInfo": {}, "InstanceStorageInfo": {"Disks": [{"Count": 2}, {"Count": 1}]}}, 23),
        ({}, 26),
    ],
    ids=["of its own", "shared", "with instance stores", "not told"],
)
def test_as_many_volumes_fit_as_the_type_has_slots_left(told: dict[str, object], volumes: int) -> None:
    from kubeup_aws.catalog import _max_volumes

    assert _max_volumes(told) == volumes


def test_a_recheck_of_5000_machines_takes_five_requests(place, account) -> None:
    """4999 of them are listed after the likeness of one, which moto alone would need minutes for."""
    (made,) = place.machines.launch(place.launch(1))
    account.ec2.copies[made.id] = 4999
    before = account.count()
    assert len(place.machines.observe(Scope(installation="ours")).items) == 5000
    assert account.count() - before == account.count("DescribeInstances") == 5

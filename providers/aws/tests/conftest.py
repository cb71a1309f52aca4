"""What the tests of this provider share: a skip when it is not installed, and an account of its own behind the strict layer."""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

MISSING = [name for name in ("boto3", "kubeup_aws", "moto") if importlib.util.find_spec(name) is None]


class Skipped(pytest.Module):
    def collect(self) -> NoReturn:
        pytest.skip(f"not installed: {', '.join(MISSING)}", allow_module_level=True)


def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    return Skipped.from_parent(parent, path=module_path) if MISSING else None


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may find those of a person."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")


@pytest.fixture
def account() -> Iterator[object]:
    from kubeup_artifacts.strict_aws import StrictAws

    aws = StrictAws()
    yield aws
    aws.close()


@pytest.fixture
def place(account):
    """Suppliers in that account. .launch(count, ...) a launch in its network; .context() as they were built with."""
    import uuid
    from dataclasses import replace
    from types import SimpleNamespace

    from kubeup_aws import AwsConfig, build
    from kubeup_core import Context, Launch, Mark, Member, NetworkSpec, Scope, Template

    def mark(kind: str, maker: str = ""):
        maker = maker or str(uuid.uuid4())
        return Mark(installation="ours", cluster="c1", cluster_name="demo", kind=kind, maker=maker)

    def rebuild(**context: object):
        given = {"installation": "ours", "images": {"debian-12": account.ec2.image}, "zones": ("us-east-1a", "us-east-1b")}
        place.suppliers = build(AwsConfig(region="us-east-1", endpoint_url=account.url), Context(**{**given, **context}))
        place.machines, place.networks = place.suppliers.machines, place.suppliers.networks
        place.volumes, place.balancers = place.suppliers.volumes, place.suppliers.load_balancers
        built.append(place.suppliers)

    def network(**given: object):
        spec = NetworkSpec(**{"mark": mark("Network"), "name": "demo", **given})
        return place.networks.ensure(spec)

    def template(**given: object):
        return Template(**{"cpu": 1, "memory": 2**30, "disk": 10 * 2**30, "arch": "", "image": "debian-12", **given})

    def launch(count: int = 1, *, want=None, network=None, user_data: bytes = b"", **offer: object):
        want = want or template()
        place.data = place.data or place.network().data
        chosen = replace(place.machines.offers(want)[0], **offer)
        own = mark("Machine")
        members = tuple(Member(name=f"web-{own.maker[:4]}{i}") for i in range(count))
        return Launch(
            mark=own, token=own.maker, template=want, offer=chosen, role="worker", members=members, user_data=user_data,
            network=network or place.data,
        )  # fmt: skip

    def machine():
        wanted = launch()
        result = place.machines.launch(wanted)[0]
        account.advance()
        return next(s for s in place.machines.observe(Scope(installation="ours")).items if s.ref.id == result.id)

    built: list = []
    place = SimpleNamespace(
        account=account,
        mark=mark,
        rebuild=rebuild,
        network=network,
        template=template,
        launch=launch,
        machine=machine,
        data=None,
    )
    rebuild()
    yield place
    for suppliers in built:
        suppliers.close()

"""kubeup-sim: a cloud that exists only here, with capacity, latency, faults and virtual time, as a kubeup provider.

The core finds it by its entry point. `cloud/` is the place, `client.py` the door to it, and each supplier is a module beside it.
"""

from __future__ import annotations

from functools import partial

from kubeup_core import ProviderRegister, hookimpl
from kubeup_core.supplier import Capabilities, Context, Identity, Problem, Suppliers

from .client import BUCKET, Client
from .cloud import FAULTS, Cloud, CloudError, Console, Fault, Settings, open_cloud
from .config import SimConfig, SimOverrides
from .load_balancers import LoadBalancers
from .machines import Machines
from .networks import Networks
from .volumes import Volumes

__all__ = [
    "Cloud",
    "CloudError",
    "Console",
    "FAULTS",
    "Fault",
    "Settings",
    "SimConfig",
    "SimOverrides",
    "build",
    "open_cloud",
]


@hookimpl
def kubeup_register_providers(register: ProviderRegister) -> None:
    register.provider(type="sim", config=SimConfig, overrides=SimOverrides, build=build)


def build(config: SimConfig, context: Context) -> Suppliers:
    """The suppliers of the account that the credentials lead to now (the fault `identity` leads them elsewhere)."""
    cloud = open_cloud(config.file, config.account, config.region)
    cloud.configure(config.behaviour())
    cloud.faults.plant(config.faults)
    client = Client(cloud, context)
    key = client.whoami()
    if key != cloud.key:
        client = Client(open_cloud(config.file, key.partition("/")[0], config.region), context)
    settings = client.settings()
    return Suppliers(
        identity=Identity(key=f"sim:{key}", principal=f"simulated account {key.partition('/')[0]}"),
        capabilities=_capabilities(settings),
        machines=Machines(client, context),
        networks=Networks(client),
        load_balancers=LoadBalancers(client),
        volumes=None if settings.attach == "none" else Volumes(client),
        probe=partial(_probe, client, key),
    )


def _capabilities(settings: Settings) -> Capabilities:
    rate = settings.requests_per_second
    return Capabilities(
        batch_limit=settings.batch_limit,
        user_data_limit=settings.user_data_limit,
        settle=settings.settle,
        token_life=settings.token_life,
        whoami="hostname",
        access=settings.access,
        console=settings.console,
        reboot=True,
        reusable=bool(settings.hosts),
        attach=settings.attach,
        members_by=frozenset({"machine", "address"}),
        budgets={BUCKET: (max(rate, 1.0), rate)} if rate is not None else {},
    )


def _probe(client: Client, key: str) -> tuple[Problem, ...]:
    """Whether the credentials still lead to the account that they led to at the build."""
    now = client.whoami()
    if now == key:
        return ()
    return (
        Problem(
            path="spec.credentials",
            message=f"the credentials lead to account {now} now, not to {key}",
            remedy="restore the credentials, or make another Provider for the other account",
        ),
    )

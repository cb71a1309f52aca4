"""Puts the suppliers of one region together. Called by `build` in the package's root, which keeps the SDK out of imports."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from kubeup_core import Capabilities, Context, Identity, InvalidSpec, Problem, Suppliers

from . import client, config, marks
from .catalog import Catalog
from .launching import USER_DATA_LIMIT
from .load_balancers import GceLoadBalancers
from .machines import GceMachines
from .networks import GceNetworks
from .volumes import GceVolumes

WORKERS = 8
"""Deletions and look-ups at once: Google has no request that deletes several machines."""

CAPABILITIES = Capabilities(
    batch_limit=1000,
    user_data_limit=USER_DATA_LIMIT,
    token_life=3600.0,
    whoami=marks.WHOAMI,
    access="ssh",
    console=True,
    reboot=True,
    attach="live",
    members_by=frozenset({"machine"}),
    budgets=client.BUDGETS,
)


def suppliers(settings: config.GceConfig, context: Context) -> Suppliers:
    if context.profile:
        raise InvalidSpec(
            "Google's credentials know no profiles",
            path="spec.credentials",
            remedy="use source: ambient, or source: secret with a service account's key file",
        )
    region = config.region(settings)
    credentials, of_credentials, principal = client.credentials(settings.endpoint, context.secrets)
    project = config.project(settings, of_credentials)
    compute = client.Compute(project, region, credentials, settings.endpoint, context.charge)
    workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="gce")

    def close() -> None:
        workers.shutdown(wait=False, cancel_futures=True)
        compute.close()

    try:
        zones = [link.rpartition("/")[2] for link in _region(compute)["zones"]]
    except BaseException:
        close()
        raise

    def probe() -> list[Problem]:
        return [problem for quota in _region(compute).get("quotas", ()) if (problem := _spent(quota)) is not None]

    catalog = Catalog(compute, context, sorted(zones))
    return Suppliers(
        identity=Identity(key=f"gce:{project}/{region}", principal=principal),
        capabilities=replace(CAPABILITIES, settle=settings.settle),
        machines=GceMachines(compute, catalog, settings, workers),
        networks=GceNetworks(compute),
        load_balancers=GceLoadBalancers(compute, catalog.zones),
        volumes=GceVolumes(compute, catalog.zones),
        probe=probe,
        close=close,
    )


def _region(compute: client.Compute) -> client.Record:
    found = compute.get("Regions", region=compute.region)
    if found is None:
        raise InvalidSpec(
            f"project {compute.project} has no region {compute.region}",
            path="spec.config.region",
            remedy="gcloud compute regions list shows those that there are",
        )
    return found


def _spent(quota: client.Record) -> Problem | None:
    """A quota that is used up, before a launch runs into it."""
    limit, usage = float(quota.get("limit", 0)), float(quota.get("usage", 0))
    if limit == 0 or usage < limit:
        return None
    return Problem(
        path="",
        message=f"the quota {quota.get('metric')} of this region is used up: {usage:g} of {limit:g}",
        remedy="ask Google for a higher one, or free some",
    )

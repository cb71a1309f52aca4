"""Puts the suppliers of one account and region together. Called by `build` in the package's root, which imports this late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kubeup_core import Capabilities, Context, Denied, Identity, Problem, Suppliers

from .budgets import BUDGETS
from .catalog import PRICES, Catalog
from .client import Aws
from .config import AwsConfig
from .images import Images
from .launching import USER_DATA_BYTES
from .load_balancers import AwsLoadBalancers
from .machines import PAGE, AwsMachines
from .networks import AwsNetworks
from .volumes import AwsVolumes

TOKEN_LIFE = 86400.0
"""Seconds for which EC2 promises to know a ClientToken."""

WHOAMI = """\
h=http://169.254.169.254/latest
t=$(curl -sf -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $h/api/token) &&
curl -sf -m 5 -H "X-aws-ec2-metadata-token: $t" $h/meta-data/ami-launch-index ||
cloud-init query ds.meta_data.ami_launch_index"""

CAPABILITIES = Capabilities(
    batch_limit=PAGE,
    user_data_limit=USER_DATA_BYTES,
    token_life=TOKEN_LIFE,
    whoami=WHOAMI,
    access="ssh",
    console=True,
    reboot=True,
    attach="live",
    members_by=frozenset({"machine", "address"}),
    budgets=BUDGETS,
    facts={"prices": f"{PRICES['region']}, {PRICES['date']}"},
)


def suppliers(config: AwsConfig, context: Context) -> Suppliers:
    aws = Aws(config, context)
    try:
        identity = _identity(aws)
    except BaseException:
        aws.close()
        raise
    catalog = Catalog(aws, context.zones)
    machines = AwsMachines(aws, catalog, Images(aws, catalog, context.images), context.machine_types)

    def probe() -> Sequence[Problem]:
        """Credentials may change under a running process: another account would honestly report that nothing is there."""
        now = _identity(aws)
        if now.key != identity.key:
            raise Denied(
                f"the credentials are of {now.key} now ({now.principal}), not {identity.key}",
                remedy="bring the former credentials back, or make another Provider for the other account",
            )
        catalog.zones()
        return ()

    return Suppliers(
        identity=identity,
        capabilities=replace(CAPABILITIES, settle=config.settle),
        machines=machines,
        networks=AwsNetworks(aws, catalog),
        load_balancers=AwsLoadBalancers(aws),
        volumes=AwsVolumes(aws, catalog, machines.owned),
        probe=probe,
        close=aws.close,
    )


def _identity(aws: Aws) -> Identity:
    who = aws.read("sts", "get_caller_identity")
    return Identity(key=f"{who['Account']}/{aws.region}", principal=who["Arn"])

"""`build`: the suppliers of one inventory. It asks no host anything: that comes when it matters."""

from __future__ import annotations

from kubeup_core import Capabilities, Context, Identity, Suppliers

from .config import SshConfig
from .doors import Doors
from .fleet import BUDGET, Fleet
from .inventory import hosts
from .machines import SshMachines
from .volumes import SshVolumes

CAPABILITIES = Capabilities(
    access="execute",
    reboot=True,
    reusable=True,
    attach="live",
    budgets={BUDGET: (2000.0, 500.0)},
)


def suppliers(config: SshConfig, context: Context) -> Suppliers:
    """Raises InvalidSpec for an inventory, or a key, that cannot be read."""
    found = hosts(config)
    doors = Doors(config, context.secrets, len(found))
    for host in found.values():
        doors.prepare(host)
    fleet = Fleet(found, doors, context.charge)
    return Suppliers(
        identity=Identity(key=f"ssh:{context.provider or context.installation}", principal=_principal(fleet)),
        capabilities=CAPABILITIES,
        machines=SshMachines(fleet, context),
        volumes=SshVolumes(fleet),
        close=fleet.close,
    )


def _principal(fleet: Fleet) -> str:
    users = sorted({host.user for host in fleet.hosts.values()})
    return f"{', '.join(users)} on {len(fleet.hosts)} hosts"

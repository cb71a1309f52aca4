"""`build`: one connection, what libvirt says about itself, and the suppliers that share both."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from kubeup_core import Capabilities, Context, Denied, Identity, InvalidSpec, NotFound, Problem, Suppliers

from .client import BUDGET, Hypervisor
from .config import LibvirtConfig
from .images import Images
from .machines import LibvirtMachines
from .networks import LibvirtNetworks
from .records import Place
from .volumes import LibvirtVolumes

WORKERS = 4

USER_DATA_BYTES = 1 << 20
"""Nothing in libvirt limits it; this is what a boot can bear."""


def suppliers(config: LibvirtConfig, context: Context) -> Suppliers:
    hypervisor = Hypervisor(config.uri, config.pool, context.charge)
    try:
        place = _place(hypervisor, config)
    except BaseException:
        hypervisor.close()
        raise
    images = Images(hypervisor, config.image, context.images)
    workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="libvirt")
    machines = LibvirtMachines(hypervisor, place, images, config, workers)

    def probe() -> list[Problem]:
        now = _place(hypervisor, config)
        if now.identity != place.identity:
            raise Denied(
                f"another storage pool {config.pool} answers at {config.uri} now: {now.identity}, not {place.identity}",
                remedy="make another Provider for it, or bring the former one back",
            )
        if config.acceleration == "kvm" and not now.kvm:
            message = f"{now.hostname} cannot do KVM"
            return [Problem(path="spec.config.acceleration", message=message, remedy="set it to auto, for emulation")]
        return []

    def close() -> None:
        images.close()
        workers.shutdown(wait=False, cancel_futures=True)
        hypervisor.close()

    return Suppliers(
        identity=Identity(key=f"libvirt:{place.identity}", principal=config.uri),
        capabilities=Capabilities(
            batch_limit=10,
            user_data_limit=USER_DATA_BYTES,
            attach="live",
            addresses=True,
            whoami="hostname",
            access="ssh",
            console=True,
            reboot=True,
            budgets={BUDGET: (1000.0, 500.0)},
            facts={
                "libvirt": place.version,
                "host": place.hostname,
                "kvm": "yes" if place.kvm else "no",
                "cpus": str(place.cpus),
                "memoryMiB": str(place.memory >> 20),
            },
        ),
        machines=machines,
        networks=LibvirtNetworks(hypervisor, place),
        volumes=LibvirtVolumes(hypervisor, place, config.pool),
        probe=probe,
        close=close,
    )


def _place(hypervisor: Hypervisor, config: LibvirtConfig) -> Place:
    try:
        place = hypervisor.place()
    except NotFound as error:
        raise InvalidSpec(
            f"{config.uri} has no storage pool {config.pool}",
            path="spec.config.pool",
            code=error.code,
            remedy=f"virsh pool-define-as {config.pool} dir --target /var/lib/libvirt/images; virsh pool-start {config.pool}; "
            f"virsh pool-autostart {config.pool}",
        ) from error
    if not place.pool_path.startswith("/"):
        raise InvalidSpec(f"storage pool {config.pool} is not made of files", path="spec.config.pool", remedy="name a dir pool")
    return place

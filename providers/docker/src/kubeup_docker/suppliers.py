"""Puts the suppliers of one engine together. Called by `build` in the package's root, which keeps the SDK out of imports."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from kubeup_core import Capabilities, Context, Denied, Identity, Problem, Suppliers

from .client import BUDGET, Engine
from .config import DockerConfig
from .images import Images
from .limits import facts, identity, limits, problems
from .machines import DockerMachines
from .networks import DockerNetworks
from .volumes import DockerVolumes

WORKERS = 4
"""Removals and inspections at once: most of their time is waiting for the engine."""

USER_DATA_BYTES = 1 << 20
"""Nothing in an engine limits it; this is what a boot can bear."""

CAPABILITIES = Capabilities(
    batch_limit=10,
    user_data_limit=USER_DATA_BYTES,
    attach="launch",
    addresses=True,
    whoami="hostname",
    access="execute",
    console=True,
    reboot=True,
    budgets={BUDGET: (1000.0, 500.0)},
)


def suppliers(config: DockerConfig, context: Context) -> Suppliers:
    engine = Engine(config.host, context.charge)
    try:
        found = limits(engine.info(), engine.url)
    except BaseException:
        engine.close()
        raise
    images = Images(engine, config.image, context.images)
    workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="docker")

    def same() -> None:
        """Another engine at the same address would honestly report that no machine is there."""
        if (now := identity(engine.info())) != found.key:
            raise Denied(
                f"another Docker engine answers at {engine.url} now: {now}, not {found.key}",
                remedy="start the former engine again, or make another Provider for the new one",
            )

    def probe() -> list[Problem]:
        same()
        return problems(limits(engine.info(), engine.url))

    def close() -> None:
        images.close()
        workers.shutdown(wait=False, cancel_futures=True)
        engine.close()

    principal = f"{'the user of a rootless engine' if found.rootless else 'root'} on {engine.url}"
    return Suppliers(
        identity=Identity(key=found.key, principal=principal),
        capabilities=replace(CAPABILITIES, facts=facts(found)),
        machines=DockerMachines(engine, found, images, workers, same),
        networks=DockerNetworks(engine, found, same),
        volumes=DockerVolumes(engine, found, same),
        probe=probe,
        close=close,
    )

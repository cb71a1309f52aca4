"""`make local`: from a bare machine to a Kubernetes cluster on it, with the example for Docker. And `make local-down`.

Does all of the set-up that it can, and says so before: as root on Debian it installs the engine and mmdebstrap, and starts the
engine. The image of machines is made by the docker provider. Kubernetes is the community's where that answers; where it does not,
it is built once from Debian's source package into the cache of artifacts, and becomes a bundle. What it cannot do it says at once.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from . import engine, system
from .build import CannotBuild, cache
from .bundle_inputs import bundle_inputs
from .images import architecture
from .kubernetes import VERSIONS, kept
from .progress import say, step

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "docker.yaml"
IMAGES = "https://registry.k8s.io/v2/"
CONFIG = {"imageRepository": "kubeup.local", "images": {"etcd": "3.4.23-0"}, "dns": False, "minimumDisk": "512Mi"}
"""What a cluster built from Debian's source differs in: its own images, Debian's etcd, and no CoreDNS, which Debian has not."""

ENGINE = ("docker.io", "iptables", "mmdebstrap")
BUILD = ("golang-go", "gcc", "libc6-dev", "dpkg-dev", "golang-github-modern-go-reflect2-dev")
ENGINE_SECONDS = 60.0
IMAGE_SECONDS = 75.0
SYSTEMD = Path("/run/systemd/system")


@dataclass(frozen=True)
class Facts:
    """What this machine has. lacks: those of ENGINE and BUILD that are not here. built: Kubernetes lies in the cache."""

    installs: bool
    engine: bool
    community: bool
    built: bool
    lacks: frozenset[str]


@dataclass(frozen=True)
class Plan:
    """install: Debian packages. missing: what a person has to do first; then nothing else is done."""

    install: tuple[str, ...] = ()
    start_engine: bool = False
    build: bool = False
    missing: tuple[str, ...] = ()


def decide(facts: Facts) -> Plan:
    """What has to be done, or what stands in the way. Pure."""
    wanted = ["mmdebstrap"] if facts.engine else list(ENGINE)
    build = not facts.community
    if build and not facts.built:
        wanted += BUILD
    lacking = tuple(package for package in wanted if package in facts.lacks)
    if lacking and not facts.installs:
        missing = [
            f"{' '.join(lacking)}: as root on Debian they are installed here; `sudo make local`, or sudo apt-get install"
        ]
        if not facts.engine:
            missing.append("a Docker engine that answers: start Docker, or set DOCKER_HOST")
        if build and not facts.built:
            missing.append(f"the community's packages ({packages()}) or, without them, a Debian with its sources")
        return Plan(missing=tuple(missing))
    if not facts.engine and not facts.installs:
        return Plan(missing=("a Docker engine that answers: start Docker, or set DOCKER_HOST; as root it is started here",))
    return Plan(install=lacking, start_engine=not facts.engine, build=build)


def packages() -> str:
    """The first file that machines ask the community for, of the version in the example."""
    from kubeup_kubeadm.sources import COMMUNITY

    (cluster,) = [d for d in yaml.safe_load_all(EXAMPLE.read_text()) if d["kind"] == "Cluster"]
    minor = cluster["spec"]["kubernetes"]["version"].removeprefix("v").rpartition(".")[0]
    return COMMUNITY.format(minor=minor, format="deb") + "Release.key"


def manifest(text: str, bundle: Mapping[str, str] | None) -> str:
    """The example, as it is or with a bundle (`path`, `sha256`) of the version that was built."""
    if bundle is None:
        return text
    documents = list(yaml.safe_load_all(text))
    (cluster,) = [d for d in documents if d["kind"] == "Cluster"]
    cluster["spec"]["kubernetes"] = {"version": VERSIONS[0], "bundle": dict(bundle), "config": CONFIG}
    return str(yaml.safe_dump_all(documents, sort_keys=False))


def up() -> int:
    """The exit code."""
    facts = look()
    plan = decide(facts)
    if plan.missing:
        print("This machine lacks:", *(f"  - {one}" for one in plan.missing), sep="\n", file=sys.stderr)
        return 1
    for line in told(plan):
        say(line)
    if plan.install:
        install(plan.install)
    if plan.start_engine:
        start_engine()
    machine_image()
    file = folder() / "cluster.yaml"
    file.write_text(manifest(EXAMPLE.read_text(), bundle() if plan.build else None))
    run([command("kubeup"), "up", "-f", str(file), "--timeout", "20m"])
    kubeconfig = run([command("kubeup"), "kubeconfig", "local"], capture=True).strip()
    run([command("kubectl"), "get", "nodes", "-o", "wide"], {"KUBECONFIG": kubeconfig.partition("KUBECONFIG=")[2].strip("'")})
    print(f"\n{kubeconfig}\nmake local-down takes it away again; the engine and the cache in {cache()} stay.")
    return 0


def down() -> int:
    file = folder() / "cluster.yaml"
    if not file.exists():
        print("make local has not been run here: there is nothing to take away", file=sys.stderr)
        return 1
    run([command("kubeup"), "down", "-f", str(file), "--yes", "--volumes"])
    return 0


def look() -> Facts:
    lacks = frozenset(system.missing()) & {*ENGINE, *BUILD}
    community = answers(IMAGES) and answers(packages())
    return Facts(system.can_install(), bool(engine.answering()), community, kept() is not None, lacks)


def told(plan: Plan) -> list[str]:
    lines = []
    if plan.install:
        lines.append(f"installs from Debian: {', '.join(plan.install)}")
    if plan.start_engine:
        lines.append("starts the Docker engine")
    if plan.build:
        lines.append(
            f"takes Kubernetes {VERSIONS[0]} out of Debian's source package, as the community's packages do not answer"
        )
    return lines


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status < 400)
    except OSError:
        return False


def install(wanted: Sequence[str]) -> None:
    """Raises CannotBuild."""
    try:
        with step("Debian packages", about=5 + 5 * len(wanted)):
            system.install(list(wanted))
    except (OSError, system.CannotInstall) as error:
        raise CannotBuild(str(error)) from error


def machine_image() -> None:
    """Raises CannotBuild."""
    from kubeup_docker.__main__ import image

    with step("Image of machines", about=IMAGE_SECONDS) as now:
        problem = image(tell=lambda what: setattr(now, "note", what))
    if problem:
        raise CannotBuild(problem)


def start_engine() -> subprocess.Popen[bytes] | None:
    """As a service where systemd runs, else by hand, in a session of its own so that it outlives this: that process.

    Raises CannotBuild.
    """
    log = folder() / "dockerd.log"
    daemon = None
    if SYSTEMD.is_dir():
        if subprocess.run(["systemctl", "start", "docker"], check=False).returncode != 0:
            raise CannotBuild("the Docker engine does not start; see `systemctl status docker`")
    else:
        with log.open("wb") as out:
            daemon = subprocess.Popen(
                [system.find("dockerd") or "dockerd"], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )
        say(f"the engine is process {daemon.pid}; its log is {log}")
    until = time.monotonic() + ENGINE_SECONDS
    while not engine.answering():
        if daemon is not None and daemon.poll() is not None:
            said = log.read_text(errors="replace").strip()[-1500:]
            raise CannotBuild(f"the Docker engine ended at once, with code {daemon.returncode}:\n{said}")
        if time.monotonic() > until:
            raise CannotBuild(f"the Docker engine does not answer at {engine.DEFAULT}; see {log} or `systemctl status docker`")
        time.sleep(0.2)
    return daemon


def bundle() -> dict[str, str]:
    """Path and hash of the archive that holds what was built. Raises CannotBuild."""
    from kubeup_kubeadm.bundle import create, file_hash

    inputs = bundle_inputs(VERSIONS[0])
    file = folder() / f"{inputs.name}.tar"
    if not file.exists():
        unfinished = file.with_suffix(".new")
        create(inputs, VERSIONS[0], architecture(), unfinished)
        unfinished.rename(file)
    return {"path": str(file), "sha256": file_hash(file)}


def folder() -> Path:
    """Where the cluster's file, its bundle and the engine's log lie: $KUBEUP_LOCAL, else beside the cache."""
    found = Path(os.environ.get("KUBEUP_LOCAL") or cache().parent / "local")
    found.mkdir(parents=True, exist_ok=True)
    return found


def command(name: str) -> str:
    """Of this virtual environment."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or name


def run(arguments: list[str], more: Mapping[str, str] | None = None, *, capture: bool = False) -> str:
    """Raises CannotBuild when it fails; what it printed stands above."""
    environment = {**os.environ, **(more or {})}
    done: Any = subprocess.run(arguments, env=environment, stdout=subprocess.PIPE if capture else None, text=True, check=False)
    if done.returncode != 0:
        raise CannotBuild(f"{' '.join(map(str, arguments[-3:]))} ended with code {done.returncode}; its reason stands above")
    return done.stdout or ""

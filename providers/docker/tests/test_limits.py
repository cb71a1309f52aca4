"""What is read off an engine and its kernel, without one."""

from __future__ import annotations

import pytest
from kubeup_core import NoCapacity, Template
from kubeup_docker.limits import identity, limits, missing_from, problems, refused

INFO = {
    "ID": "AAAA",
    "DockerRootDir": "/var/lib/docker",
    "Name": "laptop",
    "Architecture": "x86_64",
    "NCPU": 2,
    "MemTotal": 25 * 2**30,
    "CpuCfsPeriod": True,
    "CpuCfsQuota": True,
    "MemoryLimit": True,
    "LoggingDriver": "json-file",
}
NO_ENGINE = "unix:///nowhere.sock"


def want(cpu: float = 1, memory: int = 2**30, arch: str = "") -> Template:
    return Template(cpu=cpu, memory=memory, disk=0, arch=arch, image="debian-12")


def test_two_engines_of_one_host_are_two() -> None:
    assert identity(INFO) != identity(INFO | {"DockerRootDir": "/srv/docker"})
    assert identity(INFO) != identity(INFO | {"ID": "BBBB"})


@pytest.mark.parametrize("fits", [want(), want(cpu=2), want(memory=27 * 2**30), want(arch="amd64")])
def test_what_fits_on_the_host(fits: Template) -> None:
    """Sizes are nominal: a 27 GiB machine fits on a host that says 25."""
    assert limits(INFO, NO_ENGINE).lacking(fits) is None


@pytest.mark.parametrize("large", [want(cpu=3), want(memory=28 * 2**30), want(arch="arm64")])
def test_what_exceeds_the_host_is_no_capacity_there(large: Template) -> None:
    lacking = limits(INFO, NO_ENGINE).lacking(large)
    assert isinstance(lacking, NoCapacity)
    assert lacking.scope.place == "laptop"
    assert "laptop" in lacking.message


def test_the_capabilities_outside_of_the_bounding_set_are_named() -> None:
    assert missing_from("Name:\tdockerd\nCapBnd:\t000001fffeffffff\n") == {"SYS_RESOURCE"}
    assert missing_from("CapBnd:\t000001ffffffffff\n") == frozenset()
    assert missing_from("") == frozenset()


def test_only_what_was_asked_for_is_refused_and_all_means_all() -> None:
    withheld = frozenset({"SYS_RESOURCE", "BPF"})
    assert refused(["NET_ADMIN"], withheld) == []
    assert refused(["SYS_RESOURCE"], withheld) == ["SYS_RESOURCE"]
    assert refused(["ALL"], withheld) == ["BPF", "SYS_RESOURCE"]


def test_an_engine_that_cannot_limit_is_a_problem_that_is_told() -> None:
    lame = INFO | {"MemoryLimit": False, "CpuCfsQuota": False, "Warnings": ["WARNING: bridge-nf-call-iptables is disabled"]}
    found = limits(lame, NO_ENGINE)
    assert (found.limits_cpu, found.limits_memory) == (False, False)
    told = " ".join(problem.message for problem in problems(found))
    assert "cannot limit the CPU" in told
    assert "cannot limit the memory" in told
    assert "bridge-nf-call-iptables" in told
    assert problems(limits(INFO, NO_ENGINE)) == []

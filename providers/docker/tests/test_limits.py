"""What is read off an engine and its kernel, without one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kubeup_core import NoCapacity, Template
from kubeup_docker.limits import facts, identity, limits, missing_from, problems, refused

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
    "CgroupVersion": "2",
    "ServerVersion": "24.0.1",
    "KernelVersion": "0.0.1-of-another-machine",
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


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"rootless": True}, "is rootless"),
        ({"withheld": frozenset({"SYS_ADMIN", "SYSLOG"})}, "cannot give SYS_ADMIN:"),
        ({"cgroups": ""}, "older than Docker 20.10"),
    ],
)
def test_an_engine_on_which_systemd_cannot_run_is_told_with_what_to_do(changed: dict, told: str) -> None:
    found = replace(limits(INFO, NO_ENGINE), **changed)
    problem = found.no_systemd()
    assert problem is not None
    assert told in problem.message
    assert problem.remedy
    assert problem in problems(found)
    assert facts(found)["systemdMachines"] == "no"
    assert limits(INFO, NO_ENGINE).no_systemd() is None


def test_a_kernel_that_will_not_bear_many_machines_is_told() -> None:
    low = replace(limits(INFO, NO_ENGINE), kernel={"inotifyInstances": "128", "br_netfilter": "no", "ip_vs": "no"})
    told = {problem.message.split(":")[0]: problem.remedy for problem in problems(low)}
    assert told["fs.inotify.max_user_instances is 128 on laptop, for all machines together"].endswith("=8192")
    assert "the kernel of laptop has no br_netfilter" in told
    assert len(told) == 2  # ip_vs is a matter of taste: a fact, not a problem


def test_the_facts_say_what_was_found_and_what_cannot_be_known_from_here() -> None:
    found = facts(limits(INFO, NO_ENGINE))
    assert (found["engine"], found["cgroups"], found["rootless"]) == ("Docker 24.0.1", "v2", "no")
    assert found["capabilitiesWithheld"] == "not known from here"

"""What is read off a kernel, from folders that look like /proc and /sys; and the words of an engine about time."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from kubeup_docker.kernel import facts
from kubeup_docker.machines import at_least


def write(root: Path, path: str, content: str | bytes) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_a_kernel_that_tells_its_configuration(tmp_path: Path) -> None:
    write(tmp_path, "proc/config.gz", gzip.compress(b"CONFIG_VXLAN=y\nCONFIG_OVERLAY_FS=m\n# CONFIG_IP_VS is not set\n"))
    write(tmp_path, "proc/sys/net/bridge/bridge-nf-call-iptables", "1\n")
    write(tmp_path, "proc/sys/fs/inotify/max_user_instances", "128\n")
    assert facts(tmp_path) == {
        "br_netfilter": "yes",
        "ip_vs": "no",
        "overlay": "module",
        "vxlan": "yes",
        "inotifyInstances": "128",
    }


def test_a_kernel_with_modules(tmp_path: Path) -> None:
    write(tmp_path, "proc/sys/kernel/osrelease", "6.1.0-9-amd64\n")
    write(tmp_path, "lib/modules/6.1.0-9-amd64/modules.dep", "kernel/net/netfilter/ipvs/ip_vs.ko.xz: kernel/x.ko\n")
    write(tmp_path, "lib/modules/6.1.0-9-amd64/modules.builtin", "kernel/fs/overlayfs/overlay.ko\n")
    (tmp_path / "sys/module/vxlan").mkdir(parents=True)
    assert facts(tmp_path) == {"ip_vs": "module", "overlay": "yes", "vxlan": "yes"}


def test_what_cannot_be_told_is_left_out(tmp_path: Path) -> None:
    assert facts(tmp_path) == {}


@pytest.mark.parametrize(
    ("words", "low", "high"),
    [
        ("Up Less than a second", 0, 0),
        ("Up 5 seconds", 3, 5),
        ("Up About a minute", 40, 60),
        ("Up 2 hours", 4000, 5400),
        ("Up About an hour (healthy)", 2000, 3600),
        ("Up 3 days (Paused)", 100_000, 3 * 86400),
        ("Up since ever", 0, 0),
    ],
)
def test_the_engines_words_are_a_lower_bound_of_the_time_that_a_container_has_run(words: str, low: float, high: float) -> None:
    assert low <= at_least(words) <= high


def test_a_container_that_does_not_run_needs_no_second_look() -> None:
    assert at_least("Exited (0) 3 seconds ago") == float("inf")

"""What people may write, and what they are told when it is wrong; how the plugin introduces itself."""

from __future__ import annotations

import subprocess
import sys

import pytest
from kubeup_core.plugin_config import validate
from kubeup_docker import DockerConfig, DockerOverrides, build, kubeup_register_providers
from kubeup_docker.config import overrides


def test_the_plugin_registers_one_type_whose_config_needs_no_field() -> None:
    calls = []

    class Register:
        def provider(self, **given: object) -> None:
            calls.append(given)

    kubeup_register_providers(Register())
    assert calls == [{"type": "docker", "config": DockerConfig, "overrides": DockerOverrides, "build": build, "ambient": True}]
    assert DockerConfig() == DockerConfig(host=None, image=None)


def test_introducing_the_plugin_does_not_import_the_sdk() -> None:
    code = "import sys, kubeup_docker; sys.exit('docker' in sys.modules or 'requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("host", ["localhost", "http://x", "unix://", "ssh://me@there", "tcp://"])
def test_a_host_that_is_no_engine_url_is_refused(host: str) -> None:
    problems = validate(DockerConfig, {"host": host}, "spec.config")
    assert isinstance(problems, tuple)
    assert problems[0].path == "spec.config.host"
    assert "looks like unix:///var/run/docker.sock" in problems[0].message


def test_a_misspelt_override_is_named() -> None:
    problems = overrides({"imgae": "x"})
    assert isinstance(problems, list)
    assert problems[0].path == "spec.overrides.docker.imgae"
    assert "image" in problems[0].remedy


@pytest.mark.parametrize(("written", "read"), [("NET_ADMIN", "NET_ADMIN"), ("cap_sys_admin", "SYS_ADMIN")])
def test_capabilities_may_be_written_both_ways(written: str, read: str) -> None:
    parsed = overrides({"capabilities": [written], "securityOptions": ["seccomp=unconfined"]})
    assert isinstance(parsed, DockerOverrides)
    assert (parsed.capabilities, parsed.security_options) == ([read], ["seccomp=unconfined"])


@pytest.mark.parametrize("bad", [{"capabilities": ["NET ADMIN"]}, {"command": []}, {"image": ""}, {"image": 5}])
def test_wrong_overrides_are_refused(bad: dict[str, object]) -> None:
    assert isinstance(overrides(bad), list)

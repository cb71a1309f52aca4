"""spec.kubernetes.config: what is accepted, and what the refusal says."""

import pytest
from kubeup_kubeadm import KubeadmConfig
from pydantic import ValidationError


def test_nothing_has_to_be_written():
    config = KubeadmConfig.model_validate({})
    assert (config.image_repository, config.proxy_mode, config.dns, config.minimum_disk_mib) == (
        "registry.k8s.io",
        "iptables",
        True,
        4096,
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"imageRepositry": "x"}, "Extra inputs"),
        ({"ignorePreflightErrors": [{"name": "all", "reason": "x"}]}, "name them one by one"),
        ({"ignorePreflightErrors": [{"name": "Swap"}]}, "Field required"),
        ({"ignorePreflightErrors": [{"name": "Swap; reboot", "reason": "x"}]}, "match pattern"),
        ({"etcd": {"endpoints": ["10.0.0.1:2379"]}}, "https://host:2379"),
        ({"etcd": {"endpoints": []}}, "at least 1 item"),
        ({"etcd": {"endpoints": ["http://10.0.0.1:2379"]}}, "are to be https"),
        ({"registryMirrors": {"../etc": ["http://a"]}}, "is not a registry's name"),
        ({"registryMirrors": {"docker.io": ["a"]}}, "is not a URL"),
        ({"kubelet": {"kind": "X"}}, "kind and apiVersion are kubeup's"),
        ({"minimumDisk": "4GB"}, "match pattern"),
        ({"proxyMode": "userspace"}, "Input should be"),
        ({"extraArgs": {"apiServer": {"--audit-log-path": "/a"}}}, "write it without dashes before it, as in 'audit-log-path'"),
        ({"extraArgs": {"kubelet": {"-v": "4"}}}, "'-v' is not a flag's name"),
        ({"extraArgs": {"etcd": {"a=b": "4"}}}, "is not a flag's name"),
        ({"initTimeout": 5}, "greater than or equal to 30"),
    ],
)
def test_what_cannot_be_is_refused(config, message):
    with pytest.raises(ValidationError, match=message):
        KubeadmConfig.model_validate(config)


def test_the_plugin_registers_its_bootstrapper():
    from kubeup_core.plugins import discover

    found = discover()
    assert not [broken for broken in found.broken if "kubeadm" in broken.distribution]
    kind = found.bootstrapper("kubeadm")
    assert kind.config is KubeadmConfig
    assert kind.build().newest().startswith("v1.")


def test_an_etcd_that_is_somebody_elses_has_no_members_here(plan):
    from kubeup_kubeadm import build

    outside = {"endpoints": ["http://10.0.0.1:2379"], "caFile": "", "certFile": "", "keyFile": ""}
    assert build().etcd_list(plan(config={"etcd": outside})) == ""
    assert build().etcd_list(plan()) != ""

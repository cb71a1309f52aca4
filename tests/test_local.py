"""`make local`: what it would do on different machines, and the cluster that it declares."""

from __future__ import annotations

import yaml
from kubeup_artifacts.local import BUILD, ENGINE, EXAMPLE, Facts, decide, manifest, told

NOTHING = frozenset({*ENGINE, *BUILD})


def facts(**given: object) -> Facts:
    whole = {"installs": True, "engine": False, "community": True, "built": False, "lacks": frozenset(ENGINE), **given}
    return Facts(**whole)  # type: ignore[arg-type]


def test_a_bare_debian_as_root_gets_an_engine_and_the_communitys_kubernetes() -> None:
    plan = decide(facts())
    assert plan.install == ("docker.io", "iptables", "mmdebstrap")
    assert plan.start_engine
    assert not plan.build
    assert not plan.missing


def test_without_the_community_kubernetes_is_built_once() -> None:
    assert {"golang-go", "dpkg-dev"} <= set(decide(facts(community=False, lacks=NOTHING)).install)
    again = decide(facts(community=False, built=True, lacks=frozenset(BUILD)))
    assert again.build
    assert again.install == ()


def test_an_engine_that_answers_is_used_and_not_installed() -> None:
    plan = decide(facts(engine=True, lacks=frozenset({"docker.io"})))
    assert plan.install == ()
    assert not plan.start_engine


def test_who_may_install_nothing_is_told_all_that_is_missing_at_once() -> None:
    plan = decide(facts(installs=False, community=False, lacks=NOTHING))
    text = "\n".join(plan.missing)
    for word in ("docker.io", "mmdebstrap", "golang-go", "DOCKER_HOST", "sudo make local", "pkgs.k8s.io"):
        assert word in text
    assert not plan.install


def test_an_installed_engine_that_does_not_run_is_a_persons_to_start_unless_root() -> None:
    assert "start Docker" in decide(facts(installs=False, lacks=frozenset())).missing[0]
    assert decide(facts(lacks=frozenset())).start_engine


def test_it_says_beforehand_what_it_will_do() -> None:
    lines = told(decide(facts(community=False, lacks=NOTHING)))
    assert "docker.io" in lines[0]
    assert "starts the Docker engine" in lines
    assert "source package" in lines[-1]


def test_the_cluster_is_the_example_and_with_a_bundle_only_its_kubernetes_differs() -> None:
    text = EXAMPLE.read_text()
    assert manifest(text, None) == text
    before, after = (list(yaml.safe_load_all(t)) for t in (text, manifest(text, {"path": "/b.tar", "sha256": "0" * 64})))
    assert after[0]["spec"].pop("kubernetes")["bundle"] == {"path": "/b.tar", "sha256": "0" * 64}
    before[0]["spec"].pop("kubernetes")
    assert before == after

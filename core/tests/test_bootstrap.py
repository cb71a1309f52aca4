"""What is there before anybody asks, and a store that was restored."""

from __future__ import annotations

from typing import Any

from kubeup_core.bootstrap import bootstrap
from kubeup_core.kinds import Installation


def test_the_default_namespace_and_the_installation_are_there(api: Any) -> None:
    assert api.get("Namespace", "default")["status"]["phase"] == "Active"
    installation = api.get("Installation", "kubeup")
    assert installation["status"]["id"] == api.store.installation
    assert installation["spec"]["paused"] is False


def test_doing_it_again_changes_nothing(api: Any) -> None:
    rv = api.store.rv()
    api.clock.advance(100)
    bootstrap(api.verbs, now=api.clock.wall())
    assert api.store.rv() == rv


def test_a_restored_store_is_paused_and_says_what_to_do_until_a_person_goes_on(api: Any) -> None:
    api.store.restored = True
    made = bootstrap(api.verbs, now=api.clock.wall())
    assert made.spec.paused
    ready = made.status.condition("Ready")
    assert ready is not None
    assert (ready.status, ready.reason) == ("False", "Restored")
    assert "set spec.paused to false" in ready.message
    assert made.status.restored_at == "2027-01-15T08:00:00Z"
    bootstrap(api.verbs, now=api.clock.wall())
    assert api.client.get(Installation, "kubeup").spec.paused, "a restart is not a person"
    api.patch("Installation", "kubeup", {"spec": {"paused": False}})
    going = bootstrap(api.verbs, now=api.clock.wall())
    assert going.status.is_true("Ready")
    assert going.status.restored_at == "2027-01-15T08:00:00Z"


def test_a_second_restore_pauses_again(api: Any) -> None:
    for _ in range(2):
        api.store.restored = True
        api.clock.advance(3600)
        made = bootstrap(api.verbs, now=api.clock.wall())
        assert made.spec.paused
        api.patch("Installation", "kubeup", {"spec": {"paused": False}})
    assert made.status.restored_at == "2027-01-15T10:00:00Z"

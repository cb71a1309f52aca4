"""Which member of etcd may be taken out: never one without which the others could lose their quorum."""

import pytest
from kubeup_core.bootstrapper import EtcdMember
from kubeup_core.controllers.etcd import member_of, refusal
from kubeup_core.kinds import Machine


def members(*names: str, learner: str = "") -> list[EtcdMember]:
    return [EtcdMember(id=f"id-{n}", name=n, address=f"10.0.0.{i}", learner=n == learner) for i, n in enumerate(names)]


@pytest.mark.parametrize(
    ("names", "leaving", "ready", "may"),
    [
        ("abc", "a", "bc", True),
        ("abc", "a", "b", False),
        ("abc", "a", "", False),
        ("ab", "a", "b", True),
        ("ab", "a", "", False),
        ("abcd", "a", "bc", True),
        ("abcd", "a", "b", False),
        ("abcde", "a", "bcde", True),
        ("abcde", "a", "bcd", True),
        ("abcde", "a", "bc", False),
    ],
)
def test_a_member_goes_only_while_the_rest_has_a_working_quorum(names: str, leaving: str, ready: str, may: bool) -> None:
    found = members(*names)
    why = refusal(found, next(m for m in found if m.name == leaving), set(ready))
    assert (why == "") is may
    if not may:
        assert "it goes by itself when they do" in why
        assert all(name in why for name in set(names) - {leaving} - set(ready))


def test_a_learner_has_no_vote_and_may_always_go() -> None:
    found = members("a", "b", learner="b")
    assert refusal(found, found[1], set()) == ""


def test_a_learner_does_not_count_for_the_quorum_of_others() -> None:
    found = members("a", "b", "c", learner="c")
    assert refusal(found, found[0], {"b", "c"}) == ""
    assert refusal(found, found[0], {"c"}) != ""


def test_a_member_that_never_started_is_known_by_its_address() -> None:
    machine = Machine.model_validate(
        {
            "metadata": {"name": "demo-control-plane-2", "namespace": "default"},
            "spec": {"cluster": "demo"},
            "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.7"}]},
        }
    )
    unstarted = EtcdMember(id="x", name="", address="10.0.0.7")
    named = EtcdMember(id="y", name="demo-control-plane-2", address="10.0.0.9")
    assert member_of([unstarted], machine) is unstarted
    assert member_of([named], machine) is named
    assert member_of([EtcdMember(id="z", name="other", address="10.0.0.7")], machine) is None

"""Two machines that share one address: real HAProxy and keepalived, each in a network namespace of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from kubeup_core import InvalidSpec, Phase, Ref, Scope

OURS = Scope(installation="inst")


@pytest.fixture
def serving(pair: Any, servers: Any, supplier: Any, wish: Any, ask: Any, settled: Any) -> Callable[[], Any]:
    """The pair serves; .holder and .other are its machines now, .ask() asks the shared address."""
    one, two = servers("one", address=pair.ours[0]), servers("two", address=pair.ours[1])
    a, b = pair.boxes
    want = wish(a, one, two, address=pair.address)
    want = replace(want, hosts=(a.host(want.mark), b.host(want.mark)))
    balancers = supplier(a, b, mark=want.mark, hosts=2)
    pair.want, pair.balancers = want, balancers
    pair.ask = lambda: ask(pair.address)
    pair.holders = lambda: [box for box in pair.boxes if box.holds(pair.address)]

    def start() -> Any:
        settled(lambda: set(balancers.ensure(want).members.values()) == {"healthy"} and len(pair.holders()) == 1)
        (pair.holder,) = pair.holders()
        pair.other = next(box for box in pair.boxes if box is not pair.holder)
        settled(lambda: pair.ask() in ("one", "two"))
        return pair

    return start


def _for(seconds: float) -> Iterator[None]:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        yield


def test_one_of_the_two_has_the_address_and_both_would_answer(serving: Any) -> None:
    it = serving()
    state = it.balancers.ensure(it.want)
    assert (state.phase, state.addresses) == (Phase.RUNNING, (it.address,))
    (seen,) = it.balancers.observe(OURS).items
    assert (seen.addresses, set(seen.members.values())) == ((it.address,), {"healthy"})
    assert all(len(box.pids("haproxy")) >= 1 for box in it.boxes)


def test_when_a_machine_dies_the_other_one_has_the_address(serving: Any, settled: Any) -> None:
    it = serving()
    it.holder.cable(plugged=False)
    began = time.monotonic()
    settled(lambda: it.other.holds(it.address) and it.ask() in ("one", "two"))
    print(f"the address moved and was answered again after {time.monotonic() - began:.1f} s")
    it.holder.cable(plugged=True)
    settled(lambda: len(it.holders()) == 1)


def test_when_haproxy_ends_the_address_goes_to_the_other_machine(serving: Any, settled: Any) -> None:
    it = serving()
    it.holder.kill("haproxy")
    settled(lambda: it.holders() == [it.other])
    settled(lambda: it.ask() in ("one", "two"))


def test_a_keepalived_that_is_killed_leaves_no_second_address(serving: Any, settled: Any) -> None:
    it = serving()
    before = set(it.holder.pids("keepalived"))
    it.holder.kill("keepalived")
    settled(lambda: it.other.holds(it.address))
    settled(lambda: len(it.holders()) == 1)
    settled(lambda: set(it.holder.pids("keepalived")) - before)  # it runs again
    settled(lambda: len(it.holders()) == 1 and it.ask() in ("one", "two"))


def test_changes_reach_both_and_the_address_stays_where_it_is(serving: Any) -> None:
    it = serving()
    before = [box.pids("keepalived") for box in it.boxes]
    texts = [(box.folder / "etc/kubeup/haproxy/keepalived.conf").read_text() for box in it.boxes]
    fewer = replace(it.want, members=it.want.members[:1])
    assert set(it.balancers.ensure(fewer).members) == {"one"}
    assert [box.pids("keepalived") for box in it.boxes] == before, "what decides about the address was not touched"
    assert [(box.folder / "etc/kubeup/haproxy/keepalived.conf").read_text() for box in it.boxes] == texts
    assert {it.ask() for _ in range(6)} - {""} == {"one"}


def test_with_one_machine_left_it_still_serves(serving: Any, settled: Any) -> None:
    it = serving()
    it.holder.cable(plugged=False)
    alone = replace(it.want, hosts=tuple(h for h in it.want.hosts if h.ref.id == it.other.id))
    assert it.balancers.ensure(alone).phase is Phase.RUNNING
    settled(lambda: it.other.holds(it.address) and it.ask() in ("one", "two"))


def test_when_kubeup_does_not_reach_the_holder_the_other_one_takes_changes_and_not_the_address(
    serving: Any, settled: Any
) -> None:
    """Its sshd has died, and nothing else."""
    it = serving()
    told = tuple(sorted(box.address for box in it.boxes))
    fewer = replace(it.want, members=it.want.members[:1], neighbours=told)
    alone = replace(fewer, hosts=tuple(h for h in fewer.hosts if h.ref.id == it.other.id))
    assert set(it.balancers.ensure(alone).members) == {"one"}
    for _ in _for(5):  # nearly three times as long as it waits for a sign of life
        it.holders()
    settled(lambda: len(it.holders()) == 1)


def test_one_that_comes_when_the_holder_cannot_be_told_takes_the_address_over(serving: Any, settled: Any) -> None:
    """The holder does not speak to it, and lets go when it hears the newer one."""
    it = serving()
    older = replace(it.want, hosts=tuple(h for h in it.want.hosts if h.ref.id == it.holder.id), neighbours=(it.holder.address,))
    it.other.execute("kill $(cat $KUBEUP_ROOT/run/kubeup-haproxy/keepalived.pid)")
    assert it.balancers.ensure(older).phase is Phase.RUNNING
    newer = replace(it.want, hosts=tuple(h for h in it.want.hosts if h.ref.id == it.other.id))
    it.balancers.ensure(replace(newer, neighbours=(it.holder.address, it.other.address)))
    settled(lambda: it.holders() == [it.other])


def test_one_that_is_alone_still_speaks_to_nobody_by_multicast(boxes: Any, servers: Any, wish: Any) -> None:
    from kubeup_haproxy import pairs

    box = boxes()
    want = wish(box, servers("one"), address="10.0.0.9")
    lines = [line.strip() for line in pairs.render(want, want.hosts[0], "10.0.0.9").splitlines()]
    assert lines[lines.index("unicast_peer {") + 1] == "192.0.2.1"
    near = pairs.render(replace(want, neighbours=("127.0.0.77", box.address)), want.hosts[0], "10.0.0.9")
    assert "    127.0.0.77\n  }" in near


def test_after_its_end_nothing_is_left_on_either_machine(serving: Any, settled: Any) -> None:
    it = serving()
    state = it.balancers.ensure(it.want)
    it.balancers.delete(Ref(id=state.ref.id, mark=it.want.mark))
    settled(lambda: it.holders() == [] and not any(box.pids("keepalived") or box.pids("haproxy") for box in it.boxes))
    assert [sorted(box.left()) for box in it.boxes] == [[], []]
    assert it.balancers.observe(OURS).items == ()


def test_a_machine_that_is_given_back_is_wiped_whoever_it_was_lent_to(serving: Any, settled: Any) -> None:
    from kubeup_core import Context
    from kubeup_haproxy import HaproxyConfig, build

    it = serving()
    made = build(HaproxyConfig(hosts=2), Context(installation="inst"))
    code, output = it.holder.execute(made.capabilities.clean)
    made.close()
    assert code == 0, output
    settled(lambda: it.holders() == [it.other])
    assert it.holder.left() == set()


def test_a_pair_without_an_address_is_refused(boxes: Any, servers: Any, supplier: Any, wish: Any) -> None:
    box = boxes()
    with pytest.raises(InvalidSpec, match="no address to share") as caught:
        supplier(box, hosts=2).ensure(wish(box, servers("one")))
    assert caught.value.path == "spec.address"

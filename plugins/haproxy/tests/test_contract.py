"""The contract tests of the core, with real HAProxy processes on machines that are folders of this one.

Not offered here: pages, as each machine answers whole or not at all.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from kubeup_core import Context, NotReady, Ref, Suppliers, Unknown
from kubeup_core.testing import LoadBalancerContract, Rig
from kubeup_haproxy import HaproxyConfig, build

CHANGES = ("apply", "remove")


class TestLoadBalancers(LoadBalancerContract):
    @pytest.fixture(autouse=True)
    def _on_this_machine(self, boxes: Callable[..., Any], servers: Callable[..., Any], ask: Callable[..., str]) -> None:
        self.boxes, self.servers, self.ask = boxes, servers, ask

    def supply(self) -> Rig:
        made: list[Any] = []
        members = [self.servers(name, port=6443).member() for name in ("one", "two")]

        def suppliers(context: Context) -> Suppliers:
            # A machine goes with its balancer, so those that have nothing any more are no longer lent.
            lent = replace(context, hosts=lambda: tuple(box.host() for box in made if (box.folder / "etc/kubeup").exists()))
            return build(HaproxyConfig(), lent)

        def hosts() -> list[Any]:
            made.append(self.boxes())
            return [made[-1].host()]

        def traffic(ref: Ref) -> set[str]:
            address = next(b.address for b in made if ref.mark.maker in _owner(b))
            return {self.ask(address, 6443) for _ in range(12)} - {""}

        @contextmanager
        def failing(moment: str, error: Exception, verbs: tuple[str, ...] = ()) -> Iterator[None]:
            def strike(verb: str) -> None:
                if not verbs or verb in verbs:
                    raise error

            struck = list(made)
            for box in struck:
                setattr(box, moment, strike)
            yield
            for box in struck:
                setattr(box, moment, lambda verb: None)

        return Rig(
            build=suppliers,
            advance=lambda: time.sleep(0.05),
            patience=200,
            overrides={"listen": "address"},
            network={},
            hosts=hosts,
            balancer_members=lambda: members,
            traffic=traffic,
            everything=lambda: {name for box in made for name in box.left()},
            requests=lambda: sum(len(box.calls) for box in made),
            unreachable=lambda place: failing("before", NotReady("no answer")),
            lost_reply=lambda: failing("after", Unknown("the connection was lost"), CHANGES),
            lost_request=lambda: failing("before", Unknown("the connection was lost"), CHANGES),
        )


def _owner(box: Any) -> str:
    mark = box.folder / "etc/kubeup/haproxy/mark"
    return mark.read_text() if mark.exists() else ""

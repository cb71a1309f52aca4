"""haproxy.cfg: the same for the same wish, and every part of a wish is in it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kubeup_core import InvalidSpec, LBMember, Listener, LoadBalancerSpec, Mark
from kubeup_haproxy.config import HaproxyOverrides, overrides
from kubeup_haproxy.rendering import check, render, shape

MARK = Mark(installation="i", cluster="c", cluster_name="demo", kind="LoadBalancer", maker="m")
HEALTH = {
    "protocol": "HTTPS", "path": "/readyz", "port": "6443", "interval": "10", "timeout": "5", "healthy": "2", "unhealthy": "3",
}  # fmt: skip
WANT = LoadBalancerSpec(
    mark=MARK, name="api", internal=False, listeners=(Listener(port=443, target=6443, health=HEALTH),),
    members=(LBMember(key="b", ref=None, address="10.0.0.2"), LBMember(key="a", ref=None, address="10.0.0.1")),
)  # fmt: skip

API = """\
# Written by kubeup for load balancer api. It is written anew at every change.
global
    log stderr format raw local0 notice
    stats socket unix@run/kubeup-haproxy/admin.sock mode 600 level admin expose-fd listeners
    server-state-file run/kubeup-haproxy/servers
    hard-stop-after 3600s
    max-spread-checks 500
    user haproxy
    group haproxy

defaults
    mode tcp
    log global
    option dontlognull
    option clitcpka
    option srvtcpka
    option redispatch
    retries 3
    load-server-state-from-file global
    timeout connect 5s
    timeout client 3600s
    timeout server 3600s
    timeout tunnel 3600s

frontend in-443
    bind *:443
    default_backend to-443

backend to-443
    balance leastconn
    timeout check 5000ms
    option httpchk
    http-check send meth GET uri "/readyz" ver HTTP/1.1 hdr Host api
    http-check expect status 200-399
    server a 10.0.0.1:6443 check inter 10000ms fastinter 1000ms rise 2 fall 3 check-ssl verify none
    server b 10.0.0.2:6443 check inter 10000ms fastinter 1000ms rise 2 fall 3 check-ssl verify none
"""


def rendered(want: LoadBalancerSpec = WANT, **settings: object) -> str:
    return render(want, overrides(settings), "10.0.0.9")


def test_an_api_endpoint() -> None:
    assert rendered() == API


def test_the_order_of_members_and_listeners_changes_nothing() -> None:
    more = (*WANT.listeners, Listener(port=80, target=8080))
    turned = replace(WANT, members=WANT.members[::-1], listeners=more[::-1])
    assert rendered(turned) == rendered(replace(WANT, listeners=more))


def test_an_internal_one_listens_on_its_own_address_only() -> None:
    assert "bind 10.0.0.9:443\n" in rendered(replace(WANT, internal=True))
    assert "bind 10.0.0.9:443\n" in rendered(listen="address")


def test_addresses_of_ipv6_are_in_brackets() -> None:
    want = replace(WANT, members=(LBMember(key="a", ref=None, address="fd00::1"),))
    assert "server a [fd00::1]:6443" in rendered(want)


def test_networks_are_an_acl_unless_anybody_may_come() -> None:
    assert "acl allowed src 10.0.0.0/8 192.0.2.0/24\n" in rendered(replace(WANT, allow_from=("192.0.2.0/24", "10.0.0.0/8")))
    assert "acl" not in rendered(replace(WANT, allow_from=("10.0.0.0/8", "0.0.0.0/0")))


def test_who_drains_has_no_weight_and_the_shape_stays() -> None:
    draining = replace(WANT, members=tuple(replace(m, drain=m.key == "a") for m in WANT.members))
    assert rendered(draining).count("weight 0") == 1
    assert shape(draining, HaproxyOverrides(), "x") == shape(WANT, HaproxyOverrides(), "x")
    assert shape(replace(WANT, name="other"), HaproxyOverrides(), "x") != shape(WANT, HaproxyOverrides(), "x")


def test_an_old_process_has_the_drain_time_at_least() -> None:
    assert "hard-stop-after 7201s" in rendered(replace(WANT, listeners=(replace(WANT.listeners[0], drain=7200.0),)))


@pytest.mark.parametrize("path", ["/a b", '/"', "/$HOME", "/x\\"])
def test_a_path_stays_one_word(path: str) -> None:
    line = next(li for li in rendered(_with(path=path)).splitlines() if "uri" in li)
    word = line.partition(" uri ")[2].rpartition(" ver ")[0]
    assert word.startswith('"')
    assert word.endswith('"')
    assert "$HOME" not in word.replace("\\$HOME", "")


def test_a_path_with_a_line_end_is_refused() -> None:
    with pytest.raises(InvalidSpec) as caught:
        rendered(_with(path="/\n    server evil 192.0.2.1:80"))
    assert caught.value.path == "spec.health.path"


def test_a_network_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidSpec) as caught:
        check(replace(WANT, allow_from=("10.0.0.0/8", "everywhere")))
    assert caught.value.path == "spec.allowFrom[1]"


def _with(**health: str) -> LoadBalancerSpec:
    return replace(WANT, listeners=(replace(WANT.listeners[0], health={**HEALTH, **health}),))

"""haproxy.cfg for a wish: pure and deterministic, so that an equal wish is an equal file and nothing is reloaded for it.

Paths in it are relative to the machine's root, where HAProxy is started: `guest.sh` says where things lie. Used by `balancers.py`.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterator
from dataclasses import replace

from kubeup_core import InvalidSpec, LBMember, Listener, LoadBalancerSpec

from .config import HaproxyOverrides

RUN = "run/kubeup-haproxy"
ETC = "etc/kubeup/haproxy"

LONGEST = 3600
"""Seconds for which a process that was replaced by a reload keeps its connections at least; the drain time, when that is longer."""


def check(want: LoadBalancerSpec) -> None:
    """Raises InvalidSpec for what HAProxy cannot do."""
    for i, listener in enumerate(want.listeners):
        if listener.protocol != "TCP":
            raise InvalidSpec(
                f"listener {listener.port} is {listener.protocol}, and HAProxy forwards TCP only",
                path=f"spec.listeners[{i}].protocol",
                remedy="use TCP, or a provider whose load balancers forward UDP",
            )
    for i, network in enumerate(want.allow_from):
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError as error:
            raise InvalidSpec(f"{network!r} is not a network: {error}", path=f"spec.allowFrom[{i}]") from error


def render(want: LoadBalancerSpec, settings: HaproxyOverrides, address: str, *, elsewhere: bool = False) -> str:
    """The whole file. address: by which clients reach the machine. elsewhere: the other one of a pair may have it just now."""
    bind = address if want.internal or settings.listen == "address" else "*"
    lines = [
        f"# Written by kubeup for load balancer {want.name}. It is written anew at every change.",
        *_global(want, settings),
    ]
    lines += ["", "defaults", *_indented(_defaults(settings))]
    for listener in sorted(want.listeners, key=lambda li: li.port):
        lines += ["", f"frontend in-{listener.port}", *_indented(_frontend(want, listener, bind, elsewhere))]
        lines += ["", f"backend {backend(listener)}", *_indented(_backend(want, listener, settings))]
    return "\n".join(lines) + "\n"


def backend(listener: Listener) -> str:
    """The name of the members behind a listener."""
    return f"to-{listener.port}"


def shape(want: LoadBalancerSpec, settings: HaproxyOverrides, address: str, *, elsewhere: bool = False) -> str:
    """A digest of all but who drains: where it stays, draining is a word to the running process."""
    calm = tuple(LBMember(key=m.key, ref=None, address=m.address) for m in want.members)
    text = render(replace(want, members=calm), settings, address, elsewhere=elsewhere)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def ca_file(settings: HaproxyOverrides) -> str:
    """The name carries the content: a reload that fails leaves the former file as it was."""
    assert settings.health_ca is not None
    return f"ca-{hashlib.sha256(settings.health_ca.encode()).hexdigest()[:12]}.pem"


# -- below ---------------------------------------------------------------------------------------------------------------


def _global(want: LoadBalancerSpec, settings: HaproxyOverrides) -> list[str]:
    stop = max([LONGEST, *(int(listener.drain) + 1 for listener in want.listeners)])
    return [
        "global",
        *_indented(
            [
                "log stderr format raw local0 notice",
                f"stats socket unix@{RUN}/admin.sock mode 600 level admin expose-fd listeners",
                f"server-state-file {RUN}/servers",
                f"hard-stop-after {stop}s",
                *([f"maxconn {settings.max_connections}"] if settings.max_connections else []),
                "max-spread-checks 500",  # the first checks are not spread over a whole interval
                "user haproxy",
                "group haproxy",
            ]
        ),
    ]


def _defaults(settings: HaproxyOverrides) -> Iterator[str]:
    yield "mode tcp"
    yield "log global"
    yield "option dontlognull"
    yield "option clitcpka"
    yield "option srvtcpka"
    yield "option redispatch"
    yield "retries 3"
    yield "load-server-state-from-file global"
    yield "timeout connect 5s"
    yield f"timeout client {settings.idle_timeout}s"
    yield f"timeout server {settings.idle_timeout}s"
    yield f"timeout tunnel {settings.idle_timeout}s"


def _frontend(want: LoadBalancerSpec, listener: Listener, bind: str, elsewhere: bool) -> Iterator[str]:
    yield f"bind {_host(bind)}:{listener.port}{' transparent' if elsewhere and bind != '*' else ''}"
    networks = sorted({str(ipaddress.ip_network(n, strict=False)) for n in want.allow_from})
    if not {"0.0.0.0/0", "::/0"} & set(networks):
        yield f"acl allowed src {' '.join(networks)}"
        yield "tcp-request connection reject if !allowed"
    yield f"default_backend {backend(listener)}"


def _backend(want: LoadBalancerSpec, listener: Listener, settings: HaproxyOverrides) -> Iterator[str]:
    health = listener.health
    yield f"balance {settings.balance}"
    yield f"timeout check {_milliseconds(health.get('timeout', '5'))}ms"
    protocol = health.get("protocol", "TCP")
    if protocol != "TCP":
        yield "option httpchk"
        yield f"http-check send meth GET uri {_word(health.get('path', '/'))} ver HTTP/1.1 hdr Host {want.name}"
        yield "http-check expect status 200-399"
    check = _check(listener, settings)
    for member in sorted(want.members, key=lambda m: m.key):
        weight = " weight 0" if member.drain else ""
        yield f"server {member.key} {_host(member.address)}:{listener.target} {check}{weight}"


def _check(listener: Listener, settings: HaproxyOverrides) -> str:
    health = listener.health
    interval = _milliseconds(health.get("interval", "10"))
    words = [
        f"check inter {interval}ms fastinter {min(interval, 1000)}ms",
        f"rise {health.get('healthy', '2')} fall {health.get('unhealthy', '3')}",
    ]
    port = health.get("port") or str(listener.target)
    if port != str(listener.target):
        words.append(f"port {port}")
    if health.get("protocol") == "HTTPS":
        trust = f"verify required ca-file {ETC}/{ca_file(settings)}" if settings.health_ca else "verify none"
        words.append(f"check-ssl {trust}")
    return " ".join(words)


def _milliseconds(seconds: str) -> int:
    return max(1, round(float(seconds) * 1000))


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _word(text: str) -> str:
    """As one word of the configuration's language."""
    if "\n" in text or "\r" in text:
        raise InvalidSpec("a path has no line ends", path="spec.health.path")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'


def _indented(lines: list[str] | Iterator[str]) -> list[str]:
    return [f"    {line}" for line in lines]

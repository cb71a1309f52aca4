"""The keys of a Kubernetes cluster, each in a Secret of the Cluster's namespace, and the kubeconfig that is signed with them.

A part of the Cluster controller. `<cluster>-ca`, `-etcd-ca`, `-front-proxy-ca` and `-sa` are made once and never written again: one
that a person has put there before is taken as it is, when it is good. `<cluster>-kubeconfig` is renewed before its certificate ends.
They belong to the Cluster and go with it. What is in them, and how they are made, is `pki.py`'s.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..kinds import Cluster, Machine, Secret
from ..kinds.cluster import Certificate, ClusterStatus
from ..login import ConfigError, parse_kubeconfig
from ..objects import ObjectMeta, parse_timestamp, timestamp
from ..pki import BadPair, Pair, check_authority, kubeconfig, make_authority, make_key_pair, sign_client, signed_by, span
from ..runtime.controller import Env, Known
from .ssh_keys import values
from .troubles import LATER, Trouble

AUTHORITIES = {"ca": "kubernetes", "etcd-ca": "etcd-ca", "front-proxy-ca": "front-proxy-ca"}
"""Suffix of the Secret -> the authority's name, which is kubeadm's."""

ACCOUNTS = "sa"
KUBECONFIG = "kubeconfig"
YEAR = 365 * 86400.0
RENEW = 2 / 3
"""Of its life, after which the kubeconfig's certificate is renewed."""
SOON_OVER = 60 * 86400.0
"""Seconds before an end from which on it is a condition."""

FILES = {
    "ca": ("ca.crt", "ca.key"),
    "etcd-ca": ("etcd/ca.crt", "etcd/ca.key"),
    "front-proxy-ca": ("front-proxy-ca.crt", "front-proxy-ca.key"),
    ACCOUNTS: ("sa.pub", "sa.key"),
}
"""Suffix of the Secret -> names under the PKI folder, as kubeadm's documentation has them."""


def secret_name(cluster: str, what: str) -> str:
    return f"{cluster}-{what}"


def pki_of(env: Known, cluster: Cluster) -> Mapping[str, str]:
    """`Secrets.pki`: name under the PKI folder -> PEM. Empty before the keys are made."""
    found: dict[str, str] = {}
    for what, (certificate, key) in FILES.items():
        pair = _stored(env, cluster, what)
        if pair is None:
            return {}
        found |= {certificate: pair.certificate, key: pair.key}
    return found


def authority_of(env: Known, cluster: Cluster) -> str:
    """The cluster's certificate authority in PEM; "" before it is made."""
    pair = _stored(env, cluster, "ca")
    return pair.certificate if pair is not None else ""


class Certificates:
    def __init__(self, env: Env) -> None:
        self.env = env
        self._good: set[tuple[str, str]] = set()

    def ensure_keys(self, cluster: Cluster) -> Trouble | None:
        """Make what is missing; None when everything is there and good."""
        now = self.env.clock.wall()
        for what in FILES:
            secret = self.env.cache.get(Secret, secret_name(cluster.name, what), cluster.namespace)
            if secret is None:
                pair = make_key_pair() if what == ACCOUNTS else make_authority(AUTHORITIES[what], now)
                self._create(cluster, what, {"tls.crt": pair.certificate, "tls.key": pair.key}, "kubernetes.io/tls")
                continue
            found = self._usable(cluster, what, secret, now)
            if found is not None:
                return found
        return None

    def ensure_kubeconfig(self, cluster: Cluster, status: ClusterStatus) -> Trouble | None:
        """Make it when the endpoint is known; again when its certificate is old, or the endpoint or the authority another one."""
        authority = _stored(self.env, cluster, "ca")
        if status.endpoint is None or not status.endpoint.host or authority is None:
            return None
        name, now = secret_name(cluster.name, KUBECONFIG), self.env.clock.wall()
        url = _url(status.endpoint.host, status.endpoint.port)
        secret = self.env.cache.get(Secret, name, cluster.namespace)
        status.kubeconfig_secret = name
        if secret is not None and (foreign := _foreign(secret, cluster)):
            return foreign
        text = values(secret).get("value", "") if secret is not None else ""
        if not _current(text, url, authority.certificate, now):
            try:
                user = sign_client(authority, "kubeup-admin", ("system:masters",), now, YEAR)
            except BadPair as error:
                return _bad(cluster, "ca", str(error))
            text = kubeconfig(f"kubeup-{cluster.name}", url, authority.certificate, user)
            if secret is None:
                self._create(cluster, KUBECONFIG, {"value": text}, "Opaque")
            else:
                changed = self.env.cache.copy(secret)
                changed.data = {**(secret.data or {}), "value": _encode(text)}
                self.env.client.update(changed)
                self.env.events.event(cluster, "Normal", "KubeconfigRenewed", f"Secret {name} has a new certificate")
        return None

    # -- below -----------------------------------------------------------------------------------------------------------

    def _usable(self, cluster: Cluster, what: str, secret: Secret, now: float) -> Trouble | None:
        seen = (secret.uid, secret.metadata.resource_version or "")
        if foreign := _foreign(secret, cluster):
            return foreign
        if seen in self._good:
            return None
        found = values(secret)
        pair = Pair(found.get("tls.crt", ""), found.get("tls.key", ""))
        try:
            if what == ACCOUNTS:
                if "PUBLIC KEY" not in pair.certificate or "PRIVATE KEY" not in pair.key:
                    raise BadPair("tls.crt must hold a public key and tls.key its private key, both in PEM")
            else:
                check_authority(pair, now)
        except BadPair as error:
            return _bad(cluster, what, str(error))
        self._good.add(seen)
        return None

    def _create(self, cluster: Cluster, what: str, data: Mapping[str, str], type_: str) -> None:
        name = secret_name(cluster.name, what)
        metadata = ObjectMeta(name=name, namespace=cluster.namespace, owner_references=[cluster.reference()])
        encoded = {key: _encode(value) for key, value in data.items()}
        self.env.client.create(Secret(metadata=metadata, type=type_, data=encoded))


@dataclass(frozen=True, order=True)
class End:
    """When certificates end, in epoch seconds, and what to tell about them. soon: seconds before it from which on it is told."""

    at: float
    message: str
    soon: float = SOON_OVER


def tell_ends(env: Env, cluster: Cluster, status: ClusterStatus, planes: Iterable[Machine]) -> None:
    """status.certificatesExpire, and the condition CertificatesExpiring when that is soon. planes: the control planes there are.

    The kubeconfig's certificate is not among them: it is renewed by itself, when nobody has to do anything for it.
    """
    now = env.clock.wall()
    ends = [*_authorities(env, cluster), *_members(cluster, status, planes)]
    status.certificates_expire = timestamp(min(ends).at) if ends else None
    soon = [end for end in ends if end.at - now < end.soon]
    if not soon:
        status.drop_condition("CertificatesExpiring")
        return
    message = "; ".join(end.message for end in sorted(soon))
    status.set_condition("CertificatesExpiring", True, "EndsSoon", message, now=now, generation=cluster.metadata.generation)


def _authorities(env: Env, cluster: Cluster) -> Iterator[End]:
    for what in AUTHORITIES:
        pair = _stored(env, cluster, what)
        if pair is not None:
            at = span(pair.certificate)[1]
            yield End(
                at,
                f"the authority in Secret {secret_name(cluster.name, what)} ends on {timestamp(at)[:10]}, and every certificate of the "
                "cluster with it; move what runs here to a new cluster before that day",
            )


def _members(cluster: Cluster, status: ClusterStatus, planes: Iterable[Machine]) -> Iterator[End]:
    """What a control plane made for itself, as it was read there; before that, a year after it joined, as kubeadm has it."""
    known = {r.uid: r for r in status.control_plane.certificates} if status.control_plane is not None else {}
    for machine in planes:
        record = known.get(machine.uid)
        joined = machine.status.condition("Bootstrapped")
        if machine.deleting or joined is None or joined.status != "True" or not joined.last_transition_time:
            continue
        if record is not None and record.read:
            yield from (_end(cluster, machine, certificate) for certificate in record.certificates)
            continue
        since = record.renewed if record is not None and record.renewed else joined.last_transition_time
        at = parse_timestamp(since) + YEAR
        yield End(
            at,
            f"the certificates of {machine.name} end about {timestamp(at)[:10]}, a year after they were made; they have not been "
            "read there yet, and a machine that replaces it gets new ones",
        )


def _end(cluster: Cluster, machine: Machine, certificate: Certificate) -> End:
    begins, at = parse_timestamp(certificate.begins), parse_timestamp(certificate.ends)
    said = f"the certificate {certificate.name} of {machine.name} ends on {timestamp(at)[:10]}"
    if certificate.renewed:
        remedy = (
            "it is renewed by itself when every control plane is Ready; condition ControlPlaneReady says what is in the way"
        )
        return End(at, f"{said}; {remedy}", min(SOON_OVER, (at - begins) / 6))
    remedy = f"its kubelet should have renewed it by itself; restart it, or replace the machine: kubectl delete machine {machine.name}"
    return End(at, f"{said}; {remedy} -n {cluster.namespace}", (at - begins) / 20)


def _stored(env: Known, cluster: Cluster, what: str) -> Pair | None:
    secret = env.cache.get(Secret, secret_name(cluster.name, what), cluster.namespace)
    found = values(secret) if secret is not None else {}
    return Pair(found["tls.crt"], found["tls.key"]) if found.get("tls.crt") and found.get("tls.key") else None


def _current(text: str, url: str, authority: str, now: float) -> bool:
    if not text:
        return False
    try:
        login = parse_kubeconfig(text, Path("Secret"))
        certificate = login.certificate
        begin, end = span(certificate)
    except (ConfigError, BadPair):
        return False
    return (
        login.url == url
        and login.ca.strip() == authority.strip()
        and signed_by(certificate, authority)
        and now < begin + (end - begin) * RENEW
    )


def _url(host: str, port: int) -> str:
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _foreign(secret: Secret, cluster: Cluster) -> Trouble | None:
    """A namesake that went a moment ago leaves Secrets behind, which are on their way out."""
    owners = [o for o in secret.metadata.owner_references or () if o.kind == "Cluster" and o.uid != cluster.uid]
    if not owners and not secret.deleting:
        return None
    message = f"Secret {secret.name} belongs to a Cluster {cluster.name} that is no more, and is on its way out"
    return Trouble(reason="SecretLeaving", message=message, after=2.0)


def _bad(cluster: Cluster, what: str, why: str) -> Trouble:
    name = secret_name(cluster.name, what)
    remedy = f"put a good pair there, or have one made: kubectl delete secret {name} -n {cluster.namespace}"
    message = f"Secret {name} cannot be used: {why}; {remedy}"
    return Trouble(reason="CertificatesInvalid", message=message, after=LATER, stalled=True)


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()

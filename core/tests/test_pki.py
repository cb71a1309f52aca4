"""Keys, certificates and kubeconfigs: what is made is good, and what a person brings is judged."""

from __future__ import annotations

import base64
import time
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from kubeup_core.login import parse_kubeconfig
from kubeup_core.pki import (
    AUTHORITY,
    BadPair,
    Pair,
    check_authority,
    kubeconfig,
    make_authority,
    make_key_pair,
    sign_client,
    signed_by,
    span,
)

NOW = 1_800_000_000.0
YEAR = 365 * 86400.0


@pytest.fixture(scope="module")
def authority() -> Pair:
    return make_authority("kubernetes", NOW)


def test_an_authority_signs_and_lives_for_ten_years(authority: Pair) -> None:
    certificate, _ = check_authority(authority, NOW)
    assert certificate.subject.rfc4514_string() == "CN=kubernetes"
    assert signed_by(authority.certificate, authority.certificate)
    begin, end = span(authority.certificate)
    assert begin < NOW < end
    assert end == NOW + AUTHORITY


def test_a_client_is_signed_by_its_authority_and_by_no_other(authority: Pair) -> None:
    user = sign_client(authority, "admin", ("system:masters",), NOW, YEAR)
    assert signed_by(user.certificate, authority.certificate)
    assert not signed_by(user.certificate, make_authority("kubernetes", NOW).certificate)
    assert span(user.certificate)[1] == NOW + YEAR


def test_a_client_never_outlives_its_authority(authority: Pair) -> None:
    late = NOW + AUTHORITY - 86400
    user = sign_client(authority, "admin", (), late, YEAR)
    assert span(user.certificate)[1] == span(authority.certificate)[1]


def test_a_service_account_pair_belongs_together() -> None:
    pair = make_key_pair()
    key = serialization.load_pem_private_key(pair.key.encode(), None)
    public = serialization.load_pem_public_key(pair.certificate.encode())
    assert key.public_key() == public


def test_private_keys_are_not_printed(authority: Pair) -> None:
    assert "PRIVATE KEY" not in repr(authority)


def test_a_kubeconfig_is_what_kubectl_and_kubeup_read(authority: Pair) -> None:
    user = sign_client(authority, "admin", ("system:masters",), NOW, YEAR)
    text = kubeconfig("kubeup-demo", "https://10.0.0.1:6443", authority.certificate, user)
    login = parse_kubeconfig(text, Path("Secret"))
    assert (login.url, login.ca) == ("https://10.0.0.1:6443", authority.certificate)
    assert login.certificate.startswith(user.certificate)
    parsed = yaml.safe_load(text)
    assert parsed["current-context"] == "kubeup-demo"
    assert base64.b64decode(parsed["users"][0]["user"]["client-key-data"]).decode() == user.key


def test_an_ecdsa_authority_of_a_persons_own_can_sign() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    pair = own(key, ca=True)
    assert signed_by(sign_client(pair, "admin", (), time.time(), YEAR).certificate, pair.certificate)


def test_what_cannot_be_used_says_why(authority: Pair) -> None:
    elsewhere = make_authority("kubernetes", NOW)
    key = ec.generate_private_key(ec.SECP256R1())
    cases = {
        "not a certificate": Pair("nonsense", authority.key),
        "not a private key": Pair(authority.certificate, "nonsense"),
        "does not belong": Pair(authority.certificate, elsewhere.key),
        "CA:TRUE is missing": own(key, ca=False),
        "neither an RSA nor an ECDSA key": own(ed25519.Ed25519PrivateKey.generate(), ca=True),
    }
    for why, pair in cases.items():
        with pytest.raises(BadPair, match=why):
            check_authority(pair, NOW)
    with pytest.raises(BadPair, match="ended on"):
        check_authority(authority, NOW + AUTHORITY + 1)
    with pytest.raises(BadPair):
        span("nonsense")


def own(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey, *, ca: bool) -> Pair:
    """A self-signed certificate as a person would bring it."""
    import datetime

    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "mine")])
    begin = datetime.datetime.fromtimestamp(0, datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=36500))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    text = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
    return Pair(certificate.public_bytes(serialization.Encoding.PEM).decode(), text)

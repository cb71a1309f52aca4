"""Keys and certificates of Kubernetes clusters, and kubeconfigs. Pure, but for randomness; called by `controllers/certificates.py`.

The authorities are made before any machine is, so their hash is known before the first control plane is asked for, and a control plane
that is replaced gets the same ones. RSA with 2048 bits, as kubeadm's own: every version of Kubernetes and of its clients reads it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import yaml
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY = 3650 * 86400.0
"""Seconds that an authority lives: ten years, as kubeadm has it."""

SKEW = timedelta(minutes=5)
"""Certificates begin a little in the past, for machines whose clock is behind."""

_PEM = serialization.Encoding.PEM


class BadPair(ValueError):
    """A certificate and a key that cannot be used; the message says why."""


@dataclass(frozen=True)
class Pair:
    """PEM texts: a certificate (or a public key) and the private key."""

    certificate: str
    key: str = field(repr=False)


def make_authority(name: str, now: float) -> Pair:
    """A self-signed authority. now: epoch seconds."""
    key = _rsa()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        _builder(subject, subject, key.public_key(), now, AUTHORITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _pair(builder.sign(key, hashes.SHA256()), key)


def make_key_pair() -> Pair:
    """A bare pair, for service accounts: `certificate` is the public key."""
    key = _rsa()
    public = key.public_key().public_bytes(_PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Pair(public.decode(), _text(key))


def sign_client(authority: Pair, name: str, groups: tuple[str, ...], now: float, seconds: float) -> Pair:
    """A client certificate for a user of these groups. Raises BadPair for an authority that is none."""
    issuer, signer = check_authority(authority, now)
    key = _rsa()
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    subject = x509.Name([*attributes, x509.NameAttribute(NameOID.COMMON_NAME, name)])
    left = issuer.not_valid_after_utc.timestamp() - now
    builder = (
        _builder(subject, issuer.subject, key.public_key(), now, min(seconds, left))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    return _pair(builder.sign(signer, hashes.SHA256()), key)


def check_authority(pair: Pair, now: float) -> tuple[x509.Certificate, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey]:
    """The authority, ready to sign. Raises BadPair: unreadable, no authority, over, or a key that is not its."""
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate.encode())
    except ValueError:
        raise BadPair("tls.crt is not a certificate in PEM") from None
    try:
        key = serialization.load_pem_private_key(pair.key.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadPair("tls.key is not a private key in PEM without a passphrase") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise BadPair("tls.key is neither an RSA nor an ECDSA key, and Kubernetes reads no others")
    if key.public_key() != certificate.public_key():
        raise BadPair("tls.key does not belong to tls.crt")
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        constraints = None
    if constraints is None or not constraints.ca:
        raise BadPair("tls.crt is not a certificate authority (CA:TRUE is missing)")
    if certificate.not_valid_after_utc.timestamp() <= now:
        raise BadPair(f"tls.crt ended on {certificate.not_valid_after_utc:%Y-%m-%d}")
    return certificate, key


def span(certificate: str) -> tuple[float, float]:
    """When a certificate begins and ends, in epoch seconds. Raises BadPair when it is none."""
    try:
        found = x509.load_pem_x509_certificate(certificate.encode())
    except ValueError:
        raise BadPair("it is not a certificate in PEM") from None
    return found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()


def signed_by(certificate: str, authority: str) -> bool:
    """Whether an authority has signed a certificate."""
    try:
        x509.load_pem_x509_certificate(certificate.encode()).verify_directly_issued_by(
            x509.load_pem_x509_certificate(authority.encode())
        )
    except Exception:  # ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm: it is not, whatever the reason
        return False
    return True


def kubeconfig(context: str, url: str, authority: str, user: Pair) -> str:
    """One context, as kubectl reads it."""

    def encoded(text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    cluster = {"server": url, "certificate-authority-data": encoded(authority)}
    login = {"client-certificate-data": encoded(user.certificate), "client-key-data": encoded(user.key)}
    return str(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": context, "cluster": cluster}],
                "users": [{"name": context, "user": login}],
                "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
                "current-context": context,
            },
            sort_keys=False,
        )
    )


# -- below ---------------------------------------------------------------------------------------------------------------


def _rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _text(key: rsa.RSAPrivateKey) -> str:
    """In the form that kubeadm writes itself."""
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(_PEM, form, serialization.NoEncryption()).decode()


def _pair(certificate: x509.Certificate, key: rsa.RSAPrivateKey) -> Pair:
    return Pair(certificate.public_bytes(_PEM).decode(), _text(key))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: rsa.RSAPublicKey, now: float, seconds: float
) -> x509.CertificateBuilder:
    at = datetime.fromtimestamp(now, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - SKEW)
        .not_valid_after(at + timedelta(seconds=seconds))
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=True, data_encipherment=False, key_agreement=False,
        key_cert_sign=authority, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip

"""The server's own certificate authority and its certificate, made at first use and renewed before they end.

kubectl sends no token over plain HTTP, so there is always TLS, also on 127.0.0.1. The authority is trusted only through the
kubeconfig, which carries it. Keys are ECDSA P-256 in files of mode 0600.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ..statedir import write_private

HOSTS = ("127.0.0.1", "localhost", "::1")
_YEARS = timedelta(days=3650)
_RENEW_BEFORE = timedelta(days=90)


@dataclass(frozen=True)
class Certificates:
    """Files in PEM. `ca` is what clients trust; `certificate` and `key` are the server's."""

    ca: Path
    certificate: Path
    key: Path


def ensure_certificates(directory: Path, *, now: float, hosts: Sequence[str] = HOSTS) -> Certificates:
    """Make, or renew, what is missing, damaged, near its end, or not for these hosts. `now` is epoch seconds."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = Certificates(directory / "ca.crt", directory / "server.crt", directory / "server.key")
    at = datetime.fromtimestamp(now, UTC)
    authority = _load(files.ca, directory / "ca.key", at)
    if authority is None:
        authority = _make_authority(at)
        _save(files.ca, directory / "ca.key", *authority)
        files.certificate.unlink(missing_ok=True)
    server = _load(files.certificate, files.key, at)
    if server is None or _hosts_of(server[0]) != set(hosts):
        _save(files.certificate, files.key, *_make_server(authority, hosts, at))
    return files


_Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _load(certificate: Path, key: Path, at: datetime) -> _Pair | None:
    try:
        found = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except (OSError, ValueError):
        return None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != found.public_key():
        return None
    return (found, private) if found.not_valid_before_utc <= at <= found.not_valid_after_utc - _RENEW_BEFORE else None


def _make_authority(at: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubeup-ca")])
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    builder = (
        _builder(name, name, key, at)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return builder.sign(key, hashes.SHA256()), key


def _make_server(authority: _Pair, hosts: Sequence[str], at: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kubeup")])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority[1].public_key())
    builder = (
        _builder(name, authority[0].subject, key, at)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(issuer, critical=False)
    )
    return builder.sign(authority[1], hashes.SHA256()), key


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, at: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # An hour back, for clients whose clock is behind.
        .not_valid_before(at - timedelta(hours=1))
        .not_valid_after(at + _YEARS)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _hosts_of(certificate: x509.Certificate) -> set[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    return {str(name.value) for name in names}


def _save(certificate: Path, key: Path, made: x509.Certificate, private: ec.EllipticCurvePrivateKey) -> None:
    form = serialization.PrivateFormat.PKCS8
    write_private(key, private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode())
    write_private(certificate, made.public_bytes(serialization.Encoding.PEM).decode())

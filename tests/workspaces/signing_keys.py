"""A throw-away signing key with a certificate chain that fits the C2PA certificate profile."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class SigningKeys:
    """chain: signer's certificate, then the authority's; key: the signer's; root: the authority's certificate alone."""

    chain: Path
    key: Path
    root: Path

    def environment(self) -> dict[str, str]:
        return {"GOKU_C2PA_CERTIFICATE": str(self.chain), "GOKU_C2PA_KEY": str(self.key)}


def make_keys(folder: Path, signer: str = "A Test Studio", days: float = 2) -> SigningKeys:
    """days: how long the signer's certificate is valid from now on (below 0: it has expired)."""
    folder.mkdir(parents=True, exist_ok=True)
    authority_key, signer_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _certificate("A Test Authority", authority_key, "A Test Authority", authority_key, 30, authority=True)
    own = _certificate(signer, signer_key, "A Test Authority", authority_key, days, authority=False)
    keys = SigningKeys(folder / "chain.pem", folder / "key.pem", folder / "root.pem")
    keys.chain.write_bytes(_pem(own) + _pem(authority))
    keys.root.write_bytes(_pem(authority))
    _write_key(keys.key, signer_key)
    return keys


def make_time_stamp_keys(folder: Path) -> SigningKeys:
    """The same for a time-stamp authority (RFC 3161: extended key usage timeStamping, critical, and no other)."""
    folder.mkdir(parents=True, exist_ok=True)
    authority_key, own_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = _certificate("A Clock Authority", authority_key, "A Clock Authority", authority_key, 30, authority=True)
    own = _certificate("A Clock", own_key, "A Clock Authority", authority_key, 2, authority=False, clock=True)
    keys = SigningKeys(folder / "chain.pem", folder / "key.pem", folder / "root.pem")
    keys.chain.write_bytes(_pem(own) + _pem(authority))
    keys.root.write_bytes(_pem(authority))
    _write_key(keys.key, own_key)
    return keys


def _write_key(path: Path, key: Any) -> None:
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(*form))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _certificate(
    name: str, key: Any, issuer: str, issuer_key: Any, days: float, *, authority: bool, clock: bool = False
) -> Any:
    now, public = datetime.now(UTC), key.public_key()
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    usage |= {"digital_signature": not authority, "key_cert_sign": authority, "crl_sign": authority}
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=10))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(x509.KeyUsage(**usage), critical=True)
    )
    if not authority:
        purpose = ExtendedKeyUsageOID.TIME_STAMPING if clock else ExtendedKeyUsageOID.EMAIL_PROTECTION
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=clock)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common: str) -> x509.Name:
    parts = ((NameOID.COUNTRY_NAME, "XX"), (NameOID.ORGANIZATION_NAME, "Tests"), (NameOID.COMMON_NAME, common))
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])

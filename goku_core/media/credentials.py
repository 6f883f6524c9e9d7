"""C2PA content credentials: a signed statement in the file of what made it, which breaks when a byte is changed.

The signing key is named by environment variables, never by parameters: parameters are recorded and shared.

    GOKU_C2PA_CERTIFICATE    PEM file: the signer's certificate first, then those that issued it
    GOKU_C2PA_KEY            PEM file: the signer's private key, not encrypted
    GOKU_C2PA_TIMESTAMP_URL  optional: an RFC 3161 time-stamp authority, so that signatures outlive the certificate
    GOKU_C2PA_TRUST          optional, for reading: PEM file of the certificates whose signers are trusted

The certificate must fit the certificate profile of the C2PA specification: X.509 v3, not issued by itself, no authority's, key
usage digitalSignature, extended key usage emailProtection, documentSigning or C2PA's own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from goku_core import __version__
from goku_core.media.provenance import Provenance
from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    import c2pa

CERTIFICATE, KEY = "GOKU_C2PA_CERTIFICATE", "GOKU_C2PA_KEY"
TIMESTAMP_URL, TRUST = "GOKU_C2PA_TIMESTAMP_URL", "GOKU_C2PA_TRUST"
INSTALL = 'pip install -c constraints.txt -e ".[credentials]"'
FORMATS = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".mp4": "video/mp4",
    ".mov": "video/quicktime",
}
# IPTC's term for media that a trained model made, which C2PA prescribes for the action of making them.
SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
ASSERTION = "goku.provenance"  # our choice: C2PA wants a label of one's own to start with one's own name

State = Literal["none", "valid", "trusted", "invalid", "unchecked"]


@dataclass(frozen=True)
class Credentials:
    """What a file's credentials say and whether they hold.

    state  none: it has none; valid: signed, and nothing was changed since; trusted: and the signer is known by the given
           trust list; invalid: changed since, or not signed rightly (`failures` says what); unchecked: the C2PA library
           is not installed here, so nothing was looked for
    """

    state: State
    signer: str | None = None
    issuer: str | None = None
    time: str | None = None  # by the time-stamp authority
    generator: str | None = None
    provenance: Provenance | None = None
    failures: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "provenance"}


class Signer:
    """Signs files with one key. Raises GokuError where key, certificate or library do not serve."""

    def __init__(self, certificate: Path, key: Path, timestamp_url: str | None = None) -> None:
        library = _library()
        if library is None:
            raise GokuError(
                f"{KEY} is set, so files are to be signed, but c2pa-python is not installed: {INSTALL}. "
                f"Or unset {KEY} and {CERTIFICATE}."
            )
        chain, secret = _pem(certificate, CERTIFICATE), _pem(key, KEY)
        algorithm = _algorithm(library, chain, secret, certificate, key)
        self._library, self._certificate, self._timestamp_url = library, certificate, timestamp_url
        info = library.C2paSignerInfo(algorithm, chain, secret, timestamp_url)
        try:
            self._signer = library.Signer.from_info(info)
        except library.C2paError as error:
            raise GokuError(f"{certificate} and {key} cannot sign: {error}") from error
        # No preview picture in the credentials: it would be larger than the statement, once per file.
        settings = library.Settings.from_dict({"builder": {"thumbnail": {"enabled": False}}})
        self._context = library.Context(settings)

    @staticmethod
    def from_environment(environment: Mapping[str, str] = os.environ) -> Signer | None:
        """The configured signer, None where no key is configured. Raises GokuError where half of it is."""
        certificate, key = environment.get(CERTIFICATE), environment.get(KEY)
        if not certificate and not key:
            return None
        if not certificate or not key:
            given, missing = (CERTIFICATE, KEY) if certificate else (KEY, CERTIFICATE)
            raise GokuError(f"{given} is set but {missing} is not: signing needs both. Set both, or neither.")
        return Signer(Path(certificate), Path(key), environment.get(TIMESTAMP_URL) or None)

    def sign(self, source: Path, target: Path, provenance: Provenance, name: str) -> None:
        """Write `source` to `target` with credentials that state what made it, how, and that this is a trained model.

        name  the file's in the end, where `target` is a passing one
        """
        agent = {"name": "goku", "version": __version__}
        made = {"action": "c2pa.created", "digitalSourceType": SOURCE_TYPE, "softwareAgent": agent}
        if provenance.made:
            made["when"] = provenance.made
        statement = {
            "claim_generator_info": [agent],
            "title": name,
            "assertions": [
                {"label": "c2pa.actions.v2", "data": {"actions": [made]}},
                {"label": ASSERTION, "data": provenance.as_json()},
            ],
        }
        try:
            with (
                self._library.Builder(json.dumps(statement), context=self._context) as builder,
                source.open("rb") as read,
                target.open("w+b") as write,
            ):
                builder.sign(self._signer, FORMATS[target.suffix.lower()], read, write)
        except self._library.C2paError as error:
            where = f", time stamps by {self._timestamp_url}" if self._timestamp_url else ""
            raise GokuError(
                f"{name} could not be signed with {self._certificate}{where}: {error}. "
                f"Check the certificate against the C2PA profile, or unset {KEY} and {CERTIFICATE} to write files unsigned."
            ) from error


def read_credentials(path: Path, trust: Path | None = None) -> Credentials:
    """What the credentials in a file say, checked against its bytes; nothing is asked of the network.

    trust  PEM file of certificates; without it a signature can be valid but its signer is not known
    """
    library = _library()
    if library is None:
        return Credentials("unchecked")
    settings: dict[str, Any] = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
    if trust is not None:
        settings["trust"] = {"trust_anchors": _pem(trust, "--trust").decode()}
    kind = FORMATS.get(path.suffix.lower())
    try:
        with path.open("rb") as file:
            reader = library.Reader.try_create(
                kind, file, context=library.Context(library.Settings.from_dict(settings))
            )
            if reader is None:
                return Credentials("none")
            with reader:
                said = json.loads(reader.json())
    except library.C2paError.NotSupported:
        return Credentials("none")
    except library.C2paError as error:
        return Credentials("invalid", failures=[str(error)])
    return _credentials(said)


def _credentials(said: dict[str, Any]) -> Credentials:
    manifest = said["manifests"][said["active_manifest"]]
    signature = manifest.get("signature_info", {})
    state: State = {"Valid": "valid", "Trusted": "trusted"}.get(said.get("validation_state", ""), "invalid")
    generators = manifest.get("claim_generator_info") or [{}]
    stated = [one["data"] for one in manifest.get("assertions", []) if one["label"] == ASSERTION]
    faults = [one for one in said.get("validation_status") or [] if one["code"] != "signingCredential.untrusted"]
    failures = [_plain(one) for one in faults] if state == "invalid" else []
    return Credentials(
        state,
        signer=signature.get("common_name"),
        issuer=signature.get("issuer"),
        time=signature.get("time"),
        generator=" ".join(str(generators[0][key]) for key in ("name", "version") if key in generators[0]) or None,
        provenance=Provenance.from_json(stated[0]) if stated else None,
        failures=failures or (["the signature does not hold"] if state == "invalid" else []),
    )


def _plain(status: dict[str, Any]) -> str:
    return f"{status['code']}: {status['explanation']}" if status.get("explanation") else str(status["code"])


def _library() -> Any:
    try:
        import c2pa
    except ImportError:
        return None
    return c2pa


def _pem(path: Path, named_by: str) -> bytes:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise GokuError(f"{named_by}: {path} cannot be read ({error.strerror}).") from error
    if b"-----BEGIN " not in text:
        raise GokuError(f"{named_by}: {path} is not in PEM form (no -----BEGIN line).")
    return text


def _algorithm(library: Any, chain: bytes, secret: bytes, certificate: Path, key: Path) -> c2pa.C2paSigningAlg:
    """The signature algorithm that the key is for, after a look whether certificate and key belong together."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    try:
        private = serialization.load_pem_private_key(secret, password=None)
    except TypeError as error:
        raise GokuError(
            f"{KEY}: {key} is encrypted. Give a key without a pass phrase, readable by you alone."
        ) from error
    except ValueError as error:
        raise GokuError(f"{KEY}: {key} holds no private key that can be read ({error}).") from error
    try:
        public = x509.load_pem_x509_certificates(chain)[0].public_key()
    except ValueError as error:
        raise GokuError(f"{CERTIFICATE}: {certificate} holds no certificate that can be read ({error}).") from error
    if public != private.public_key():
        raise GokuError(
            f"{certificate}: the first certificate is not that of the key in {key}. The signer's own comes first, "
            "then those that issued it."
        )
    names = library.C2paSigningAlg
    if isinstance(private, ec.EllipticCurvePrivateKey):
        curves = {"secp256r1": names.ES256, "secp384r1": names.ES384, "secp521r1": names.ES512}
        if private.curve.name in curves:
            return curves[private.curve.name]
    if isinstance(private, ed25519.Ed25519PrivateKey):
        return names.ED25519
    if isinstance(private, rsa.RSAPrivateKey):
        return names.PS256
    raise GokuError(f"{key}: C2PA knows keys on P-256, P-384 and P-521, Ed25519 and RSA; this is another.")

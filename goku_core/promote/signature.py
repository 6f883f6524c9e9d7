"""Who vouches for a bundle: a signature over its digest, in `signature.json` beside the manifest.

The key never comes from parameters: GOKU_SIGNING_KEY names a key file (Ed25519, PKCS8 PEM, readable by its owner alone) or a
key of AWS KMS (`kms:` and its id, alias or ARN; Ed25519 or NIST P-256), which never leaves KMS. Which public keys count
is `promote.trusted_keys`, and GOKU_TRUSTED_KEYS (separated by commas) where there is no params.yaml.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeGuard

from pydantic import BaseModel, ConfigDict, ValidationError

from goku_core.pipeline.errors import GokuError
from goku_core.promote import bundle

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

VARIABLE = "GOKU_SIGNING_KEY"
TRUSTED = "GOKU_TRUSTED_KEYS"
KMS = "kms:"
PURPOSE = "goku bundle 1"  # a signature made for something else is none of a bundle

Algorithm = Literal["ed25519", "ecdsa-p256-sha256"]


class Signature(BaseModel):
    """signature.json. key: public, base64 of its DER SubjectPublicKeyInfo; signature: base64."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    algorithm: Algorithm
    key: str
    bundle: str
    signature: str


class Signer(Protocol):
    """algorithm and public key (base64) of what signs."""

    algorithm: Algorithm
    public: str

    def sign(self, message: bytes) -> bytes: ...


@dataclass(frozen=True)
class _KeyFile:
    key: Ed25519PrivateKey
    public: str
    algorithm: Algorithm = "ed25519"

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message)


def signer() -> Signer | None:
    """What GOKU_SIGNING_KEY names, None where it is not set.

    Raises GokuError where there is no such key, where it is of another kind, and where others may read its file.
    """
    reference = os.environ.get(VARIABLE, "")
    if not reference:
        return None
    if reference.startswith(KMS):
        from goku_core.storage import KeyService

        return KeyService(reference.removeprefix(KMS))
    return _from_file(Path(reference).expanduser())


def keygen(path: Path) -> str:
    """Write a new Ed25519 private key (mode 0600) and return its public key. Raises GokuError where the file is there."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise GokuError(f"{path} is there already; a key is not overwritten. Name another file.") from error
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return _public(key)


def sign(workspace: Path, digest: str, by: Signer) -> Signature:
    """Sign a bundle of the workspace; the signature that it had is replaced. The bundle's bytes must have been verified."""
    made = by.sign(_message(digest))
    one = Signature(algorithm=by.algorithm, key=by.public, bundle=digest, signature=base64.b64encode(made).decode())
    _verify(one, digest, "the new signature")
    folder = bundle.location(workspace, digest)
    place = folder / bundle.SIGNATURE
    if place.is_file() and place.read_text(encoding="utf-8") == _text(one):
        return one
    # made outside the bundle, in which nothing but its files may lie
    handle, partial = tempfile.mkstemp(prefix=".signature-", dir=folder.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(_text(one))
        file.flush()
        os.fsync(file.fileno())
    Path(partial).chmod(0o444)
    Path(partial).replace(place)
    return one


def check(folder: Path, digest: str, trusted: list[str]) -> Signature | None:
    """The signature of a bundle, None where it has none and none is demanded.

    trusted  public keys one of which must have signed; empty: whoever signed, it must only be right
    Raises GokuError for a signature that is wrong, always; for one that is missing or not trusted, where one is demanded.
    """
    place = folder / bundle.SIGNATURE
    if not place.is_file():
        if trusted:
            raise GokuError(f"{folder}: not signed, and promote.trusted_keys demands it. {_SIGN}")
        return None
    try:
        one = Signature.model_validate_json(place.read_bytes())
    except ValidationError as error:
        raise GokuError(f"{place}: cannot be read as a signature. Remove it; then: {_SIGN}") from error
    _verify(one, digest, str(place))
    if trusted and one.key not in trusted:
        raise GokuError(f"{place}: signed with {one.key}, which promote.trusted_keys does not name. {_SIGN}")
    return one


def trusted(workspace: Path, keys: list[str] | None = None) -> list[str]:
    """Public keys that count in a workspace. keys: of `promote:`, where its parameters have been read already."""
    if keys is None:
        keys, params = [], workspace / "params.yaml"
        if params.is_file():
            from goku_core import config  # here, because config knows the request of this very room
            from goku_core.promote.request import Request

            section = config.read_yaml(params).get("promote", {})
            keys = config.check(section, Request, "params.yaml, promote").trusted_keys
    return [*keys, *filter(None, (key.strip() for key in os.environ.get(TRUSTED, "").split(",")))]


_SIGN = f"`goku registry sign VERSION` signs it with the key that {VARIABLE} names."


def _message(digest: str) -> bytes:
    return f"{PURPOSE}\n{digest}\n".encode()


def _text(one: Signature) -> str:
    return json.dumps(one.model_dump(), indent=1, sort_keys=True) + "\n"


def _verify(one: Signature, digest: str, where: str) -> None:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    try:
        if one.bundle != digest:
            raise GokuError(f"{where}: signs bundle {one.bundle[:12]}, not {digest[:12]}. Do not use this bundle.")
        key = load_der_public_key(base64.b64decode(one.key, validate=True))
        made, message = base64.b64decode(one.signature, validate=True), _message(digest)
        if one.algorithm == "ed25519" and isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(made, message)
        elif one.algorithm == "ecdsa-p256-sha256" and _is_p256(key):
            key.verify(made, message, ec.ECDSA(hashes.SHA256()))
        else:
            raise GokuError(f"{where}: the key is not one for {one.algorithm}. Do not use this bundle.")
    except (InvalidSignature, UnsupportedAlgorithm, ValueError) as error:
        raise GokuError(
            f"{where}: not a signature of bundle {digest[:12]} by its key. Do not use this bundle."
        ) from error


def _is_p256(key: object) -> TypeGuard[EllipticCurvePublicKey]:
    from cryptography.hazmat.primitives.asymmetric import ec

    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)


def _from_file(path: Path) -> Signer:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if not path.is_file():
        raise GokuError(f"{VARIABLE} names {path}, which is no file. `goku registry keygen --out FILE` makes a key.")
    if path.stat().st_mode & 0o077:
        raise GokuError(f"{path}: others may read this private key. Say `chmod 600 {path}`, and trust another key.")
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it has a password
        raise GokuError(f"{path}: not a private key in PEM without a password.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise GokuError(f"{path}: not an Ed25519 key. `goku registry keygen --out FILE` makes one.")
    return _KeyFile(key, _public(key))


def _public(key: Ed25519PrivateKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()

"""Signatures: made by a key file or by KMS (moto's, which signs for real), checked wherever a bundle is loaded."""

from __future__ import annotations

import base64
import json
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from promote_workspace import candidate, promoted
from typer.testing import CliRunner

from goku_core.cli import app
from goku_core.pipeline.errors import GokuError
from goku_core.promote import bundle, ledger, promotion, registry, signature
from goku_core.promote.request import Request

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(registry, "mirror", lambda *_: None)
    monkeypatch.delenv(signature.VARIABLE, raising=False)
    monkeypatch.delenv(signature.TRUSTED, raising=False)
    place = tmp_path / "workspace"
    place.mkdir()
    candidate(place, 1.0, 0.6)
    return place


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The public key of a key file that is in use."""
    public = signature.keygen(tmp_path / "keys/release.pem")
    monkeypatch.setenv(signature.VARIABLE, str(tmp_path / "keys/release.pem"))
    return public


def trust(workspace: Path, *keys: str) -> None:
    """As a team's params.yaml says it; resolving a model reads it there."""
    text = (ROOT / "params.yaml").read_text().replace("  trusted_keys: []", f"  trusted_keys: {json.dumps(keys)}")
    (workspace / "params.yaml").write_text(text)


def place_of(workspace: Path) -> Path:
    return bundle.location(workspace, ledger.read(workspace)[-1].bundle) / bundle.SIGNATURE


def rewrite(place: Path, change: Callable[[dict[str, object]], None]) -> None:
    told = json.loads(place.read_text())
    change(told)
    place.chmod(0o644)
    place.write_text(json.dumps(told))


def test_promotion_signs_and_the_digest_stays(workspace: Path, key: str) -> None:
    digest = promoted(workspace).digest
    told = json.loads(place_of(workspace).read_text())
    assert (told["key"], told["bundle"], told["algorithm"]) == (key, digest, "ed25519")
    bundle.verify(bundle.location(workspace, digest), digest)
    trust(workspace, key)
    assert promotion.resolve(workspace, "champion")[1] == digest


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_openssl_agrees(workspace: Path, key: str, tmp_path: Path) -> None:
    """An independent reader: what is signed is text that anybody can write down."""
    digest = promoted(workspace).digest
    told = json.loads(place_of(workspace).read_text())
    (tmp_path / "public.der").write_bytes(base64.b64decode(key))
    (tmp_path / "made").write_bytes(base64.b64decode(told["signature"]))
    (tmp_path / "message").write_text(f"goku bundle 1\n{digest}\n")
    words = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "public.der", "-rawin"]
    done = subprocess.run(
        [*words, "-in", "message", "-sigfile", "made"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "Verified Successfully" in done.stdout, done.stderr


def _other_bundle(told: dict[str, object]) -> None:
    told["bundle"] = "0" * 64


def _other_bytes(told: dict[str, object]) -> None:
    made = bytearray(base64.b64decode(str(told["signature"])))
    made[3] ^= 1
    told["signature"] = base64.b64encode(made).decode()


def _other_kind(told: dict[str, object]) -> None:
    told["algorithm"] = "ecdsa-p256-sha256"


def _no_base64(told: dict[str, object]) -> None:
    told["key"] = "not a key"


def _more(told: dict[str, object]) -> None:
    told["loader"] = "os.system"


@pytest.mark.parametrize("change", [_other_bundle, _other_bytes, _other_kind, _no_base64, _more])
def test_a_wrong_signature_is_refused_also_where_none_is_demanded(
    workspace: Path, key: str, change: Callable[[dict[str, object]], None]
) -> None:
    promoted(workspace)
    rewrite(place_of(workspace), change)
    with pytest.raises(GokuError, match=r"signs bundle|not a signature|is not one for|cannot be read"):
        promotion.resolve(workspace, "champion")


def test_a_signature_copied_from_another_bundle_is_refused(workspace: Path, key: str) -> None:
    promoted(workspace)
    first = place_of(workspace)
    candidate(workspace, 2.0, 0.7)
    promoted(workspace)
    second = place_of(workspace)
    second.unlink()
    second.write_bytes(first.read_bytes())
    with pytest.raises(GokuError, match="signs bundle"):
        promotion.resolve(workspace, "champion")
    assert promotion.resolve(workspace, "previous")


def test_unsigned_or_signed_by_others_is_not_loaded_where_keys_are_trusted(workspace: Path, key: str) -> None:
    digest = promoted(workspace).digest
    other = signature.keygen(workspace / "other.pem")
    trust(workspace, other)
    with pytest.raises(GokuError, match=r"which promote.trusted_keys does not name"):
        promotion.resolve(workspace, "champion")
    place_of(workspace).unlink()
    with pytest.raises(GokuError, match="not signed, and"):
        promotion.resolve(workspace, digest[:12])
    trust(workspace)
    assert promotion.resolve(workspace, "champion")[1] == digest


def test_the_environment_trusts_where_there_are_no_parameters(
    workspace: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(workspace)
    monkeypatch.setenv(signature.TRUSTED, f"{key},")
    assert promotion.resolve(workspace, "champion")
    place_of(workspace).unlink()
    with pytest.raises(GokuError, match="not signed"):
        promotion.resolve(workspace, "champion")


def test_without_a_trusted_key_nothing_is_promoted(workspace: Path, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = signature.keygen(workspace / "other.pem")
    with pytest.raises(GokuError, match="names no key that is trusted"):
        promoted(workspace, trusted_keys=[other])
    monkeypatch.delenv(signature.VARIABLE)
    with pytest.raises(GokuError, match="demands a signature"):
        promoted(workspace, trusted_keys=[key])
    assert ledger.read(workspace) == []


def test_signed_by_somebody_else_before_it_is_approved(
    workspace: Path, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who trains holds no key: the candidate waits unsigned, the release's keeper signs it and approves."""
    release = signature.signer()
    assert release is not None
    monkeypatch.delenv(signature.VARIABLE)
    request = Request(gate={"approver": ["Ada"]}, trusted_keys=[key])
    report = promoted(workspace, gate={"approver": ["Ada"]}, trusted_keys=[key])
    assert report.decision == "awaiting"
    with pytest.raises(GokuError, match="not signed"):
        promotion.approve(workspace, request, 1, "Ada", "x")
    signature.sign(workspace, report.digest, release)
    assert promotion.approve(workspace, request, 1, "Ada", "x").decision == "promoted"


def test_a_bundle_that_is_made_again_keeps_its_signature(workspace: Path, key: str) -> None:
    digest = promoted(workspace).digest
    signed = place_of(workspace).read_bytes()
    (place_of(workspace).parent / "t2i/setup.py").write_text("print()")
    assert promotion.repair(Request(), workspace, digest)
    assert place_of(workspace).read_bytes() == signed


def test_keys_are_kept_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "key.pem"
    signature.keygen(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.read_bytes()
    with pytest.raises(GokuError, match="is there already"):
        signature.keygen(file)
    assert file.read_bytes() == before
    monkeypatch.setenv(signature.VARIABLE, str(file))
    file.chmod(0o640)
    with pytest.raises(GokuError, match="others may read"):
        signature.signer()
    file.chmod(0o600)
    file.write_text("-----BEGIN NOTHING-----")
    with pytest.raises(GokuError, match="not a private key"):
        signature.signer()
    other = ec.generate_private_key(ec.SECP256R1())
    file.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(GokuError, match="not an Ed25519 key"):
        signature.signer()
    monkeypatch.setenv(signature.VARIABLE, str(tmp_path / "none.pem"))
    with pytest.raises(GokuError, match="is no file"):
        signature.signer()


@pytest.fixture
def kms(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """Makes keys of a KMS that signs for real; returns their ARN."""
    import boto3
    from moto import mock_aws

    for name, value in (
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "eu-central-1"),
    ):
        monkeypatch.setenv(name, value)
    with mock_aws():
        client = boto3.client("kms")

        def make(spec: str = "ECC_NIST_P256", usage: str = "SIGN_VERIFY") -> str:
            return client.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["Arn"]

        yield make


def test_signed_by_kms(workspace: Path, kms: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(signature.VARIABLE, f"kms:{kms()}")
    digest = promoted(workspace).digest
    told = json.loads(place_of(workspace).read_text())
    assert told["algorithm"] == "ecdsa-p256-sha256"
    monkeypatch.delenv(signature.VARIABLE)  # checking takes neither KMS nor credentials
    trust(workspace, told["key"])
    assert promotion.resolve(workspace, "champion")[1] == digest
    rewrite(place_of(workspace), _other_bytes)
    with pytest.raises(GokuError, match="not a signature"):
        promotion.resolve(workspace, "champion")


def test_keys_of_kms_that_cannot_sign(kms: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(signature.VARIABLE, f"kms:{kms('RSA_2048')}")
    with pytest.raises(GokuError, match=r"offers RSASSA.*ECC_NIST_P256"):
        signature.signer()
    monkeypatch.setenv(signature.VARIABLE, f"kms:{kms('SYMMETRIC_DEFAULT', 'ENCRYPT_DECRYPT')}")
    with pytest.raises(GokuError, match=r"kms:arn:aws"):
        signature.signer()
    monkeypatch.setenv(signature.VARIABLE, "kms:alias/nothing")
    with pytest.raises(GokuError, match=r"kms:alias/nothing: .*Check the key's name"):
        signature.signer()


def test_as_typed(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "disagreements", lambda *_: [])
    promoted(workspace)
    trust(workspace)
    monkeypatch.chdir(workspace)

    def goku(*words: str, code: int = 0) -> dict[str, object]:
        done = CliRunner().invoke(app, [*words, "--json"])
        if isinstance(done.exception, GokuError):
            raise done.exception
        assert done.exit_code == code, done.output
        return json.loads(done.stdout)

    public = goku("registry", "keygen", "--out", str(tmp_path / "k.pem"))["public"]
    with pytest.raises(GokuError, match="GOKU_SIGNING_KEY"):
        goku("registry", "sign", "1")
    trust(workspace, str(public))
    faults = goku("registry", "verify", code=1)["faults"]
    assert len(faults) == 1 and "not signed" in faults[0]
    monkeypatch.setenv(signature.VARIABLE, str(tmp_path / "k.pem"))
    assert goku("registry", "sign", "champion")["key"] == public
    assert goku("registry", "verify")["signed"] == 1

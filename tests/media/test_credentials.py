"""Content credentials: files signed for real with a throw-away key, read back, and seen through when a byte is changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image
from signing_keys import SigningKeys, make_keys, make_time_stamp_keys

from goku_core.media.credentials import SOURCE_TYPE, Signer, read_credentials
from goku_core.media.decode import frames, read_image
from goku_core.media.provenance import Provenance, read_provenance, write_clip, write_picture
from goku_core.pipeline.errors import GokuError

MADE = Provenance("ab" * 32, "a red circle — größer", 2**63 - 1, 24, 3.25, 64, 64, made="2026-01-02T03:04:05+00:00")
CLIP = replace(MADE, frames=5, fps=6.0, negative="")


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> SigningKeys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def signer(keys: SigningKeys) -> Signer:
    found = Signer.from_environment(keys.environment())
    assert found is not None
    return found


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)


def clip() -> np.ndarray:
    return np.stack([np.full((64, 64, 3), 40 * t, np.uint8) for t in range(5)])


def write(path: Path, signer: Signer | None) -> Provenance:
    if path.suffix in (".mp4", ".mov"):
        write_clip(path, clip(), 6.0, CLIP, signer)
        return CLIP
    write_picture(path, pixels(), MADE, signer)
    return MADE


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.mp4", "a.mov"])
def test_signed_and_read_back(tmp_path: Path, name: str, signer: Signer, keys: SigningKeys) -> None:
    path = tmp_path / name
    made = write(path, signer)
    found = read_credentials(path)
    assert (found.state, found.failures) == ("valid", [])
    assert (found.signer, found.issuer) == ("A Test Studio", "Tests") and str(found.generator).startswith("goku ")
    assert found.provenance == made == read_provenance(path), "the signed statement and the plain one say the same"
    assert read_credentials(path, keys.root).state == "trusted"
    if name == "a.png":
        assert np.array_equal(read_image(path), pixels())
    if name == "a.mp4":
        assert len([frame.grey() for frame in frames(path)]) == 5
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("name", "mark", "behind"), [("a.png", b"IDAT", 40), ("a.mp4", b"mdat", 40)])
def test_a_changed_byte_is_detected(tmp_path: Path, name: str, mark: bytes, behind: int, signer: Signer) -> None:
    write(tmp_path / name, signer)
    content = bytearray((tmp_path / name).read_bytes())
    content[content.rindex(mark) + behind] ^= 1
    (tmp_path / name).write_bytes(content)
    found = read_credentials(tmp_path / name)
    assert found.state == "invalid"
    assert any("ash" in failure and "mismatch" in failure for failure in found.failures), found.failures


def test_a_changed_prompt_is_detected(tmp_path: Path, signer: Signer) -> None:
    """The plain text can be edited by anybody, digest and all; the signature covers it."""
    write(tmp_path / "a.png", signer)
    content = (tmp_path / "a.png").read_bytes()
    assert content.count(b"a red circle") == 2, "once in the text chunk, once in the signed statement"
    (tmp_path / "a.png").write_bytes(content.replace(b"a red circle", b"a rod circle", 1))
    assert read_credentials(tmp_path / "a.png").state == "invalid"
    (tmp_path / "a.png").write_bytes(content.replace(b"a red circle", b"a rod circle"))
    assert read_credentials(tmp_path / "a.png").state == "invalid"


def test_credentials_moved_to_another_picture_do_not_hold(tmp_path: Path, signer: Signer) -> None:
    """The chunk with the credentials of one picture, put into another one."""
    write(tmp_path / "a.png", signer)
    write_picture(tmp_path / "b.png", 255 - pixels(), MADE)
    signed, other = (tmp_path / "a.png").read_bytes(), (tmp_path / "b.png").read_bytes()
    at = signed.index(b"caBX") - 4
    chunk = signed[at : at + 12 + int.from_bytes(signed[at : at + 4], "big")]
    first = 8 + 25  # signature and header chunk
    (tmp_path / "b.png").write_bytes(other[:first] + chunk + other[first:])
    assert read_credentials(tmp_path / "b.png").state == "invalid"


def test_it_states_that_a_trained_model_made_it(tmp_path: Path, signer: Signer) -> None:
    """Read with the C2PA library alone."""
    import c2pa

    write(tmp_path / "a.png", signer)
    with c2pa.Reader(tmp_path / "a.png") as reader:
        manifest = reader.get_active_manifest()
    assertions = {one["label"]: one["data"] for one in manifest["assertions"]}
    (action,) = assertions["c2pa.actions.v2"]["actions"]
    assert (action["action"], action["digitalSourceType"]) == ("c2pa.created", SOURCE_TYPE)
    assert SOURCE_TYPE.rpartition("/")[2] == "trainedAlgorithmicMedia"
    assert action["when"].startswith("2026-01-02T03:04:05")
    assert assertions["goku.provenance"]["seed"] == 2**63 - 1 and assertions["goku.provenance"]["prompt"] == MADE.prompt
    assert "thumbnail" not in manifest and manifest["title"] == "a.png"


def test_no_key_no_credentials(tmp_path: Path) -> None:
    assert Signer.from_environment({}) is None
    for name in ("a.png", "a.mp4"):
        write(tmp_path / name, None)
        assert read_credentials(tmp_path / name).state == "none"
    (tmp_path / "a.txt").write_text("text")
    assert read_credentials(tmp_path / "a.txt").state == "none"


def test_what_is_wrong_with_a_key_is_said(tmp_path: Path, keys: SigningKeys) -> None:
    def refused(words: str, **changes: str) -> None:
        with pytest.raises(GokuError, match=words):
            Signer.from_environment({**keys.environment(), **changes})

    refused("GOKU_C2PA_KEY is not", GOKU_C2PA_KEY="")
    refused("GOKU_C2PA_CERTIFICATE is not", GOKU_C2PA_CERTIFICATE="")
    refused("cannot be read", GOKU_C2PA_KEY=str(tmp_path / "nowhere.pem"))
    refused("holds no private key", GOKU_C2PA_KEY=str(keys.chain))
    refused("holds no certificate", GOKU_C2PA_CERTIFICATE=str(keys.key))
    (tmp_path / "text.pem").write_text("hello")
    refused("not in PEM form", GOKU_C2PA_KEY=str(tmp_path / "text.pem"))
    refused("is not that of the key", GOKU_C2PA_KEY=str(make_keys(tmp_path / "other").key))
    locked = serialization.BestAvailableEncryption(b"secret")
    private = serialization.load_pem_private_key(keys.key.read_bytes(), None)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    (tmp_path / "locked.pem").write_bytes(private.private_bytes(*form, locked))
    refused("is encrypted", GOKU_C2PA_KEY=str(tmp_path / "locked.pem"))
    assert isinstance(private, ec.EllipticCurvePrivateKey)


def test_a_certificate_that_does_not_serve_is_refused_before_a_file_is_there(tmp_path: Path) -> None:
    expired = make_keys(tmp_path / "expired", days=-1)
    signer = Signer.from_environment(expired.environment())
    with pytest.raises(GokuError, match=r"a\.png could not be signed"):
        write(tmp_path / "a.png", signer)
    assert not list(tmp_path.glob("*.png")) and not list(tmp_path.glob(".*.png"))


def test_a_time_stamp_authority_that_does_not_answer_is_named(tmp_path: Path, keys: SigningKeys) -> None:
    nobody = "http://127.0.0.1:9/"
    signer = Signer.from_environment({**keys.environment(), "GOKU_C2PA_TIMESTAMP_URL": nobody})
    with pytest.raises(GokuError, match=nobody):
        write(tmp_path / "a.png", signer)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def clock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, SigningKeys]]:
    """A time-stamp authority on this machine: openssl answers what it is asked over HTTP. Its URL and its keys."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl program to play the time-stamp authority")
    folder = tmp_path_factory.mktemp("clock")
    keys = make_time_stamp_keys(folder)
    settings = {"serial": folder / "serial", "signer_cert": keys.chain, "certs": keys.chain, "signer_key": keys.key,
                "default_policy": "1.2.3.4.1", "digests": "sha256, sha384, sha512", "signer_digest": "sha256"}  # fmt: skip
    (folder / "serial").write_text("01\n")
    lines = "\n".join(f"{key} = {value}" for key, value in settings.items())
    (folder / "ts.cnf").write_text(f"[tsa]\ndefault_tsa = here\n[here]\n{lines}\n")

    class Authority(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (folder / "query").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            command = ["openssl", "ts", "-reply", "-config", "ts.cnf", "-queryfile", "query"]
            answer = subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing: the tests' output is for failures."""

    with HTTPServer(("127.0.0.1", 0), Authority) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", keys
        server.shutdown()


def test_a_time_stamp_is_taken_and_read_back(tmp_path: Path, keys: SigningKeys, clock: tuple[str, SigningKeys]) -> None:
    url, authority = clock
    signer = Signer.from_environment({**keys.environment(), "GOKU_C2PA_TIMESTAMP_URL": url})
    write(tmp_path / "a.png", signer)
    both = tmp_path / "both.pem"
    both.write_bytes(keys.root.read_bytes() + authority.root.read_bytes())
    found = read_credentials(tmp_path / "a.png", both)
    assert found.state == "trusted" and found.time
    assert abs((datetime.now(UTC) - datetime.fromisoformat(found.time)).total_seconds()) < 60


def test_without_the_library_a_configured_key_is_an_error(
    tmp_path: Path, keys: SigningKeys, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.png", signer)
    monkeypatch.setitem(sys.modules, "c2pa", None)  # as Python says of a module that is not installed
    with pytest.raises(GokuError, match=r"not installed: pip install .*\[credentials\]"):
        Signer.from_environment(keys.environment())
    assert Signer.from_environment({}) is None
    assert read_credentials(tmp_path / "a.png").state == "unchecked"
    assert json.loads(Image.open(tmp_path / "a.png").text["Comment"])["prompt"] == MADE.prompt

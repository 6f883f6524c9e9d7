"""The model card tells what the records tell, and follows later decisions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from promote_workspace import candidate, promoted
from typer.testing import CliRunner

from goku_core.cli import app
from goku_core.pipeline.errors import GokuError
from goku_core.promote import bundle, card, ledger, package, promotion, registry, signature
from goku_core.promote.request import Request

GATE = {"approver": ["Ada"]}


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(registry, "mirror", lambda *_: None)
    monkeypatch.delenv(signature.VARIABLE, raising=False)
    candidate(tmp_path, 1.0, 0.6)
    folder = tmp_path / "reports/evaluation"
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "samples").mkdir()
    for number in range(3):
        (folder / f"samples/{number}.png").write_bytes(b"picture %d" % number)
    summary["tasks"] = {"colors": {"score": 0.5, "interval": [0.4, 0.6]}}
    summary["singles"] = [
        {"file": f"samples/{number}.png", "prompt": f"prompt {number}", "sample": str(number), "task": "colors"}
        for number in range(3)
    ]
    (folder / "summary.json").write_text(json.dumps(summary))
    promoted(tmp_path, gate=GATE)
    return tmp_path


def digest_of(workspace: Path) -> str:
    return ledger.read(workspace)[-1].bundle


def test_tells_scores_decision_bytes_and_shows_pictures(workspace: Path, tmp_path: Path) -> None:
    digest = digest_of(workspace)
    out = tmp_path / "out"
    out.mkdir()
    text = card.write(workspace, digest, out).read_text()
    manifest = json.loads((bundle.location(workspace, digest) / "manifest.json").read_text())
    for fact in (
        "# Goku, version 1",
        digest,
        manifest["files"]["t2v/model.safetensors"]["sha256"][:16],
        "| geneval/colors | 0.5000 | 0.4000 to 0.6000 |",
        "| 1 | awaiting |",
        f"ledger/gates/{ledger.read(workspace)[0].gate}.json",
        "Signed: no",
        "![prompt 0](pictures/0.png)",
        "No lineage records of its training",
    ):
        assert fact in text, fact
    assert sorted(path.name for path in (out / "pictures").iterdir()) == ["0.png", "1.png"], "two of a task"


def test_follows_an_approval_and_a_signature(workspace: Path, tmp_path: Path) -> None:
    digest = digest_of(workspace)
    place = package.make(workspace, digest)
    first = (place / card.CARD).read_text()
    package.make(workspace, digest)
    assert (place / card.CARD).read_text() == first
    promotion.approve(workspace, Request(gate=GATE), 1, "Ada", "it is good")
    package.make(workspace, digest)
    assert "approved by Ada: it is good" in (place / card.CARD).read_text()
    public = signature.keygen(tmp_path / "key.pem")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(signature.VARIABLE, str(tmp_path / "key.pem"))
        signer = signature.signer()
    assert signer is not None
    signature.sign(workspace, digest, signer)
    package.make(workspace, digest)
    assert public in (place / card.CARD).read_text()
    assert signature.check(place / "bundle", digest, [public])
    bundle.verify(place / "bundle", digest)


def test_the_package_is_mended_and_the_bundle_stays_pure(workspace: Path) -> None:
    digest = digest_of(workspace)
    place = package.make(workspace, digest)
    (place / "bundle/t2i/extra.py").write_text("print()")
    (place / "bundle/vae/config.json").unlink()
    (place / "registered_model_meta").write_text("model_name: goku")  # as MLflow leaves it when it loads a version
    package.make(workspace, digest)
    bundle.verify(place / "bundle", digest)
    bundle.verify(bundle.location(workspace, digest), digest)


def test_a_description_fits_the_registry(workspace: Path) -> None:
    place = package.make(workspace, digest_of(workspace))
    (place / card.CARD).write_text("# Goku\n" + "a line\n" * 2000)
    told = package.description(place)
    assert len(told) < 5000 and told.startswith("# Goku") and told.endswith("`goku registry card`)")


def test_as_typed(workspace: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(workspace)
    done = CliRunner().invoke(app, ["registry", "card", "1"])
    assert done.exit_code == 0 and "# Goku, version 1" in done.stdout
    CliRunner().invoke(app, ["registry", "card", "1", "--out", str(tmp_path / "card")])
    assert (tmp_path / "card/pictures/0.png").read_bytes() == b"picture 0"
    with pytest.raises(GokuError, match="no bundle with an entry"):
        card.write(workspace, "0" * 64, tmp_path)

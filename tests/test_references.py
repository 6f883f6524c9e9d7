"""Names of models: what the ledger knows, folders, and trainings by fingerprint or MLflow run, also replaced ones."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from drawing_workspace import FINGERPRINT, commit_training, drawing_workspace

from goku_core.pipeline.errors import GokuError
from goku_core.references import Model, known_as, locate


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    root = tmp_path_factory.mktemp("drawing")
    digest = drawing_workspace(root)
    commit_training(root, "first")
    tracking = root / ".goku/tracking"
    tracking.mkdir(exist_ok=True)
    (tracking / f"{FINGERPRINT}.mirrored.json").write_text(json.dumps({"run_id": "feed" * 8}))
    return root, digest


@pytest.fixture
def workspace(drawn: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of its own, as the working folder."""
    root = shutil.copytree(drawn[0], tmp_path / "w")
    monkeypatch.chdir(root)
    return root


def test_names_of_the_ledger(workspace: Path, drawn: tuple[Path, str]) -> None:
    found = {name: locate(workspace, name) for name in ("champion", "1", drawn[1], drawn[1][:12])}
    assert {model.digest for model in found.values()} == {drawn[1]}
    assert found["champion"].vae is None, "a bundle has its own"
    folder = found["champion"].folder
    assert locate(workspace, str(folder)) == Model(folder, drawn[1])
    # by hand: the digest of a bundle is the SHA-256 of its manifest
    assert hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest() == drawn[1]
    assert known_as(workspace, drawn[1]) == "version 1, champion" and known_as(workspace, "00" * 32) is None


def test_a_training_by_its_names(workspace: Path) -> None:
    phase = locate(workspace, "models/first")
    for name in (FINGERPRINT, FINGERPRINT[:8], "feed" * 8, phase.digest, phase.digest[:16]):
        found = locate(workspace, name)
        assert (found.digest, found.folder) == (phase.digest, workspace / "models/first"), name
    assert known_as(workspace, phase.digest) == f"train@first {FINGERPRINT[:12]}"
    files = {name: hashlib.sha256((workspace / "models/first" / name).read_bytes()).hexdigest()
             for name in ("config.json", "model.safetensors")}  # fmt: skip
    spelled = json.dumps(sorted(files.items()), separators=(",", ":"))
    assert phase.digest == hashlib.sha256(spelled.encode()).hexdigest(), "of both files, as documented"


def test_a_replaced_phase_still_draws_from_the_store(workspace: Path) -> None:
    before = locate(workspace, FINGERPRINT)
    drawn = before.open("t2i").images(["a red circle"], [3])
    shutil.rmtree(workspace / "models")
    after = locate(workspace, FINGERPRINT)
    assert after.digest == before.digest and after.folder.is_relative_to(workspace / ".goku")
    assert (after.open("t2i").images(["a red circle"], [3]) == drawn).all()
    assert locate(workspace, FINGERPRINT).folder == after.folder, "laid out once"


def test_a_phase_whose_bytes_are_gone_says_how_to_make_it_again(workspace: Path) -> None:
    shutil.rmtree(workspace / "models")
    shutil.rmtree(workspace / ".goku/store")
    with pytest.raises(GokuError, match="goku run train@first"):
        locate(workspace, FINGERPRINT)


def test_a_settings_file_that_was_edited_is_another_model(workspace: Path) -> None:
    before = locate(workspace, "models/first").digest
    settings = workspace / "models/first/config.json"
    changed = json.loads(settings.read_text())
    changed["sampling"]["shift"] = 3.0
    settings.unlink()  # a link into the store
    settings.write_text(json.dumps(changed))
    assert locate(workspace, "models/first").digest != before
    assert locate(workspace, FINGERPRINT).folder.is_relative_to(workspace / ".goku"), (
        "the name still means the old bytes"
    )


def test_the_beginning_of_two_names_is_asked_about(workspace: Path) -> None:
    commit_training(workspace, "i2v", FINGERPRINT[:-2] + "ff")
    with pytest.raises(GokuError, match="Give more of it"):
        locate(workspace, FINGERPRINT[:20])
    assert locate(workspace, FINGERPRINT).folder.name == "first"


def test_what_is_no_model_is_told_with_what_there_is(workspace: Path, tmp_path: Path) -> None:
    for name, words in {
        "champoin": r"Did you mean champion\?.*models/first, models/i2v",
        "7": "no version 7",
        "abcdef0123456789": "No model 'abcdef0123456789'.*models/first",
        "models/joint": "neither a bundle",
        "models": "neither a bundle",
    }.items():
        with pytest.raises(GokuError, match=words):
            locate(workspace, name)
    with pytest.raises(GokuError, match="make demo"):
        locate(tmp_path / "empty", "champion")
    assert not (tmp_path / "empty").exists(), "asking makes no folders"
    shutil.rmtree(workspace / "ledger")
    with pytest.raises(GokuError, match=r"No model has been promoted.*models/first"):
        locate(workspace, "champion")

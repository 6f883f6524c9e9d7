"""`goku promote --by-hand`, `rollback` and `registry`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from promote_workspace import candidate, promoted
from typer.testing import CliRunner

from goku_core import cli_promote
from goku_core.cli import app
from goku_core.pipeline.errors import GokuError
from goku_core.promote import Request, bundle, ledger, registry


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three candidates: promoted, promoted, refused. Without MLflow, which has its own tests."""
    monkeypatch.setattr(registry, "mirror", lambda *_: "1")
    monkeypatch.setattr(registry, "disagreements", lambda *_: [])
    monkeypatch.setattr(cli_promote, "_request", lambda _: Request())
    for value, score in ((1.0, 0.6), (2.0, 0.7), (3.0, 0.2)):
        candidate(tmp_path, value, score)
        promoted(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def goku(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(words))
    if isinstance(done.exception, GokuError):
        raise done.exception
    assert done.exit_code == code, done.output
    return done.stdout


def test_list_and_history(workspace: Path) -> None:
    rows = json.loads(goku("registry", "ls", "--json"))
    assert [(row["version"], row["parts"]) for row in rows] == [
        (1, ["previous"]),
        (2, ["champion"]),
        (3, ["challenger"]),
    ]
    assert "champion" in goku("registry", "ls")
    said = goku("registry", "history")
    assert said.count("promoted") == 2 and "at most 0.0707 below is allowed" in said


def test_rollback_and_overruling_the_gate(workspace: Path) -> None:
    assert "version 1" in goku("rollback", "--because", "colours")
    assert json.loads(goku("promote", "--by-hand", "3", "--because", "for a test", "--json"))["version"] == 3
    assert [entry.reason for entry in ledger.read(workspace)][-2:] == ["colours", "by hand: for a test"]
    with pytest.raises(GokuError, match="needs --because"):
        goku("promote", "--by-hand", "2")
    with pytest.raises(GokuError, match="no version"):
        goku("rollback", "--to", "9")


def test_verify_finds_a_changed_and_a_missing_bundle(workspace: Path) -> None:
    assert "no faults" in goku("registry", "verify")
    first, second, _ = (bundle.location(workspace, entry.bundle) for entry in ledger.read(workspace))
    weights = first / "vae/model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes() + b"x")
    second.rename(workspace / "elsewhere")
    facts = json.loads(goku("registry", "verify", "--json", code=1))
    assert len(facts["faults"]) == 2
    assert "vae/model.safetensors was changed" in facts["faults"][0] and "missing" in facts["faults"][1]


def test_an_empty_ledger_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "No model has been promoted" in goku("registry", "ls")
    assert goku("registry", "history") == "The ledger is empty.\n"

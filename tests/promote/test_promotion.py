from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from promote_workspace import candidate, context, promoted, write_evaluation, write_models

from goku_core.pipeline.errors import GokuError
from goku_core.promote import ledger, promotion, registry
from goku_core.promote.gate import allowed_drop
from goku_core.promote.request import Request


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace without MLflow: the mirror has its own tests (test_registry.py)."""
    monkeypatch.setattr(registry, "mirror", lambda *_: None)
    return tmp_path


def decisions(workspace: Path) -> list[str]:
    return [f"{entry.decision} {entry.version}" for entry in ledger.read(workspace)]


def test_first_candidate_becomes_champion(workspace: Path) -> None:
    candidate(workspace, 1.0, 0.6)
    report = promoted(workspace)
    assert (report.decision, report.version, report.champion) == ("promoted", 1, report.digest)
    folder, digest = promotion.resolve(workspace, "champion")
    assert digest == report.digest and (folder / "t2i/model.safetensors").is_file()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert set(manifest["lineage"]["evaluation"]) == {"summary.json", "records.jsonl"}


def test_repeating_it_writes_nothing_and_says_the_same(workspace: Path) -> None:
    candidate(workspace, 1.0, 0.6)
    promoted(workspace)
    said = (workspace / ".goku/staging/reports/promotion.json").read_bytes()
    promoted(workspace)
    assert (workspace / ".goku/staging/reports/promotion.json").read_bytes() == said
    assert decisions(workspace) == ["promoted 1"]
    candidate(workspace, 2.0, 0.1)
    promoted(workspace)
    promoted(workspace)
    assert decisions(workspace) == ["promoted 1", "refused 2"], "a refusal is not written twice either"


def test_killed_after_the_ledger_the_next_call_completes(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    candidate(workspace, 1.0, 0.6)
    mirrored: list[str] = []

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(registry, "mirror", killed)
        with pytest.raises(KeyboardInterrupt):
            promoted(workspace)
    assert decisions(workspace) == ["promoted 1"]
    monkeypatch.setattr(registry, "mirror", lambda _, name, alias: mirrored.append(alias))
    assert promoted(workspace).decision == "promoted"
    assert decisions(workspace) == ["promoted 1"] and mirrored == ["champion"]


@pytest.mark.parametrize(
    ("score", "decision"), [(0.70, "promoted"), (0.60, "promoted"), (0.54, "promoted"), (0.52, "refused")]
)
def test_gate_allows_what_chance_explains(workspace: Path, score: float, decision: str) -> None:
    """Half-widths 0.05 and 0.05: the difference's is 0.0707, so 0.5293 is the lowest that passes beside 0.60."""
    candidate(workspace, 1.0, 0.60)
    promoted(workspace)
    candidate(workspace, 2.0, score)
    assert promoted(workspace).decision == decision


def test_allowed_drop_combines_both_intervals() -> None:
    assert allowed_drop("interval", (0.4, 0.46), (0.5, 0.58)) == pytest.approx(0.05)
    assert allowed_drop(0.0, (0.4, 0.46), (0.5, 0.58)) == 0.0


def test_minimum_score(workspace: Path) -> None:
    candidate(workspace, 1.0, 0.3)
    report = promoted(workspace, gate={"minimum_score": 0.5})
    assert report.decision == "refused" and "below the minimum" in report.reason and report.champion is None


def test_evidence_about_other_bytes_is_refused_and_not_kept(workspace: Path) -> None:
    candidate(workspace, 1.0, 0.6)
    promoted(workspace)
    write_models(workspace, 2.0)  # trained again, not evaluated again
    report = promoted(workspace)
    assert report.decision == "refused" and "evidence does not match" in report.reason
    assert "finetune_t2v was evaluated as" in report.reason
    with pytest.raises(GokuError, match="is missing"):
        promotion.resolve(workspace, "2")
    with pytest.raises(GokuError):
        promotion.promote_by_hand(workspace, Request(), 2, "I like it")
    assert promotion.resolve(workspace, "champion")[1] != report.digest


def test_scores_of_another_evaluation_are_not_compared(workspace: Path) -> None:
    candidate(workspace, 1.0, 0.6)
    promoted(workspace)
    write_models(workspace, 2.0)
    write_evaluation(workspace, 0.9, protocol="geneval-3")
    assert "not comparable" in promoted(workspace).reason
    promotion.promote_by_hand(workspace, Request(), 2, "new protocol")
    assert ledger.champion(ledger.read(workspace)).version == 2


def test_rollback_and_back_again(workspace: Path) -> None:
    for value, score in ((1.0, 0.6), (2.0, 0.7), (3.0, 0.8)):
        candidate(workspace, value, score)
        promoted(workspace)
    assert promotion.rollback(workspace, Request(), None, "odd colours").version == 2
    assert promotion.resolve(workspace, "champion")[1] == promotion.resolve(workspace, "2")[1]
    assert promotion.resolve(workspace, "previous")[1] == promotion.resolve(workspace, "1")[1]
    report = promoted(workspace)  # the models of version 3 still lie there
    assert report.decision == "refused" and "rolled back" in report.reason
    assert promotion.rollback(workspace, Request(), 1, "").version == 1
    with pytest.raises(GokuError, match="first champion"):
        promotion.rollback(workspace, Request(), None, "")
    promotion.promote_by_hand(workspace, Request(), 3, "colours were right")
    entries = ledger.read(workspace)
    assert [e.decision for e in entries] == ["promoted"] * 3 + ["rolled-back", "refused", "rolled-back", "promoted"]
    assert entries[-1].reason == "by hand: colours were right"


def test_names_of_models(workspace: Path) -> None:
    with pytest.raises(GokuError, match="make demo"):
        promotion.resolve(workspace, "champion")
    candidate(workspace, 1.0, 0.6)
    digest = promoted(workspace).digest
    assert promotion.resolve(workspace, "1")[1] == promotion.resolve(workspace, digest[:12])[1] == digest
    with pytest.raises(GokuError, match="no version 7"):
        promotion.resolve(workspace, "7")
    with pytest.raises(GokuError, match="No model 'challenger'"):
        promotion.resolve(workspace, "challenger")


def test_changed_champion_is_not_served(workspace: Path) -> None:
    candidate(workspace, 1.0, 0.6)
    promoted(workspace)
    folder, _ = promotion.resolve(workspace, "champion")
    weights = folder / "t2i/model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(GokuError, match="was changed"):
        promotion.resolve(workspace, "champion")


def test_damaged_bundle_is_made_again_from_the_models(workspace: Path) -> None:
    candidate(workspace, 1.0, 0.6)
    digest = promoted(workspace).digest
    folder, _ = promotion.resolve(workspace, "champion")
    assert promotion.repair(Request(), workspace, digest) is False
    shutil.rmtree(folder)
    assert promotion.repair(Request(), workspace, digest) is True
    assert promotion.resolve(workspace, "champion") == (folder, digest)
    assert decisions(workspace) == ["promoted 1"]


def test_what_cannot_be_made_again_is_said_and_nothing_is_written(workspace: Path) -> None:
    candidate(workspace, 1.0, 0.6)
    digest = promoted(workspace).digest
    shutil.rmtree(promotion.resolve(workspace, "champion")[0])
    before = ledger.head(workspace)
    candidate(workspace, 2.0, 0.7)
    with pytest.raises(GokuError, match="from a copy, or go back"):
        promotion.repair(Request(), workspace, digest)
    assert ledger.head(workspace) == before and not list((workspace / ".goku/bundles").iterdir())


def test_read_only_weights_are_linked_and_others_copied(workspace: Path) -> None:
    """What the content store holds is not copied again: at 16 GB a copy is minutes and disk."""
    candidate(workspace, 1.0, 0.6)
    weights = workspace / "models/finetune_t2i/model.safetensors"
    weights.chmod(0o444)
    promoted(workspace)
    folder, _ = promotion.resolve(workspace, "champion")
    assert (folder / "t2i/model.safetensors").samefile(weights)
    assert not (folder / "t2v/model.safetensors").samefile(workspace / "models/finetune_t2v/model.safetensors")


def test_tasks_without_a_model_are_left_out(workspace: Path) -> None:
    candidate(workspace, 1.0, 0.6)
    promoted(workspace, video_model=None, image_to_video_model=None)
    folder, _ = promotion.resolve(workspace, "champion")
    assert json.loads((folder / "config.json").read_text())["tasks"] == {"t2i": "t2i"}


def test_missing_evaluation_says_what_to_do(workspace: Path) -> None:
    write_models(workspace, 1.0)
    with pytest.raises(GokuError, match="goku run evaluate"):
        promotion.promote(Request(), context(workspace))

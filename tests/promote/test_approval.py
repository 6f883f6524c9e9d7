"""A candidate that meets every rule waits for a person where the gate names one; the ledger keeps who said what."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from promote_workspace import candidate, promoted, write_evaluation, write_models
from typer.testing import CliRunner

from goku_core import cli_promote
from goku_core.cli import app
from goku_core.pipeline.errors import GokuError
from goku_core.promote import ledger, promotion, registry
from goku_core.promote.request import Request

GATE = {"approver": ["Ada", "Grace"]}
REQUEST = Request(gate=GATE)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Version 1 is champion, version 2 waits. Without MLflow, which has its own tests."""
    monkeypatch.setattr(registry, "mirror", lambda *_: None)
    candidate(tmp_path, 1.0, 0.6)
    promoted(tmp_path)
    candidate(tmp_path, 2.0, 0.7)
    promoted(tmp_path, gate=GATE)
    return tmp_path


def parts(workspace: Path) -> dict[str, int | None]:
    entries = ledger.read(workspace)
    version = {entry.bundle: entry.version for entry in entries}
    return {part: version.get(digest) for part, digest in ledger.roles(entries).items()}


def test_waits_as_challenger_and_asking_again_writes_nothing(workspace: Path) -> None:
    before = ledger.head(workspace)
    report = promoted(workspace, gate=GATE)
    assert (report.decision, report.version, report.approvers) == ("awaiting", 2, ["Ada", "Grace"])
    assert report.reason.endswith("waits for Ada or Grace")
    assert ledger.head(workspace) == before
    assert parts(workspace) == {"champion": 1, "previous": None, "challenger": 2}
    assert promotion.resolve(workspace, "challenger")[1] == report.digest, "it can be looked at before it is approved"


def test_what_was_not_kept_has_no_part(workspace: Path) -> None:
    write_models(workspace, 3.0)  # trained again, not evaluated again
    report = promoted(workspace)
    assert (report.decision, report.kept) == ("refused", False)
    assert parts(workspace) == {"champion": 1, "previous": None, "challenger": 2}
    promotion.decline(workspace, REQUEST, 2, "Ada", "faces melt")
    write_models(workspace, 4.0)
    promoted(workspace)
    assert parts(workspace)["challenger"] == 2, "declined, and kept"


def test_approved(workspace: Path) -> None:
    entry = promotion.approve(workspace, REQUEST, 2, "Grace", "clips look right")
    assert (entry.decision, entry.by, entry.answers) == ("promoted", "Grace", 2)
    assert entry.reason == "approved by Grace: clips look right"
    assert entry.gate == ledger.read(workspace)[1].gate
    assert parts(workspace) == {"champion": 2, "previous": 1, "challenger": None}
    assert promoted(workspace, gate=GATE).decision == "promoted", "the stage's next run finds it settled"
    assert len(ledger.read(workspace)) == 3
    with pytest.raises(GokuError, match="does not wait for approval, it is promoted"):
        promotion.approve(workspace, REQUEST, 2, "Ada", "me too")


def test_declined_and_not_asked_for_again(workspace: Path) -> None:
    entry = promotion.decline(workspace, REQUEST, 2, "Ada", "faces melt")
    assert (entry.decision, entry.by, entry.reason) == ("refused", "Ada", "declined by Ada: faces melt")
    assert parts(workspace)["champion"] == 1
    report = promoted(workspace, gate=GATE)
    assert (report.decision, report.reason) == ("refused", entry.reason)
    with pytest.raises(GokuError, match="does not wait"):
        promotion.approve(workspace, REQUEST, 2, "Grace", "I like it")


def test_approved_and_rolled_back_is_not_brought_back_by_a_rerun(workspace: Path) -> None:
    promotion.approve(workspace, REQUEST, 2, "Ada", "fine")
    promotion.rollback(workspace, REQUEST, None, "it was not")
    report = promoted(workspace, gate=GATE)
    assert report.decision == "refused" and "was rolled back by entry 4" in report.reason


def test_only_approvers_decide(workspace: Path) -> None:
    for decided in (promotion.approve, promotion.decline):
        with pytest.raises(GokuError, match=r"Eve may not decide this: promote.gate.approver names Ada, Grace"):
            decided(workspace, REQUEST, 2, "Eve", "please")
    with pytest.raises(GokuError, match="not for everybody"):
        promotion.promote_by_hand(workspace, REQUEST, 2, "past the approvers")
    with pytest.raises(GokuError, match="names nobody"):
        promotion.approve(workspace, Request(), 2, "Ada", "no approver is asked for any more")
    with pytest.raises(GokuError, match=r"does not wait for approval, it is promoted. Waiting: 2"):
        promotion.approve(workspace, REQUEST, 1, "Ada", "the wrong one")
    assert len(ledger.read(workspace)) == 2


def test_not_approved_beside_another_champion(workspace: Path) -> None:
    candidate(workspace, 3.0, 0.8)
    promoted(workspace)
    with pytest.raises(GokuError, match="judged against another champion; now it is version 3"):
        promotion.approve(workspace, REQUEST, 2, "Ada", "too late")


def test_not_approved_by_other_rules(workspace: Path) -> None:
    stricter = Request(gate=GATE | {"minimum_score": 0.65})
    with pytest.raises(GokuError, match=r"promote.gate was changed"):
        promotion.approve(workspace, stricter, 2, "Ada", "by the new rules")
    assert promoted(workspace, gate=GATE | {"minimum_score": 0.65}).decision == "awaiting", "judged again, it waits"
    assert promotion.approve(workspace, stricter, 2, "Ada", "by the new rules").version == 2


def test_not_approved_on_an_evaluation_that_was_made_again(workspace: Path) -> None:
    summary = workspace / "reports/evaluation/summary.json"
    judged, digest = summary.read_bytes(), ledger.read(workspace)[-1].evidence
    write_evaluation(workspace, 0.9)
    with pytest.raises(GokuError, match="gone from the workspace"):
        promotion.approve(workspace, REQUEST, 2, "Ada", "x")
    stored = workspace / ".goku/store" / digest[:2] / digest
    stored.parent.mkdir(parents=True)
    stored.write_bytes(judged)
    with pytest.raises(GokuError, match="evaluated again since"):
        promotion.approve(workspace, REQUEST, 2, "Ada", "x")
    write_models(workspace, 3.0)
    write_evaluation(workspace, 0.9)  # of another candidate: what was judged about this one stands, in the store
    assert promotion.approve(workspace, REQUEST, 2, "Ada", "x").decision == "promoted"


def test_changed_bytes_are_not_approved(workspace: Path) -> None:
    folder, _ = promotion.resolve(workspace, "2")
    weights = folder / "t2v/model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(GokuError, match="was changed"):
        promotion.approve(workspace, REQUEST, 2, "Ada", "x")
    assert parts(workspace)["champion"] == 1


def test_as_typed(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workspace)
    monkeypatch.setattr(cli_promote, "_request", lambda _: REQUEST)

    def goku(*words: str) -> str:
        done = CliRunner().invoke(app, list(words))
        if isinstance(done.exception, GokuError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return done.stdout

    for words, missing in (
        (["--approve", "2", "--by", "Ada"], "--because"),
        (["--approve", "2", "--because", "x"], "--by"),
        (["--approve", "2", "--decline", "2"], "exclude each other"),
    ):
        with pytest.raises(GokuError, match=missing):
            goku("promote", *words)
    assert "awaiting" in goku("registry", "history")
    told = json.loads(goku("promote", "--approve", "2", "--by", "Ada", "--because", "it is good", "--json"))
    assert (told["decision"], told["version"], told["by"]) == ("promoted", 2, "Ada")
    assert "approved by Ada: it is good" in goku("registry", "history")

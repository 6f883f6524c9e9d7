"""The gate's rules: thresholds, required evaluations, paired differences, and what the ledger keeps of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from promote_workspace import candidate, promoted, write_records
from pydantic import ValidationError

from goku_core.promote import ledger, registry
from goku_core.promote.evidence import Evidence, Past, Score
from goku_core.promote.gate import judge
from goku_core.promote.paired import Difference, difference
from goku_core.promote.request import Gate

EVIDENCE = Evidence(
    digest="e",
    score=0.6,
    interval=(0.5, 0.7),
    models={},
    scores={
        "overall": Score(0.6, 0.5, 0.7),
        "geneval/counting": Score(0.4, 0.3, 0.5),
        "motion/direction": Score(0.5, 0.25, 0.75),
    },
)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(registry, "mirror", lambda *_: None)
    return tmp_path


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"thresholds": {"geneval/counting": {"minimum": 0.4}}}, None),
        (
            {"thresholds": {"geneval/counting": {"minimum": 0.41}}},
            r"geneval/counting, 0.4000, is below the minimum 0.41",
        ),
        ({"thresholds": {"geneval/counting": {"minimum": 0.3, "bound": "low"}}}, None),
        (
            {"thresholds": {"geneval/counting": {"minimum": 0.35, "bound": "low"}}},
            r"the lower bound of geneval/counting, 0.3000, is below",
        ),
        ({"thresholds": {"vbench/motion": {"minimum": 0.0}}}, "vbench/motion has a threshold, but was not measured"),
        ({"required": ["geneval", "motion", "motion/direction"]}, None),
        ({"required": ["i2v"]}, "the required evaluation i2v is missing"),
        ({"required": ["motion/flicker"]}, "the required evaluation motion/flicker is missing"),
        ({"required": ["mot"]}, "the required evaluation mot is missing"),
    ],
)
def test_rules_without_a_champion(rules: dict[str, object], words: str | None) -> None:
    verdict = judge(Gate(**rules), EVIDENCE, [], None)
    assert verdict.accepted == (words is None)
    if words:
        assert words in verdict.reason


def test_every_broken_rule_is_named() -> None:
    gate = Gate(minimum_score=0.9, required=["i2v"], thresholds={"geneval/counting": {"minimum": 0.9}})
    reason = judge(gate, EVIDENCE, [], None).reason
    assert "score 0.6000 is below" in reason and "i2v is missing" in reason and "geneval/counting" in reason


def test_a_threshold_that_says_nothing_is_no_threshold() -> None:
    with pytest.raises(ValidationError, match="needs minimum, maximum_drop or both"):
        Gate(thresholds={"overall": {}})


def entry(**changes: object) -> ledger.Entry:
    facts = {
        "number": 1, "previous": None, "decision": "promoted", "version": 1, "bundle": "b", "champion": "b",
        "against": None, "score": 0.6, "interval": (0.5, 0.7), "protocol": None, "evidence": "x", "reason": "r",
        "time": "2026-01-01T00:00:00+00:00", "by": "a",
    }  # fmt: skip
    return ledger.Entry(**(facts | changes))


def test_single_scores_beside_the_champion() -> None:
    gate = Gate(thresholds={"geneval/counting": {"maximum_drop": 0.05}})
    past = Past({"geneval/counting": Score(0.44, 0.3, 0.6)})
    assert judge(gate, EVIDENCE, [], entry(), past).accepted
    worse = Past({"geneval/counting": Score(0.46, 0.3, 0.6)})
    assert "at most 0.0500 below" in judge(gate, EVIDENCE, [], entry(), worse).reason
    assert "not known any more" in judge(gate, EVIDENCE, [], entry(), Past()).reason


def test_paired_difference_is_the_textbook_one(tmp_path: Path) -> None:
    """Many prompts: the bootstrap's interval is that of the normal law, mean +- 1.96 standard errors of the differences."""
    rng = np.random.default_rng(7)
    hard = rng.uniform(0, 1, 400)
    drop = rng.normal(-0.02, 0.1, 400)
    tables = []
    for name, values in (("ours", hard + drop), ("theirs", hard)):
        (tmp_path / name / "reports/evaluation").mkdir(parents=True)
        write_records(tmp_path / name, {"colors": list(values)})
        tables.append(tmp_path / name / "reports/evaluation/records.parquet")
    found = difference(*tables, "overall")
    assert isinstance(found, Difference) and found.prompts == 400
    error = drop.std(ddof=1) / 20
    assert found.value == pytest.approx(drop.mean())
    assert (found.low, found.high) == pytest.approx(
        (drop.mean() - 1.96 * error, drop.mean() + 1.96 * error), abs=0.1 * error
    )
    assert difference(*tables, "geneval/colors") == found
    assert "gone" in str(difference(tables[0], None, "overall"))
    assert "other prompts" in str(difference(*tables, "motion/direction"))


def test_paired_refuses_what_two_intervals_would_let_through(workspace: Path) -> None:
    """Every prompt a little worse: lost in the spread between prompts, and plain when the same ones are compared."""
    hard = [0.1, 0.9, 0.3, 0.8, 0.5, 0.6, 0.2, 0.7]

    def judged(value: float, shift: float, rule: str) -> ledger.Entry:
        candidate(workspace, value, 0.6 + shift, half=0.05)
        write_records(workspace, {"colors": [one + shift for one in hard]})
        promoted(workspace, gate={"maximum_drop": rule})
        return ledger.read(workspace)[-1]

    assert judged(1.0, 0.0, "paired").decision == "promoted"
    # the next evaluation replaces the folder: the champion's records are then in the store alone
    kept = (workspace / "reports/evaluation/records.parquet").read_bytes()
    manifest = json.loads(next((workspace / ".goku/bundles").glob("*/manifest.json")).read_text())
    digest = manifest["lineage"]["evaluation"]["records.parquet"]
    place = workspace / ".goku/store" / digest[:2] / digest
    place.parent.mkdir(parents=True)
    place.write_bytes(kept)

    refused = judged(2.0, -0.02, "paired")
    assert (
        refused.decision == "refused" and "worse by more than chance explains on the same 8 prompts" in refused.reason
    )
    place.unlink()
    unpaired = judged(3.0, -0.02, "paired")
    assert unpaired.decision == "promoted" and "not paired: the champion's records are gone" in unpaired.reason


def test_the_ledger_keeps_the_rules(workspace: Path) -> None:
    candidate(workspace, 1.0, 0.6)
    promoted(workspace, gate={"required": ["geneval"]})
    (only,) = ledger.read(workspace)
    rules = workspace / "ledger/gates" / f"{only.gate}.json"
    assert json.loads(rules.read_text())["required"] == ["geneval"]
    assert ledger.faults_of_gates(workspace, [only]) == []
    rules.write_text(rules.read_text().replace("geneval", "motion"))
    assert "changed after the decision" in ledger.faults_of_gates(workspace, [only])[0]
    rules.unlink()
    assert "are missing" in ledger.faults_of_gates(workspace, [only])[0]


def test_other_rules_are_asked_anew(workspace: Path) -> None:
    candidate(workspace, 1.0, 0.6)
    assert promoted(workspace, gate={"minimum_score": 0.7}).decision == "refused"
    assert promoted(workspace, gate={"minimum_score": 0.7}).decision == "refused"
    assert promoted(workspace, gate={"minimum_score": 0.5}).decision == "promoted"
    assert [one.decision for one in ledger.read(workspace)] == ["refused", "promoted"]


def test_entries_of_before_the_rules_were_kept_stay_readable(workspace: Path) -> None:
    """As an earlier release wrote them: without the later fields, in the same chain."""
    candidate(workspace, 1.0, 0.6)
    promoted(workspace)
    first = workspace / "ledger/000001.json"
    told = json.loads(first.read_text())
    del told["gate"], told["answers"]
    first.chmod(0o644)
    first.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n")
    candidate(workspace, 2.0, 0.7)
    assert promoted(workspace).version == 2
    old, new = ledger.read(workspace)
    assert old.gate is None and new.gate is not None

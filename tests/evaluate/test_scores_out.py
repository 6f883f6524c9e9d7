"""The line's scores where others look for them: MLflow's metrics and tags, Prefect's artifacts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from finished_line import finished_line

from flows.scores import pictures, plain
from goku_core.evaluate.page.figures import examples, metrics, score_rows, tags


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_line(tmp_path_factory.mktemp("line"), curation=False) / "reports/evaluation"


@pytest.fixture(scope="module")
def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def test_metrics_have_their_bounds(summary: dict) -> None:
    found = metrics(summary)
    for name, entry in {"overall": summary["overall"], **summary["tasks"]}.items():
        low, high = entry["interval"]
        assert [found[f"evaluate/{name}{end}"] for end in ("_low", "", "_high")] == [low, entry["score"], high]
        assert found[f"evaluate/{name}_low"] <= found[f"evaluate/{name}"] <= found[f"evaluate/{name}_high"]
    assert found["evaluate/motion_direction_chance"] == 0.25
    assert found["evaluate/i2v_first_frame_psnr"] == summary["clips"]["i2v"]["first_frame_psnr"]["score"]
    assert all(re.fullmatch(r"[\w/.-]+", name) for name in found)  # the names that MLflow admits


def test_tags_say_what_makes_scores_comparable(summary: dict) -> None:
    found = tags(summary)
    low, high = map(float, found["evaluate.interval"].split())
    assert low <= float(found["evaluate.overall"]) <= high
    assert found["evaluate.judge"] == summary["judge"]["fingerprint"]
    assert found["evaluate.protocol"] == summary["protocol"]


def test_rows_of_the_table_artifact(summary: dict) -> None:
    rows = {f"{row['benchmark']}/{row['line']}": row for row in score_rows(summary)}
    assert rows["geneval/overall"]["score"] == f"{summary['overall']['score']:.3f}"
    assert rows["motion/direction"]["chance"] == "0.250" and rows["i2v/first_frame_psnr"]["score"].endswith(" dB")
    low, high = summary["tasks"]["colors"]["interval"]
    assert rows["geneval/colors"]["95 % interval"] == f"{low:.3f} to {high:.3f}"
    json.dumps(score_rows(summary))  # what Prefect does with it


def test_pictures_are_small_and_not_chosen_by_verdict(folder: Path, summary: dict) -> None:
    shown = examples(summary, folder)
    assert len(shown) == 8 and len({one["file"] for one in shown}) == 8
    verdicts = {one["right"] for one in shown}
    assert verdicts == {True, False}  # every third picture of this painter is another prompt's
    text = pictures(shown)
    assert text.count("data:image/png;base64,") == 8 and len(text) < 8 * 90_000
    assert text.count("wrong: expected") == sum(not one["right"] for one in shown)


def test_prompts_are_no_markup(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    prompt = "a | b\n| <script>alert(1)</script> [x](javascript:y) **bold** `code`"
    text = pictures([{"file": tmp_path / "a.png", "prompt": prompt, "right": False, "reason": prompt}])
    lines = text.splitlines()
    assert len(lines) == 3 and len(re.findall(r"(?<!\\)\|", lines[2])) == 4
    assert "<" not in lines[2] and "](javascript" not in lines[2] and "**" not in lines[2] and "`" not in lines[2]
    assert plain("red_square") == "red\\_square"

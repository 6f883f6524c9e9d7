"""The rules that work on tables alone: request, gate, tiers, duplicates, captions, validation."""

import json
import subprocess
import sys
from fractions import Fraction

import pyarrow as pa
import pytest
from pydantic import ValidationError

import goku_core.curate
from goku_core.curate import Request
from goku_core.curate.captions import caption_of, training_text
from goku_core.curate.gate import Verdict, judge
from goku_core.curate.request import Gate
from goku_core.curate.table import EMPTY, SCHEMA
from goku_core.curate.tiers import assign
from goku_core.curate.validation import validate
from goku_core.media.probe import MediaInfo
from goku_core.pipeline.errors import GokuError


def info(**changes) -> MediaInfo:
    facts = {"kind": "video", "codec": "h264", "width": 854, "height": 480, "fps": Fraction(24), "seconds": 4.0}
    facts |= {"bitrate_kbps": 500.0, "time_base": Fraction(1, 12288), "rotation": 0, "has_video": True, "frames": 96}
    return MediaInfo(**(facts | changes))


def test_defaults_are_the_papers() -> None:
    request = Request()
    assert request.gate == Gate(min_seconds=4, min_side=480, min_kbps=500, min_fps=23.976)
    tiers = {name: (t.ocr_max, t.motion_min, t.motion_max) for name, t in request.tiers.items()}
    assert tiers == {"480p": (0.02, 0.3, 20), "720p": (0.01, 0.5, 15), "1080p": (0.01, 0.5, 8)}
    assert request.max_clip_seconds == 10 and Request(**request.model_dump(mode="json")) == request


def test_part_of_a_tier_keeps_the_rest() -> None:
    tiers = Request(tiers={"720p": {"ocr_max": 0.5}}).tiers
    assert (tiers["720p"].ocr_max, tiers["720p"].motion_min, tiers["480p"].ocr_max) == (0.5, 0.5, 0.02)


@pytest.mark.parametrize(
    "bad, where",
    [
        ({"gate": {"min_fps": -1}}, "gate.min_fps"),
        ({"gate": {"min_size": 3}}, "gate.min_size"),
        ({"tiers": {"4k": {}}}, "tiers"),
        ({"tiers": {"480p": {"ocr_max": 2}}}, "tiers.480p.ocr_max"),
        ({"tiers": {"480p": {"motion_min": 30}}}, "tiers.480p"),
        ({"max_clip_seconds": 3}, ""),
        ({"aesthetic": 4.3}, "aesthetic"),
        ({"min_clip_seconds": "two"}, "min_clip_seconds"),
    ],
)
def test_impossible_values_are_one_clear_error(bad: dict, where: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Request(**bad)
    (error,) = caught.value.errors()
    assert ".".join(map(str, error["loc"])) == where


def test_gate_admits_exactly_its_bounds() -> None:
    assert judge(info(fps=Fraction(24000, 1001)), Gate()) is None
    for change, name in (
        ({"seconds": 3.99}, "seconds"),
        ({"height": 479}, "side"),
        ({"bitrate_kbps": 499.9}, "kbps"),
        ({"fps": Fraction(15)}, "fps"),
    ):
        verdict = judge(info(**change), Gate())
        assert verdict.filter == name and verdict.score < verdict.threshold
        assert f"{verdict.threshold:g}" in verdict.message
    assert judge(info(kind="image", seconds=0, fps=Fraction(0), bitrate_kbps=0, frames=1), Gate()) is None


def scored(**changes) -> dict:
    row = EMPTY | {"kind": "video", "width": 1920, "height": 1080, "motion": 5.0, "ocr_coverage": 0.0}
    return row | {"quality_heuristic": 5.0} | changes


def test_tiers_are_nested() -> None:
    request = Request()
    assert assign(scored(), request) == "1080p"
    assert assign(scored(motion=12.0), request) == "720p"
    assert assign(scored(motion=18.0), request) == "480p"
    assert assign(scored(ocr_coverage=0.015), request) == "480p"
    assert assign(scored(width=480, height=854), request) == "480p"
    assert assign(scored(kind="image", motion=None, height=800), request) == "720p"


def test_the_verdict_of_the_most_lenient_tier_is_given() -> None:
    request = Request(quality_heuristic_min=2)
    for change, name, threshold in (
        ({"motion": 21.0}, "motion_high", 20),
        ({"motion": 0.2}, "motion_low", 0.3),
        ({"motion": None}, "motion_unmeasured", 1),
        ({"ocr_coverage": 0.03}, "ocr_coverage", 0.02),
        ({"quality_heuristic": 1.0}, "quality_heuristic", 2),
        ({"height": 300}, "tier_side", 480),
    ):
        verdict = assign(scored(**change), request)
        assert isinstance(verdict, Verdict) and (verdict.filter, verdict.threshold) == (name, threshold)


def test_captions_follow_the_span() -> None:
    timed = [{"start": 0, "end": 4, "text": "first"}, {"start": 4, "end": 9, "text": " second "}]
    assert caption_of(0, 5, "whole", timed) == "first"
    assert caption_of(3, 5, "whole", timed) == "second"
    assert caption_of(8.5, 5, "whole", timed) == "whole"  # less than half of the clip
    assert caption_of(8.5, 5, None, timed) == "" and caption_of(0, 0, None, None) == ""


def test_training_text() -> None:
    assert training_text("a disc", 3.2) == "a disc. motion: 3"
    assert training_text("a disc.", 0.4) == "a disc. motion: 0"
    assert training_text("a disc", None) == "a disc" and training_text("", 3.0) == ""


def table(*changes: dict) -> pa.Table:
    good = {name: EMPTY[name] for name in SCHEMA.names} | {
        "media_id": "a" * 64,
        "uri": "data/raw/a.mp4",
        "kind": "video",
        "end_pts": 60,
        "time_base_num": 1,
        "time_base_den": 24,
        "width": 854,
        "height": 480,
        "motion": 3.0,
        "ocr_coverage": 0.0,
        "quality_heuristic": 5.0,
        "sharpness": 10.0,
        "exposure": 1.0,
        "phash": "0" * 16,
        "tier": "480p",
    }
    return pa.Table.from_pylist([good | {"clip_id": f"c{i}"} | c for i, c in enumerate(changes)], schema=SCHEMA)


def test_validation_passes_and_is_deterministic(tmp_path) -> None:
    gone = {"outcome": "rejected", "filter": "fps", "message": "slow", "tier": None, "motion": None}
    for name in ("one.json", "two.json"):
        validate(table({}, gone), Request(), tmp_path / name, sources=1)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_validation_names_the_offending_clips(tmp_path) -> None:
    bad = table(
        {},
        {"motion": 50.0},  # kept against its tier's demands
        {"filter": "fps", "message": "slow"},  # kept and rejected at once
        {"outcome": "lost"},
        {"ocr_coverage": 1.5},
        {"clip_id": "c0"},  # named twice
    )
    with pytest.raises(GokuError, match=r"expectations\. expect_.* clips: c\d"):
        validate(bad, Request(), tmp_path / "bad.json", sources=2)
    results = json.loads((tmp_path / "bad.json").read_text())["results"]
    failed = {(r["expectation"], r["arguments"]["column"]): r["clips"] for r in results if not r["success"]}
    assert failed["expect_column_values_to_be_between", "motion"] == ["c1"]
    assert failed["expect_column_values_to_be_null", "filter"] == ["c2"]
    assert failed["expect_column_values_to_be_in_set", "outcome"] == ["c3"]
    assert failed["expect_column_values_to_be_between", "ocr_coverage"] == ["c4"]
    assert failed["expect_column_values_to_be_unique", "clip_id"] == ["c0"]
    assert ("expect_column_unique_value_count_to_be_between", "media_id") in failed


def test_importing_the_room_is_cheap() -> None:
    heavy = ["cv2", "av", "torch", "great_expectations", "rapidocr", "scenedetect", "onnxruntime", "pyarrow"]
    code = f"import sys, goku_core.curate; print([m for m in {heavy} if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    )


def test_the_room_shows_two_things() -> None:
    assert sorted(goku_core.curate.__all__) == ["Request", "run"]

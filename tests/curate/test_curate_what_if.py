"""What the table answers is what a rerun with other thresholds does; what it cannot know it refuses."""

from pathlib import Path

import cv2
import pyarrow.parquet as pq
import pytest

from goku_core.curate import Request, run
from goku_core.curate.decide import decide
from goku_core.curate.what_if import ask, changed, parse
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError

VERDICT = ("clip_id", "outcome", "filter", "tier", "score", "threshold", "message")


def curated(workspace: Path, request: Request, name: str) -> list[dict]:
    request = request.model_copy(
        update={"previews": request.previews.model_copy(update={"frames": 0, "clips": 0, "rejected_clips": 0})}
    )
    context = Context(workspace=workspace, staging=workspace / name, scratch=workspace / "scratch", cores=1)
    run(request, context)
    return pq.read_table(context.staging / "data/clips.parquet").to_pylist()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, painter, new_library) -> Path:
    library = new_library(tmp_path_factory.mktemp("what_if") / "workspace")
    library.video("moving.mp4", painter.film([1, 2]))
    library.video("text.mp4", (painter.text(f) for f in painter.moving(13, 4.5)))
    library.video("short.mp4", painter.film([5]))
    library.bytes("empty.mp4", b"")
    for seed in (20, 21, 22, 24):
        library.image(f"{seed}.jpg", painter.disc(painter.ground(seed), 0.4, seed))
    large = cv2.resize(painter.disc(painter.ground(20), 0.4, 20), (960, 720), interpolation=cv2.INTER_CUBIC)
    library.image("20-large.jpg", large, quality=70)
    library.image("text.jpg", painter.text(painter.ground(23)))
    return library.write()


@pytest.fixture(scope="module")
def table(workspace: Path) -> list[dict]:
    return curated(workspace, Request(), "first")


def verdicts(rows: list[dict]) -> list[tuple]:
    return [tuple(row[name] for name in VERDICT) for row in rows]


def test_deciding_again_changes_nothing(table: list[dict]) -> None:
    assert verdicts(decide(table, Request())) == verdicts(table)
    assert len({row["filter"] for row in table}) >= 4  # kept, two filters of scores and more


@pytest.mark.parametrize(
    "question",
    ["ocr=0.5,hamming=-1", "quality=6.4,tiers.480p.motion_max=2,tiers.720p.min_side=721"],
)
def test_a_rerun_gives_what_was_answered(table: list[dict], workspace: Path, question: str) -> None:
    request = Request()
    changes = parse([question], request)
    after = decide(table, changed(request, changes))
    rerun = curated(workspace, changed(request, changes), "again")
    assert verdicts(rerun) == verdicts(after) != verdicts(table)
    answer = ask(table, request, request, changes)
    assert answer.after["kept"] == sum(row["outcome"] == "kept" for row in rerun)
    came = {b["clip_id"] for a, b in zip(table, rerun, strict=True) if b["outcome"] == "kept" != a["outcome"]}
    went = {b["clip_id"] for a, b in zip(table, rerun, strict=True) if a["outcome"] == "kept" != b["outcome"]}
    assert {row["clip_id"] for row in answer.comes_in} == came
    assert {row["clip_id"] for row in answer.goes_out} == went
    assert came or went
    assert answer.before["kept"] + len(came) - len(went) == answer.after["kept"]


def test_short_keys_stand_for_all_tiers() -> None:
    found = parse(["ocr=0.3, quality=2", "curate.dedup.max_hamming=4"], Request())
    assert found == {f"tiers.{tier}.ocr_max": 0.3 for tier in ("480p", "720p", "1080p")} | {
        "quality_heuristic_min": 2,
        "dedup.max_hamming": 4,
    }


@pytest.mark.parametrize(
    "question, message",
    [
        ("sharpness=3", r"no such key.*Short keys: .*ocr.*Full keys: .*tiers\.480p\.ocr_max"),
        ("ocr", "write KEY=VALUE"),
        ("", "nothing is asked"),
        (
            "gate.min_seconds=1,ocr=0.1",
            r"(?s)gate\.min_seconds: cannot be answered.* 1 of the 1 files .*goku run curate",
        ),
        ("shots.min_content=3", "bounds of clips"),
        ("previews.width=100", "not among the demands"),
        ("ocr=lots", r"tiers\.480p\.ocr_max: .*number"),
        ("motion_min=50", r"tiers\.480p: .*nothing passes"),
    ],
)
def test_what_cannot_be_answered_is_one_clear_error(table: list[dict], question: str, message: str) -> None:
    with pytest.raises(GokuError, match=message):
        ask(table, Request(), Request(), parse([question], Request()))


def test_text_that_was_never_read_is_said_to_be_uncertain(table: list[dict]) -> None:
    """Boxes below the strictest tier were not read when the table was made."""
    rows = [dict(row) for row in table]
    kept = next(row for row in rows if row["outcome"] == "kept")
    kept["ocr_coverage"] = 0.008
    answer = ask(rows, Request(), Request(), parse(["ocr=0.005"], Request()))
    assert [row["clip_id"] for row in answer.unread] == [kept["clip_id"]]
    assert ask(rows, Request(), Request(), parse(["ocr=0.01"], Request())).unread == []


def test_clips_that_no_model_has_labelled_are_said_to_be_uncertain(table: list[dict]) -> None:
    """They matter where balance counts labels, and only where models make captions or labels."""
    rows = [row | {"label": "forest", "primary": "scenery"} if row["outcome"] == "kept" else dict(row) for row in table]
    clip = {"taxonomy": {"classifier": "clip", "weights": "x"}}
    request, words, large = (
        Request(balance={"least_labelled": least}, **other) for least, other in ((1, clip), (1, {}), (100, clip))
    )
    changes = parse(["ocr=0.5"], request)
    answer = ask(rows, request, request, changes)
    assert {row["clip_id"] for row in answer.unlabelled} == {row["clip_id"] for row in answer.comes_in} != set()
    assert ask(rows, words, words, changes).unlabelled == ask(rows, large, large, changes).unlabelled == []

"""What stops a publication: lost rows, drift from the version before. And the page that says what was checked."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from goku_core.curate import Request
from goku_core.curate.checks import drift
from goku_core.curate.checks.conservation import Conservation
from goku_core.curate.checks.page import write_validation_page
from goku_core.curate.table import EMPTY, SCHEMA
from goku_core.curate.validation import validate
from goku_core.pipeline.commit import Workspace
from goku_core.pipeline.errors import GokuError


def clip(media: str, number: int = 0, outcome: str = "kept") -> dict:
    return {"media_id": media, "clip_id": f"{media}:{number}", "outcome": outcome}


def test_rows_are_counted_through_the_steps() -> None:
    counted = Conservation(["a", "b"])
    rows = [clip("a", 0), clip("a", 1, "rejected"), clip("b", 0, "failed")]
    counted.note("survey", rows)
    counted.note("decide", rows)
    assert [step["rows"] for step in counted.steps] == [3, 3]
    assert all(step["rows"] == step["kept"] + step["rejected"] + step["failed"] for step in counted.steps)
    assert all(not step["ids"] for step in counted.steps)


@pytest.mark.parametrize(
    "rows, wrong, named",
    [
        ([clip("a")], "lost", "b:0"),
        ([clip("a"), clip("b"), clip("c")], "strange", "c:0"),
        ([clip("a"), clip("b"), clip("b")], "twice", "b:0"),
        ([clip("a"), clip("b", 0, "forgotten")], "rows", None),
    ],
)
def test_a_lost_row_stops_publication(tmp_path: Path, rows: list[dict], wrong: str, named: str | None) -> None:
    counted = Conservation(["a", "b"])
    counted.note("survey", [clip("a"), clip("b")])
    counted.note("decide", rows)
    with pytest.raises(GokuError, match=rf"(?s){wrong}.*steps: decide.*{named or ''}.*Nothing was published") as caught:
        validate(table(3), Request(), tmp_path / "validation.json", 3, counted.steps)
    assert str(caught.value).count("expect_") == 1
    found = json.loads((tmp_path / "validation.json").read_text())
    failed = [result for result in found["results"] if not result["success"]]
    assert [result["where"] for result in failed] == [["decide"]]


def table(count: int, seed: int = 0, **changes: object) -> pa.Table:
    rng = np.random.default_rng(seed)
    good = {name: EMPTY[name] for name in SCHEMA.names} | {
        "uri": "data/raw/a.mp4",
        "kind": "video",
        "end_pts": 60,
        "time_base_num": 1,
        "time_base_den": 24,
        "width": 854,
        "height": 480,
        "seconds": 2.5,
        "ocr_coverage": 0.0,
        "sharpness": 10.0,
        "exposure": 1.0,
        "phash": "0" * 16,
        "tier": "480p",
    }
    scores = rng.uniform(1, 19, count), rng.uniform(3, 6, count)
    rows = [
        good
        | {"clip_id": f"{i:064x}:0-60", "media_id": f"{i:064x}", "motion": float(m), "quality_heuristic": float(q)}
        | changes
        for i, (m, q) in enumerate(zip(*scores, strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def test_distance_is_total_variation() -> None:
    """Labels against sums by hand; a score whose upper half is gone lies 0.5 away, in whatever unit."""
    before, after = table(100), table(100)
    kinds = [pa.array(["image"] * n + ["video"] * (100 - n)) for n in (20, 50)]
    before, after = (
        t.set_column(t.schema.get_field_index("kind"), "kind", k) for t, k in zip((before, after), kinds, strict=True)
    )
    found = {one.column: one for one in drift.distances(before, after)}
    assert found["kind"].distance == pytest.approx(0.3) and found["kind"].grown == "image"
    assert len(found["kind"].clips) == 5 and found["quality_heuristic"].distance == 0
    low = before.filter(pa.array(np.array(before["motion"]) <= np.median(before["motion"])))
    distance = {one.column: one.distance for one in drift.distances(before, low)}
    assert distance["motion"] == pytest.approx(0.5, abs=0.01) and distance["quality_heuristic"] < 0.3
    same = drift.distances(table(3000, 1), table(3000, 2))
    assert max(one.distance for one in same) < 0.06  # two draws of one distribution


def publish(workspace: Path, name: str, rows: pa.Table, day: int) -> None:
    """A commit record of `curate`, as the executor writes it, and the table in the store."""
    with Workspace(workspace) as place:
        staged = place.staging(name) / "data/clips.parquet"
        staged.parent.mkdir(parents=True)
        pq.write_table(rows, staged)
        tree = place.digests.tree(staged)
        place.store.put(staged, tree)
        outputs = {"data/clips.parquet": tree.as_json()}
        facts = {
            "stage": "curate",
            "cell": "curate",
            "fingerprint": name,
            "finished": f"2026-01-{day:02d}",
            "outputs": outputs,
        }
        place.write_record(facts)


def test_the_version_before_is_found(tmp_path: Path) -> None:
    old, new = table(300), table(400, 1)
    media = set(new["media_id"].to_pylist())
    assert drift.previous(tmp_path, "now", media, 200) is None
    publish(tmp_path, "first", old, 1)
    publish(tmp_path, "now", new, 2)
    name, found = drift.previous(tmp_path, "now", media, 200)
    assert name == "first" and found.equals(old)
    assert drift.previous(tmp_path, "now", media, 301) is None  # too few to compare
    assert drift.previous(tmp_path, "now", {"another collection"}, 200) is None


def test_drift_stops_publication_and_names_clips(tmp_path: Path) -> None:
    old, new = table(300), table(300, quality_heuristic=9.0)
    moved = drift.distances(old, new)
    with pytest.raises(GokuError, match=r"(?s)drift: quality_heuristic.*clips: 0{60}.*GOKU_ACCEPT_DRIFT.*Nothing was"):
        validate(new, Request(), tmp_path / "validation.json", 300, drift=moved)
    lenient = Request(drift={"max_distance": 0.95})
    validate(old, lenient, tmp_path / "one.json", 300, drift=drift.distances(table(300, 1), old))
    validate(old, lenient, tmp_path / "two.json", 300)
    # What was published before leaves no trace in what is published now.
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()


def test_the_page_shows_what_failed_first(tmp_path: Path) -> None:
    bad = table(3, motion=50.0)
    with pytest.raises(GokuError):
        validate(bad, Request(), tmp_path / "validation.json", 3)
    write_validation_page(tmp_path / "validation.json", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.index("NOT MET") < page.index('"yes"') and "column values to be between" in page
    assert "http" not in page and f"{0:064x}:0-60" in page

"""The operator on its own: one decode per source, one row at least, exact spans."""

import json

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from goku_core.curate import Request, proxies
from goku_core.curate.survey import survey
from goku_core.curate.table import SURVEY_SCHEMA
from goku_core.media import decode
from goku_core.pipeline.pool import run_operator


def batch_of(workspace) -> pa.RecordBatch:
    table = pq.read_table(workspace / "data/raw.parquet").select(["media_id", "uri", "kind"])
    return table.combine_chunks().to_batches()[0]


def settings_of(workspace) -> dict:
    settings = {"request": Request().model_dump(mode="json"), "workspace": str(workspace)}
    return json.loads(json.dumps(settings | {"transcoded": str(workspace / "transcoded")}))


@pytest.mark.parametrize("name, codec", [("a.mp4", "libx264"), ("a.avi", "mpeg4")])
def test_a_source_is_decoded_once(library, painter, monkeypatch, name: str, codec: str) -> None:
    """Decoded frames are counted where they come out of the decoder: everything is fed from one pass, models' frames too."""
    library.video(name, painter.grainy(painter.film([41, 42])), codec=codec, kbps=2000)
    counted = []
    genuine = decode._decode

    def counting(*arguments):
        for frame in genuine(*arguments):
            counted.append(frame.pts)
            yield frame

    monkeypatch.setattr(decode, "_decode", counting)
    workspace = library.write()
    settings = settings_of(workspace) | {"proxies": str(workspace / "proxies")}
    rows = survey(batch_of(workspace), settings).to_pylist()
    assert len(rows) == 2 and all(row["outcome"] == "kept" and row["motion"] > 0.3 for row in rows)
    assert len(counted) == 120 and len(set(counted)) == 120, "1.0 decodes per source second"
    assert proxies.read(workspace / "proxies", rows[1]["media_id"], rows[1]["start_pts"], rows[1]["end_pts"], 9)


def test_no_frame_of_the_next_shot_leaks(library, painter) -> None:
    path = library.video("film.mp4", painter.film([51, 52, 53]))
    workspace = library.write()
    rows = survey(batch_of(workspace), settings_of(workspace)).to_pylist()
    for seed, row in zip((51, 52, 53), rows, strict=True):
        frames = list(decode.frames(path, row["start_pts"], row["end_pts"]))
        assert len(frames) == 60
        wanted = list(painter.moving(seed))
        for index in (0, -1):  # the first and the last frame of each clip are those of its own shot
            assert np.abs(frames[index].rgb().astype(int) - wanted[index]).mean() < 6


def test_motion_of_a_size_whose_smaller_copy_has_other_proportions(library, painter) -> None:
    """972x540: its copy of 960 px is 960x534, so that frame and copy would be scaled to 461 and 460 px for the flow."""
    sizes = {"a.mp4": (972, 540), "b.mp4": (960, 540)}
    for name, size in sizes.items():
        library.video(name, (cv2.resize(frame, size) for frame in painter.moving(41, 4.5)))
    odd, even = survey(batch_of(library.write()), settings_of(library.workspace)).to_pylist()
    assert {odd["width"], even["width"]} == {972, 960}
    assert odd["motion"] == pytest.approx(even["motion"], rel=0.1) and odd["motion"] > 0.3


def test_answers_to_nothing_with_its_schema() -> None:
    empty = pa.RecordBatch.from_pylist([], schema=pa.schema([(n, pa.string()) for n in ("media_id", "uri", "kind")]))
    assert survey(empty, settings_of_nothing()).schema.equals(SURVEY_SCHEMA)


def settings_of_nothing() -> dict:
    return {"request": Request().model_dump(mode="json"), "workspace": ".", "transcoded": "."}


def test_a_missing_file_is_quarantined_and_others_go_on(library, painter) -> None:
    library.image("there.jpg", painter.ground(61))
    library.image("gone.jpg", painter.ground(62))
    workspace = library.write()
    (library.raw / "gone.jpg").unlink()
    table = pa.Table.from_batches([batch_of(workspace)])
    names = [uri.rsplit("/", 1)[1] for uri in table["uri"].to_pylist()]
    result = run_operator("goku_core.curate.survey:survey", table, settings_of(workspace), workers=1, batch_rows=2)
    assert [failure.row_index for failure in result.quarantined] == [names.index("gone.jpg")]
    assert [row["uri"].rsplit("/", 1)[1] for row in result.table.to_pylist()] == ["there.jpg"]


def test_other_frame_rates_and_portrait(library, painter) -> None:
    upright = (np.ascontiguousarray(np.rot90(frame)) for frame in painter.film([71, 72], 2.5))
    library.video("portrait.mp4", upright)
    library.video("fast.mp4", [f for s in (73, 74) for f in painter.moving(s, 2.5, 30)], fps=30)
    workspace = library.write()
    rows = survey(batch_of(workspace), settings_of(workspace)).to_pylist()
    assert [row["outcome"] for row in rows] == ["kept"] * 4
    assert {(row["width"], row["height"]) for row in rows} == {(480, 640), (640, 480)}
    assert all(row["seconds"] == pytest.approx(2.5) for row in rows)

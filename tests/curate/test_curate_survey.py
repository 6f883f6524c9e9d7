"""The operator on its own: one decode per source, one row at least, exact spans."""

import json
from fractions import Fraction

import av
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from goku_core.curate import Request, proxies
from goku_core.curate.decide import decide
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


def test_what_lies_before_and_behind_all_shots_is_called_so(library, painter) -> None:
    """A film that fades in, through black to another shot, and out."""
    film = []
    for seed in (81, 82):
        shot = list(painter.moving(seed, 4.5))
        rise = np.linspace(0, 1, 20)
        light = np.concatenate([rise, np.ones(len(shot) - 40), rise[::-1]])
        film += [(frame * share).astype(np.uint8) for frame, share in zip(shot, light, strict=True)]
    library.video("film.mp4", film)
    workspace = library.write()
    rows = survey(batch_of(workspace), settings_of(workspace)).to_pylist()
    assert [row["filter"] for row in rows] == ["transition", None, "transition", None, "transition"]
    first, middle, last = (row["message"] for row in rows[::2])
    assert first.startswith("a fade-in of") and "at the start of the film" in first
    assert middle.startswith("a fade of") and "between two shots" in middle
    assert last.startswith("a fade-out of") and "at the end of the film" in last


def test_a_clip_without_a_pair_of_frames_is_not_called_still(library, painter) -> None:
    """A single frame that stays on the screen for 5 s, then a shot: of the first nobody knows whether it moved."""
    path = library.raw / "slow.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = 480, 640, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 24)
        title = painter.disc(np.full((480, 640, 3), (20, 60, 200), np.uint8), 0.3, 91)
        for index, image in enumerate([title, *painter.moving(92, 3.0)]):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = (index + 119 if index else 0), Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    library.add(path, "video")
    workspace = library.write()
    request = Request(gate={"min_fps": 1, "min_kbps": 0})
    settings = settings_of(workspace) | {"request": request.model_dump(mode="json")}
    still, moving = decide(survey(batch_of(workspace), settings).to_pylist(), request)
    assert (still["motion"], still["filter"], still["score"], still["threshold"]) == (None, "motion_unmeasured", 0, 1)
    assert still["seconds"] == pytest.approx(5.0) and "not known" in still["message"]
    assert moving["outcome"] == "kept"


def test_the_survey_leaves_a_picture_of_each_clip(library, painter) -> None:
    """From the middle of it, so that the gallery decodes nothing."""
    library.video("film.mp4", painter.film([51, 52]))
    workspace = library.write()
    rows = survey(batch_of(workspace), settings_of(workspace) | {"stills": str(workspace / "stills")}).to_pylist()
    for seed, row in zip((51, 52), rows, strict=True):
        ((pts, image),) = proxies.read(workspace / "stills", row["media_id"], row["start_pts"], row["end_pts"], 9)
        tick = row["time_base_num"] / row["time_base_den"]
        assert abs(2 * pts - row["start_pts"] - row["end_pts"]) * tick <= 0.5
        frame = list(painter.moving(seed))[round((pts - row["start_pts"]) * tick * 24)]
        wanted = cv2.resize(frame, (256, 192), interpolation=cv2.INTER_AREA)
        assert image.shape == (192, 256, 3) and np.abs(image.astype(int) - wanted).mean() < 6

"""The whole stage with captioners and balance: frames from the survey's one pass, a server over HTTP, the table."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from chat_server import Asked, ChatServer, Reply

from goku_core.curate import Request, run
from goku_core.media import decode
from goku_core.pipeline.context import Context

pytest.importorskip("goku_core.curate.proxies")

GOOD = "A round disc slides slowly over a soft ground of many colors, in even light, from the left to the right."


def curate(workspace: Path, name: str, **section) -> tuple[list[dict], dict]:
    context = Context(workspace=workspace, staging=workspace / name, scratch=workspace / f"{name}-scratch", cores=1)
    run(Request(**section), context)
    rows = pq.read_table(context.staging / "data/clips.parquet").to_pylist()
    return rows, json.loads((context.staging / "reports/curation/funnel.json").read_text())


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, painter, new_library) -> Path:
    library = new_library(tmp_path_factory.mktemp("captioned") / "workspace")
    timed = [{"start": 0.0, "end": 2.5, "text": "a dog in a park"}]
    library.video("film.mp4", painter.film([1, 2]), captions=timed)
    library.video("static.mp4", painter.static(11), caption="a cat")
    for seed in (20, 21, 22):
        library.image(f"{seed}.jpg", painter.disc(painter.ground(seed), 0.4, seed), caption="a wedding")
    return library.write()


def test_kept_rows_are_described_from_their_own_frames(workspace: Path) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply("No." if "this picture" in asked.prompt else GOOD)

    with ChatServer(answer) as server:
        own = {"kind": "server", "model": "m", "url": server.url, "frames": 2}
        captions = {"keyframes": own, "backoff_seconds": 0.01}
        rows, funnel = curate(workspace, "first", captions=captions)
        kept = {r["clip_id"]: r for r in rows if r["outcome"] == "kept"}
        clips = [r for r in kept.values() if r["kind"] == "video"]
        assert len(clips) == 2 and len(kept) == 5
        assert {(r["caption"], r["caption_source"], r["caption_problem"]) for r in clips} == {(GOOD, "keyframes", None)}
        assert all(r["text"] == f"{GOOD.rstrip('.')}. motion: {round(r['motion'])}" for r in clips)
        pictures = [r for r in kept.values() if r["kind"] == "image"]
        assert {(r["caption"], r["caption_source"], r["label"]) for r in pictures} == {
            ("a wedding", "sidecar", "wedding")
        }
        assert {r["caption_problem"] for r in pictures} == {"keyframes: too short: 1 words, at least 8"}
        (rejected,) = [r for r in rows if r["outcome"] == "rejected"]
        assert (rejected["caption"], rejected["caption_source"], rejected["label"]) == ("a cat", "sidecar", "pets")
        assert funnel["captions"] == {"by": {"keyframes": 2, "sidecar": 3}, "problems": {"keyframes: too short": 3}}
        assert len(server.log) == 2 + 2 * 3
        of_clips = [asked for asked in server.log if "key frames" in asked.prompt]
        assert all(len(asked.images) == 2 for asked in of_clips)
        for clip in clips:  # each clip was shown frames of its own span
            path = workspace / clip["uri"]
            middle = (clip["start_pts"] + clip["end_pts"]) // 2
            true = next(decode.frames(path, middle, clip["end_pts"])).rgb().mean((0, 1))
            assert min(np.abs(asked.images[1].mean((0, 1)) - true).max() for asked in of_clips) < 12
        again, _ = curate(workspace, "second", captions=captions)
        assert again == rows and len(server.log) == 8  # another attempt, nothing new to ask


def test_balance_reaches_the_table_and_the_report(workspace: Path) -> None:
    rows, funnel = curate(
        workspace, "balanced", balance={"least_labelled": 1, "weights": {"wedding": 1, "human": 1.34}}
    )
    weddings = [r for r in rows if r["label"] == "wedding"]
    assert Counter(r["repeats"] for r in weddings) == {1: 2, 2: 1}
    shown = {(one["kind"], one["label"]): (one["before"], one["walked"]) for one in funnel["taxonomy"]["classes"]}
    assert shown == {("video", "pets"): (1, 1), ("image", "wedding"): (3, 4)}
    assert funnel["taxonomy"]["unlabelled"] == 1

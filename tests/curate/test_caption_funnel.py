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

GOOD = "A round disc slides slowly over a soft ground of many colors, in even light, from the left to the right."


@pytest.fixture(scope="module")
def workspace(tmp_path_factory, painter, new_library) -> Path:
    library = new_library(tmp_path_factory.mktemp("captioned") / "workspace")
    library.video("film.mp4", painter.film([1, 2]), caption="a dog in a park")
    library.video("small.mp4", (frame[:200, :300] for frame in painter.moving(3)), caption="a cat")
    for seed in (20, 21, 22):
        library.image(f"{seed}.jpg", painter.disc(painter.ground(seed), 0.4, seed), caption="a wedding")
    return library.write()


def test_kept_rows_are_described_from_their_own_frames_labelled_and_balanced(workspace: Path) -> None:
    def answer(asked: Asked) -> Reply:
        return Reply("No." if "this picture" in asked.prompt else GOOD)

    with ChatServer(answer) as server:
        server.models = ["m"]
        own = {"kind": "server", "model": "m", "url": server.url, "frames": 2}
        request = Request(captions={"keyframes": own}, balance={"least_labelled": 1, "weights": {"human": 1.34}})
        context = Context(workspace, workspace / "staging", workspace / "scratch", cores=1)
        run(request, context)
    rows = pq.read_table(context.staging / "data/clips.parquet").to_pylist()
    funnel = json.loads((context.staging / "reports/curation/funnel.json").read_text())
    kept = [r for r in rows if r["outcome"] == "kept"]
    clips, pictures = ([r for r in kept if r["kind"] == kind] for kind in ("video", "image"))
    assert (len(clips), len(pictures)) == (2, 3)
    assert {(r["caption"], r["caption_source"], r["caption_problem"]) for r in clips} == {(GOOD, "keyframes", None)}
    assert all(r["text"] == f"{GOOD.rstrip('.')}. motion: {round(r['motion'])}" for r in clips)
    assert {(r["caption"], r["caption_source"], r["label"]) for r in pictures} == {("a wedding", "sidecar", "wedding")}
    assert {r["caption_problem"] for r in pictures} == {"keyframes: too short: 1 words, at least 8"}
    (rejected,) = [r for r in rows if r["outcome"] == "rejected"]
    assert (rejected["caption"], rejected["caption_source"], rejected["label"]) == ("a cat", "sidecar", "pets")
    assert funnel["captions"] == {"by": {"keyframes": 2, "sidecar": 3}, "problems": {"keyframes: too short": 3}}
    assert len(server.log) == 2 + 2 * 3  # nothing is asked of what is rejected; what fails is asked once more
    of_clips = [asked for asked in server.log if "key frames" in asked.prompt]
    for clip in clips:  # each clip was shown frames of its own span
        middle = (clip["start_pts"] + clip["end_pts"]) // 2
        true = next(decode.frames(workspace / clip["uri"], middle, clip["end_pts"])).rgb().mean((0, 1))
        assert min(np.abs(asked.images[1].mean((0, 1)) - true).max() for asked in of_clips) < 12
    assert Counter(r["repeats"] for r in pictures) == {1: 2, 2: 1} and {r["repeats"] for r in clips} == {1}
    taxonomy = funnel["taxonomy"]
    assert [(one["label"], one["before"], one["after"]) for one in taxonomy["labels"]] == [("wedding", 3, 4)]
    assert taxonomy["unlabelled"] == 2
    page = (context.staging / "reports/curation.html").read_text()
    assert "wedding" in page.split('id="labels"')[1].split("</section>")[0]

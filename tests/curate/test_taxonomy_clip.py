"""Labels by CLIP on a small random checkpoint and real sampled frames: the network decides, not the caption."""

from pathlib import Path

import numpy as np
import pytest
import tiny_scorers as tiny

from goku_core.curate import Request, proxies
from goku_core.curate.table import EMPTY
from goku_core.curate.taxonomy.step import label
from goku_core.curate.taxonomy.tree import load
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.scorers import clip as models


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("zero-shot")
    tiny.tiny_clip(folder / "clip")
    for name, seed in (("a", 1), ("b", 2)):
        with proxies.ProxyWriter(folder / "proxies", name) as writer:
            for number, picture in enumerate(tiny.pictures(9, seed)):
                writer.add(number * 10, picture)
    return folder


def rows() -> list[dict]:
    def row(media: str, start: int, end: int, outcome: str = "kept") -> dict:
        name = {"clip_id": f"{media}:{start}-{end}", "media_id": media, "kind": "video", "outcome": outcome}
        return {**EMPTY, **name, "start_pts": start, "end_pts": end, "caption": "a wedding"}

    return [row("a", 0, 40), row("a", 40, 90), row("b", 0, 90), row("b", 0, 10, "rejected")]


def test_kept_clips_get_the_class_nearest_to_four_of_their_frames(workspace: Path) -> None:
    table, context = rows(), Context(workspace, workspace, workspace)
    label(table, Request(taxonomy={"classifier": "clip", "weights": "clip"}), context, workspace / "proxies")
    network = models.Clip(workspace / "clip")
    classes = load()
    sentences = network.texts([f"a photo of {one.shows}" for one in classes])
    for row in table[:3]:
        frames = [
            image
            for _, image in proxies.read(workspace / "proxies", row["media_id"], row["start_pts"], row["end_pts"], 4)
        ]
        assert len(frames) == 4
        mean = network.images(frames).mean(axis=0)
        nearest = int(np.argmax(sentences @ mean))
        assert (row["label"], row["primary"]) == (classes[nearest].name, classes[nearest].primary)
        assert 1 / 86 < row["label_score"] <= 1
    assert table[3]["label"] is None  # nobody looks at what is rejected
    again = rows()
    label(again, Request(taxonomy={"classifier": "clip", "weights": "clip"}), context, workspace / "proxies")
    assert again == table


def test_missing_weights_are_named(workspace: Path) -> None:
    context = Context(workspace, workspace, workspace)
    for weights, says in (("", r"needs curate\.taxonomy\.weights"), ("nowhere", "nowhere")):
        with pytest.raises(GokuError, match=says):
            label(rows(), Request(taxonomy={"classifier": "clip", "weights": weights}), context, workspace / "proxies")

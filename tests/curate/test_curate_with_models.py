"""The whole stage with every scorer on, at one process and at two."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
from tiny_scorers import aesthetic_head, random_raft, tiny_classifier, tiny_clip, tiny_dinov2

from goku_core.curate import Request, run
from goku_core.pipeline.context import Context


@pytest.mark.slow
def test_scores_reach_the_table_and_the_number_of_workers_does_not(tmp_path, painter, new_library) -> None:
    library = new_library(tmp_path / "workspace")
    library.video("films.mp4", painter.film([1, 2]))
    library.video("still.mp4", painter.static(3))
    for seed in (4, 5):
        library.image(f"{seed}.jpg", painter.disc(painter.ground(seed), 0.4, seed))
    library.write()
    weights = library.workspace / "weights"
    tiny_clip(weights / "clip"), tiny_classifier(weights / "nsfw"), tiny_dinov2(weights / "dinov2")
    tiny_classifier(weights / "marks", ("No Watermark", "Watermark"))
    aesthetic_head(weights / "head.pth"), random_raft(weights / "raft.pth")
    names = {"clip": "clip", "aesthetic": "head.pth", "nsfw": "nsfw", "watermark": "marks", "raft": "raft.pth"}
    models = {name: {"weights": f"weights/{place}"} for name, place in names.items()} | {"device": "cpu", "batch": 8}
    models["raft"] |= {"updates": 1, "pairs": 2}
    tier = {"aesthetic_min": 0.0, "motion_min": 0.0}
    request = Request(
        models=models,
        refine={"kind": "dinov2", "weights": str(weights / "dinov2"), "dinov2_min": -1.0, "dinov2_min_720p": -1.0},
        tiers=dict.fromkeys(("480p", "720p", "1080p"), tier),
        nsfw_max=1.0,
        watermark_max=1.0,
    )
    written = []
    for cores in (1, 2):
        staging = tmp_path / f"cores-{cores}"
        context = Context(library.workspace, staging, tmp_path / f"scratch-{cores}", cores=cores)
        run(request, context)
        files = sorted(path for path in staging.rglob("*") if path.is_file())
        written.append({path.relative_to(staging).as_posix(): path.read_bytes() for path in files})
    assert written[0] == written[1]
    table = pq.read_table(staging / "data/clips.parquet")
    rows = table.to_pylist()
    scored = [row for row in rows if row["filter"] not in ("clip_seconds", "transition")]
    assert {row["kind"] for row in scored} == {"video", "image"}
    for row in scored:
        assert row["outcome"] in ("kept", "rejected") and len(row["clip_embedding"]) == 16
        assert all(row[name] is not None for name in ("aesthetic", "nsfw", "watermark"))
        assert (row["motion_raft"] is None) == (row["kind"] == "image")
        assert (row["filter"] == "aesthetic") == (row["aesthetic"] < 0)
    assert table.schema.field("nsfw").metadata[b"weights_sha256"]
    funnel = json.loads((staging / "reports/curation/funnel.json").read_text())
    assert not {"aesthetic", "nsfw", "raft"} & set(funnel["left_out"])

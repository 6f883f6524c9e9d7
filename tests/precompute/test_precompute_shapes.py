"""The aspect ratio of a source is kept, from the pixels to a training step; what cannot be kept is said."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from shapes_workspace import SIZES, precompute

from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.precompute.sizes import size_within
from goku_core.shards import ShardReader
from goku_core.train import Request as TrainRequest
from goku_core.train import run as train


@pytest.fixture
def published(shapes: Path) -> Path:
    return shapes / "data/latents"


@pytest.mark.parametrize(
    ("area", "source", "expected"),
    [
        (480 * 864, (480, 864), (480, 864)),
        (480 * 864, (864, 480), (864, 480)),
        (480 * 864, (720, 720), (640, 640)),
        (480 * 864, (768, 1024), (560, 736)),
        (32 * 48, (100, 4000), (16, 96)),
        (32 * 48, (4000, 100), (96, 16)),
    ],
)
def test_sizes_that_one_can_check_by_hand(area, source, expected) -> None:
    assert size_within(area, *source) == expected


def test_any_source_gets_multiples_of_16_within_the_area_and_near_its_ratio() -> None:
    draws = np.random.default_rng(0)
    for _ in range(2000):
        rows, columns = (int(side) for side in draws.integers(64, 4000, 2))
        if not 0.2 < rows / columns < 5:
            continue
        area = int(draws.choice([256 * 448, 480 * 864, 720 * 1280]))
        height, width = size_within(area, rows, columns)
        assert height % 16 == 0 and width % 16 == 0 and height * width <= area
        # A step of 16 px on each side bounds what is lost of area and of ratio.
        assert height * width >= (np.sqrt(area * rows / columns) - 16) * (np.sqrt(area * columns / rows) - 16)
        assert abs(np.log(height / width * columns / rows)) <= 16 / min(height, width)


def test_each_source_keeps_its_ratio(published: Path) -> None:
    index = ShardReader(published / "high").index
    found = {
        media: (int(h), int(w)) for media, h, w in zip(index["media_id"], index["height"], index["width"], strict=True)
    }
    for number, (media, size) in enumerate(sorted(found.items())):
        assert int(media, 16) == number
        assert size == size_within(64 * 112, *SIZES[number % 3])
    assert found[f"{0:064x}"] == (64, 112) and found[f"{1:064x}"] == (112, 64) and found[f"{2:064x}"] == (80, 80)


def test_the_index_says_where_a_sample_comes_from_and_what_is_known_of_it(published: Path, shapes: Path) -> None:
    index = ShardReader(published / "low").index
    rows = {row["clip_id"]: row for row in pq.read_table(shapes / "data/clips.parquet").to_pylist()}
    for place, clip_id in enumerate(index["clip_id"]):
        row = rows[clip_id]
        for key in ("media_id", "start_pts", "end_pts", "kind", "quality_heuristic"):
            assert index[key][place] == row[key]
        assert np.isnan(index["motion"][place]) if row["motion"] is None else index["motion"][place] == row["motion"]
        assert np.isnan(index["aesthetic"][place]) and index["label"][place] is None
        assert index["repeats"][place] == 1


def test_scores_labels_and_repeats_of_curation_reach_the_index(shapes: Path, tmp_path: Path) -> None:
    other = tmp_path / "w"
    shutil.copytree(shapes, other, ignore=shutil.ignore_patterns("latents"))
    table = pq.read_table(other / "data/clips.parquet")
    count = table.num_rows
    for name, values in (
        ("aesthetic", [4.5 + n for n in range(count)]),
        ("primary", ["scenery"] * count),
        ("label", [f"label {n}" for n in range(count)]),
        ("label_score", [0.5] * count),
        ("repeats", [None, *range(1, count)]),
    ):
        table = table.append_column(name, [values])
    pq.write_table(table, other / "data/clips.parquet")
    precompute(other, tmp_path / "p", resolutions={"low": {"height": 32, "width": 48, "frames": 9}})
    index = ShardReader(tmp_path / "p/out/data/latents/low").index
    order = [int(media, 16) for media in index["media_id"]]
    assert index["aesthetic"].tolist() == [4.5 + n for n in order]
    assert index["label"].tolist() == [f"label {n}" for n in order] and set(index["primary"]) == {"scenery"}
    assert index["repeats"].tolist() == [n or 1 for n in order]


def test_portrait_and_landscape_train_together(shapes: Path, tmp_path: Path) -> None:
    """Two steps on pictures and clips of three shapes, then image-to-video whose previews continue clips of two shapes."""
    workspace = tmp_path / "w"
    shutil.copytree(shapes, workspace)
    common = {"resolution": "low", "steps": 2, "tokens": 64, "warmup": 0}
    request = TrainRequest(
        model={"name": "custom", "depth": 1, "width": 32, "heads": 2, "ffn": 64},
        phases={
            "joint": {**common, "init_from": "vae", "images": 0.5, "clips": 0.5},
            "i2v": {**common, "init_from": "joint", "images": 0, "clips": 1, "image_condition": True},
        },
        sampling={"steps": 1},
        previews={"images": ["a"], "clips": ["a", "b"]},
    )
    for phase in ("joint", "i2v"):
        context = Context(workspace, tmp_path / phase, tmp_path / f"{phase}-scratch", cores=1)
        report = train(request.for_phase(phase), context)
        assert report.steps == 2 and report.clips > 0 and np.isfinite(report.loss)
        shutil.copytree(tmp_path / phase / "models" / phase, workspace / "models" / phase)
    from goku_core.media.probe import probe

    samples = workspace / "models/i2v/samples"
    listed = [probe(samples / entry["file"]) for entry in json.loads((samples / "samples.json").read_text())]
    assert {(info.height, info.width) for info in listed} == {size_within(32 * 48, *SIZES[n]) for n in (0, 1)}


def test_what_does_not_divide_into_tokens_is_said_before_any_work(shapes: Path, tmp_path: Path) -> None:
    other = tmp_path / "w"
    (other / "models/vae").mkdir(parents=True)
    (other / "data").mkdir()
    shutil.copy(shapes / "data/clips.parquet", other / "data/clips.parquet")
    described = {"kind": "wan", "network": {}, "latent_channels": 4, "stride": [4, 16, 16]}
    (other / "models/vae/config.json").write_text(json.dumps({"kind": "goku-vae", "vae": described}))
    fixed = {"low": {"height": 48, "width": 64, "aspect": "fixed"}}
    with pytest.raises(GokuError, match=r"resolutions\.low: 48x64 must be multiples of 32"):
        precompute(other, tmp_path / "a", resolutions=fixed)
    if not __import__("torch").cuda.is_available():
        with pytest.raises(GokuError, match="no CUDA device here"):
            precompute(shapes, tmp_path / "b", device="cuda")

"""Stage `precompute` on real files: every kept clip at every resolution, equal to encoding it directly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from goku_core.media.spans import kept_spans, read_frames
from goku_core.models import VideoVAE, VideoVAEConfig
from goku_core.models.folders import load_vae
from goku_core.models.text import WordEncoder
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.precompute import Request, run
from goku_core.shards import ShardReader

REQUEST = {
    "resolutions": {
        "low": {"height": 32, "width": 48, "frames": 9, "aspect": "fixed"},
        "high": {"height": 48, "width": 80, "frames": 17, "aspect": "fixed"},
        "pictures": {"height": 48, "width": 48, "clips": False, "aspect": "fixed"},
    },
    "text": {"kind": "words", "width": 16},
}


@pytest.fixture(scope="module")
def workspace(kept_media: Path) -> Path:
    torch.manual_seed(0)
    vae = VideoVAE(VideoVAEConfig(latent_channels=4, width=8, encoder_depth=1, decoder_depth=1))
    (kept_media / "models/vae").mkdir(parents=True, exist_ok=True)
    save_file(vae.state_dict(), kept_media / "models/vae/model.safetensors")
    import json

    described = {"kind": "goku-vae", "vae": vae.config.to_json()}
    (kept_media / "models/vae/config.json").write_text(json.dumps(described))
    return kept_media


def compute(workspace: Path, place: Path, cores: int = 1, **changes: object):
    place.mkdir()
    context = Context(workspace, place, place, cores=cores)
    return run(Request(**{**REQUEST, **changes}), context), place / "data/latents"


@pytest.fixture(scope="module")
def published(workspace: Path, tmp_path_factory: pytest.TempPathFactory):
    return compute(workspace, tmp_path_factory.mktemp("latents") / "out")


def test_every_kept_medium_is_there(published) -> None:
    report, folder = published
    assert report.samples == {"low": 13, "high": 13, "pictures": 9} and report.failed == []
    index = ShardReader(folder / "high").index
    clip = index["kind"] == "video"
    assert set(index["tokens"][clip]) == {5 * 3 * 5} and set(index["tokens"][~clip]) == {3 * 5}


def test_latents_equal_a_direct_encoding(published, workspace: Path) -> None:
    _, folder = published
    vae, spans = load_vae(workspace / "models/vae"), kept_spans(workspace / "data/clips.parquet", workspace)
    reader = ShardReader(folder / "high")
    by_clip = {clip: row for row, clip in enumerate(reader.index["clip_id"])}
    for span in (spans[0], spans[-1]):
        pixels = torch.from_numpy(read_frames(span, 17, 8.0, 48, 80))[None].permute(0, 4, 1, 2, 3)
        expected = vae.encode(pixels.float() / 127.5 - 1)[0].detach().numpy()
        row = by_clip[span.clip_id]
        assert np.allclose(reader.latent(row), expected, atol=5e-3, rtol=2e-3)
        assert np.allclose(reader.text(row), WordEncoder(16).encode(span.text).numpy(), atol=5e-3)


def test_workers_do_not_change_the_bytes(published, workspace: Path, tmp_path: Path) -> None:
    _, folder = published
    _, other = compute(workspace, tmp_path / "two", cores=2)
    files = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(other) for p in other.rglob("*") if p.is_file())
    for file in files:
        assert (folder / file).read_bytes() == (other / file).read_bytes(), file


def test_windows_spread_over_the_clip(workspace: Path, tmp_path: Path) -> None:
    resolutions = {"low": {"height": 32, "width": 48, "frames": 9, "images": False}}
    report, folder = compute(workspace, tmp_path / "windows", resolutions=resolutions, windows_per_clip=3)
    assert report.samples == {"low": 12}
    assert sorted(set(ShardReader(folder / "low").index["first_seconds"])) == [0.0, 0.725, 1.45]
    scored = [text.endswith("motion: 3") for text in ShardReader(folder / "low").index["text"]]
    assert scored == [True, False, True] * 4  # the motion score is in every second window's text


def test_clips_give_pictures_where_there_are_none(workspace: Path, tmp_path: Path) -> None:
    """Text-semantic phases need pictures; a folder of videos alone must still train."""
    import shutil

    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    other = tmp_path / "videos"
    shutil.copytree(workspace, other)
    table = pq.read_table(workspace / "data/clips.parquet")
    pq.write_table(table.filter(pc.equal(table["kind"], "video")), other / "data/clips.parquet")
    report, folder = compute(other, tmp_path / "out", pictures_per_clip=3)
    assert report.samples == {"low": 4 + 12, "high": 4 + 12, "pictures": 12}
    index = ShardReader(folder / "high").index
    pictures = index["kind"] == "image"
    assert set(index["tokens"][pictures]) == {3 * 5}
    assert len(set(index["sample_id"])) == len(index["sample_id"])


def test_what_cannot_work_is_said(workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(GokuError, match="shorter than its frames"):
        long = {"low": {"height": 32, "width": 48, "frames": 401, "images": False}}
        compute(workspace, tmp_path / "long", resolutions=long)
    with pytest.raises(GokuError, match="hf download google/flan-t5-xl"):
        compute(workspace, tmp_path / "t5", text={"kind": "t5", "weights": "weights/not-here"})
    with pytest.raises(ValueError, match="multiple of 16"):
        Request(resolutions={"low": {"height": 40, "width": 48}})

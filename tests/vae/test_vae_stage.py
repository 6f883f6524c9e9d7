"""Stage `vae` on real files: it starts from components, improves on them, and leaves what later stages load."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from goku_core.models.folders import load_vae
from goku_core.models.vae_tiles import Tiles, edges
from goku_core.pipeline.context import Context, SilentTracker
from goku_core.pipeline.errors import GokuError
from goku_core.vae import Request, run

SMALL = {"height": 48, "image_width": 80, "frames": 9, "width": 16, "encoder_depth": 1, "decoder_depth": 1}


def train(workspace: Path, place: Path, **changes: object):
    place.mkdir()
    context = Context(workspace, place, place, seed=1, cores=1, tracker=SilentTracker())
    return run(
        Request(**{**SMALL, "steps": 30, "batch_images": 4, "batch_clips": 1, "held_out": 0.2, **changes}), context
    )


@pytest.fixture(scope="module")
def trained(kept_media: Path, tmp_path_factory: pytest.TempPathFactory):
    place = tmp_path_factory.mktemp("vae") / "out"
    return place / "models/vae", train(kept_media, place)


def test_reconstruction_is_measured_on_held_out_media(trained) -> None:
    _, report = trained
    assert report.held_out_images == 2 and report.held_out_clips == 1
    assert report.psnr > 24 and report.psnr_components > 20
    assert report.psnr == pytest.approx(report.psnr_components, abs=4)


def test_the_folder_loads_and_latents_are_normalised(trained, kept_media: Path) -> None:
    folder, _ = trained
    vae = load_vae(folder)
    from goku_core.media.spans import kept_spans, read_frames

    spans = [s for s in kept_spans(kept_media / "data/clips.parquet", kept_media) if not s.is_clip]
    assert len(spans) == 9  # the rejected one is not read
    pixels = torch.from_numpy(np.stack([read_frames(s, 1, 1.0, 48, 80) for s in spans]))
    latent = vae.encode(pixels.permute(0, 4, 1, 2, 3).float() / 127.5 - 1)
    assert latent.shape == (9, 16, 1, 6, 10)
    assert latent.square().mean().sqrt().item() == pytest.approx(1.0, abs=0.35)
    listed = {p.name for p in (folder / "report").iterdir()}
    assert {"metrics.jsonl", "report.json", "originals.png", "reconstructions.png", "clips.mp4"} <= listed
    assert json.loads((folder / "config.json").read_text())["vae"]["latent_channels"] == 16


def test_seams_of_tiles_are_not_seen(kept_media: Path, tmp_path: Path) -> None:
    """Error against the original within 4 px of a tile's border, in units of what the whole decode has there."""
    from goku_core.media.spans import kept_spans, read_frames

    train(kept_media, tmp_path / "out", steps=200, latent_channels=4)
    vae = load_vae(tmp_path / "out/models/vae")
    assert vae.decoder_reach == 2
    spans = kept_spans(kept_media / "data/clips.parquet", kept_media)
    pixels = torch.from_numpy(np.stack([read_frames(s, 1, 1.0, 96, 176) for s in spans])).permute(0, 4, 1, 2, 3)
    video = pixels.float() / 127.5 - 1
    latent = vae.encode(video)
    whole = vae.decode(latent)

    def error_at_seams(overlap: int) -> float:
        seams = torch.zeros(176, dtype=torch.bool)
        for edge in edges(22, 8, overlap):
            for border in {edge.begin * 8, edge.end * 8} - {0, 176}:
                seams[border - 4 : border + 4] = True
        tiled = vae.decode_tiled(latent, Tiles(8, 8, overlap))
        by_column = [(x - video).square().mean(dim=(0, 1, 2, 3))[seams].mean().item() for x in (tiled, whole)]
        return by_column[0] / by_column[1]

    assert error_at_seams(0) > 1.05  # cut without overlap: they are seen
    assert error_at_seams(2) < 1.02
    assert error_at_seams(4) == pytest.approx(1.0, abs=1e-4)


def test_same_request_same_bytes(trained, kept_media: Path, tmp_path: Path) -> None:
    folder, _ = trained
    train(kept_media, tmp_path / "again")
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        assert path.read_bytes() == (tmp_path / "again/models/vae" / path.relative_to(folder)).read_bytes(), path.name


def test_bounds_and_empty_input_are_clear(kept_media: Path, tmp_path: Path) -> None:
    with pytest.raises(GokuError, match=r"below vae\.minimum_psnr 60"):
        train(kept_media, tmp_path / "high", steps=0, minimum_psnr=60)
    with pytest.raises(GokuError, match="keeps no picture and no clip"):
        train(kept_media, tmp_path / "none", max_images=0, frames=81)
    with pytest.raises(ValueError, match="4k"):
        Request(frames=8)

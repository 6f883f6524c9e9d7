"""Stage `vae` with pretrained weights: fetched, checked on the media, published, and used by what follows as our own is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers", reason="pretrained VAEs need the extra `pretrained`")

from pretrained_vaes import make

from goku_core.media.spans import kept_spans, read_frames
from goku_core.models.folders import load_vae
from goku_core.models.vae_pretrained import from_weights
from goku_core.pipeline.context import Context, SilentTracker
from goku_core.pipeline.errors import GokuError
from goku_core.precompute.latents import LatentEncoder
from goku_core.promote import bundle
from goku_core.vae import Request, run

SMALL = {"height": 32, "image_width": 48, "frames": 9, "held_out": 0.2}


def publish(workspace: Path, place: Path, **changes: object):
    context = Context(workspace, place, place, seed=1, cores=1, tracker=SilentTracker())
    return run(Request(**{**SMALL, **changes}), context)


@pytest.mark.parametrize("kind", ["wan", "cogvideox"])
def test_the_published_folder_is_the_pretrained_vae(kept_media: Path, tmp_path: Path, kind: str) -> None:
    make(kind, tmp_path / "weights")
    report = publish(kept_media, tmp_path / "out", kind=kind, weights=str(tmp_path / "weights"))
    assert report.held_out_images == 2 and report.psnr_components is None and np.isfinite(report.psnr)
    folder = tmp_path / "out/models/vae"
    assert json.loads((folder / "config.json").read_text())["vae"]["kind"] == kind
    listed = {p.name for p in (folder / "report").iterdir()}
    assert {"report.json", "originals.png", "reconstructions.png", "clips.mp4"} <= listed

    vae, own = load_vae(folder), from_weights(kind, str(tmp_path / "weights"))
    spans = [s for s in kept_spans(kept_media / "data/clips.parquet", kept_media) if s.is_clip][:1]
    video = read_frames(spans[0], 9, 8.0, 32, 48)
    (latent,) = LatentEncoder(vae, torch.device("cpu"), 1024).encode([video])  # what precompute stores
    pixels = torch.from_numpy(video)[None].permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    assert latent.shape == (4, 3, 4, 6)
    assert np.array_equal(latent, own.encode(pixels)[0].numpy())
    assert torch.equal(vae.decode(torch.from_numpy(latent)[None]), own.decode(own.encode(pixels)))


def test_the_same_weights_give_the_same_bytes_and_fit_a_bundle(kept_media: Path, tmp_path: Path) -> None:
    make("wan", tmp_path / "weights")
    for name in ("one", "two"):
        publish(kept_media, tmp_path / name, kind="wan", weights=str(tmp_path / "weights"))
    one, two = (tmp_path / name / "models/vae" for name in ("one", "two"))
    for path in sorted(p for p in one.rglob("*") if p.is_file()):
        assert path.read_bytes() == (two / path.relative_to(one)).read_bytes(), path.name
    digest = bundle.build(tmp_path / "ws", tmp_path / "ws/partial", {"t2i": one}, one, {})
    assert load_vae(bundle.location(tmp_path / "ws", digest) / "vae").config.kind == "wan"


def test_what_is_missing_is_said_at_once(kept_media: Path, tmp_path: Path) -> None:
    with pytest.raises(GokuError, match=r'hf download Wan-AI/Wan2\.1-T2V-1\.3B-Diffusers --include "vae/'):
        publish(kept_media, tmp_path, kind="wan", weights="weights/wan")
    make("cogvideox", tmp_path / "weights")
    with pytest.raises(GokuError, match="13 frames: the VAE of CogVideoX needs 8k"):
        publish(kept_media, tmp_path, kind="cogvideox", weights=str(tmp_path / "weights"), frames=13)
    with pytest.raises(GokuError, match=r"below vae\.minimum_psnr 60\. Take other weights"):
        publish(kept_media, tmp_path, kind="cogvideox", weights=str(tmp_path / "weights"), minimum_psnr=60)
    with pytest.raises(ValueError, match="kind wan needs weights"):
        Request(kind="wan")

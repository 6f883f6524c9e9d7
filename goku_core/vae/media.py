"""Pixels for the VAE: a bounded sample of the kept media, split by source so that no held-out frame was seen."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from goku_core.media.spans import Span, fits, kept_spans, read_frames
from goku_core.packing import uniform
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.vae.request import VaeRequest


@dataclass(frozen=True)
class Media:
    """uint8 pixels: images (n, 3, 1, H, W), clips (n, 3, T, H, W)."""

    images: Tensor
    clips: Tensor


def load_media(request: VaeRequest, context: Context) -> tuple[Media, Media]:
    """(trained on, held out). Raises `GokuError` when nothing is left to train on."""
    spans = kept_spans(context.input("data/clips.parquet"), context.workspace)
    images = [s for s in spans if not s.is_clip]
    clips = [s for s in spans if s.is_clip and fits(s, request.frames, request.fps)]
    chosen = _draw(images, request.max_images, context.seed) + _draw(clips, request.max_clips, context.seed)
    if not chosen:
        raise GokuError(
            "data/clips.parquet keeps no picture and no clip that is long enough "
            f"({request.frames} frames at {request.fps:g} fps). See the funnel in reports/curation, then loosen "
            "`curate` in params.yaml or collect more."
        )
    held = held_out(chosen, request.held_out, context.seed)
    pixels = _read(chosen, request, context)

    def pick(outside: bool, clip: bool) -> Tensor:
        found = [
            p for s, p in zip(chosen, pixels, strict=True) if (s.media_id in held) == outside and s.is_clip == clip
        ]
        frames = request.frames if clip else 1
        if not found:
            return torch.empty(0, 3, frames, request.height, request.image_width, dtype=torch.uint8)
        return torch.from_numpy(np.stack(found)).permute(0, 4, 1, 2, 3)

    return Media(pick(False, False), pick(False, True)), Media(pick(True, False), pick(True, True))


def held_out(spans: Sequence[Span], share: float, seed: int) -> set[str]:
    """Media that are never trained on: `share` of the sources of each kind, at least one where there are two."""
    held: set[str] = set()
    for clip in (False, True):
        media = sorted({s.media_id for s in spans if s.is_clip == clip})
        media.sort(key=lambda media_id: uniform(seed, "vae held out", media_id, 0))
        held.update(media[: max(1, round(share * len(media)))] if len(media) > 1 else [])
    return held


def _draw(spans: list[Span], limit: int, seed: int) -> list[Span]:
    order = sorted(spans, key=lambda span: (uniform(seed, "vae sample", span.clip_id, 0), span.clip_id))
    return order[:limit]


def _read(spans: list[Span], request: VaeRequest, context: Context) -> list[np.ndarray]:
    def read(span: Span) -> np.ndarray:
        return read_frames(span, request.frames, request.fps, request.height, request.image_width)

    pixels = []
    with ThreadPoolExecutor(context.cores) as pool, context.progress("vae: read media", len(spans), "media") as bar:
        for frames in pool.map(read, spans):
            pixels.append(frames)
            bar.advance()
    return pixels


def floats(pixels: Tensor) -> Tensor:
    """uint8 -> [-1, 1]."""
    return pixels.float() / 127.5 - 1.0

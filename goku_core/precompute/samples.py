"""What is stored of a clip or picture: which frames one decode gives, and which samples at which sizes come of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from goku_core.media.spans import Span, fits, shown_size, span_of_row, window_starts
from goku_core.precompute.request import PrecomputeRequest, Resolution
from goku_core.precompute.sizes import size_within

FROM_TABLE = ("motion", "quality_heuristic", "aesthetic", "primary", "label", "label_score")


@dataclass(frozen=True)
class Sample:
    """One row of the index in the making, and the size (height, width) at which it is encoded."""

    resolution: str
    size: tuple[int, int]
    row: dict[str, Any]


@dataclass(frozen=True)
class Take:
    """What one decode gives: a window of `frames` from each of `firsts` (s), or (`apart`) frames that are pictures each.

    samples   for each window, or for each frame, one per resolution
    size      at which the frames are decoded: the largest of the samples'
    """

    span: Span
    frames: int
    fps: float
    firsts: list[float]
    size: tuple[int, int]
    samples: list[list[Sample]]
    apart: bool = False


def takes(
    row: dict[str, Any], request: PrecomputeRequest, workspace: Path, pictures: bool, unit: int
) -> Iterator[Take]:
    """Everything stored of one kept row.

    pictures   whether clips also give pictures, for a data set without pictures of its own
    unit       px; sides must divide by it (stride of the VAE times the patch)
    """
    span = span_of_row(row, workspace)
    for (frames, fps, _), names in _groups(request, span).items():
        starts = window_starts(span, frames, fps, request.windows_per_clip) if span.is_clip else [0.0]
        sizes = _sizes(names, request, span, unit)
        samples = [
            [Sample(name, sizes[name], _index_row(row, span, first, number)) for name in names]
            for number, first in enumerate(starts)
        ]
        yield Take(span, frames, fps, starts, _largest(sizes), samples)
    if span.is_clip and pictures and request.pictures_per_clip:
        yield from _pictures(row, span, request, unit)


def stores(resolution: Resolution, span: Span) -> bool:
    if span.is_clip:
        return resolution.clips and fits(span, resolution.frames, resolution.fps)
    return resolution.images


def _pictures(row: dict[str, Any], span: Span, request: PrecomputeRequest, unit: int) -> Iterator[Take]:
    """Frames of a clip, evenly spread, as pictures."""
    count = request.pictures_per_clip
    fps = count / max(span.seconds, 1e-3)
    for aspect in ("fixed", "source"):
        names = [name for name, size in request.resolutions.items() if size.images and size.aspect == aspect]
        if not names:
            continue
        sizes = _sizes(names, request, span, unit)
        frames = []
        for number in range(count):
            described = _index_row(row, span, round(number / fps, 3), window=1)
            described |= {"sample_id": f"{described['sample_id']}#picture", "kind": "image"}
            frames.append([Sample(name, sizes[name], dict(described)) for name in names])
        yield Take(span, count, fps, [0.0], _largest(sizes), frames, apart=True)


def _groups(request: PrecomputeRequest, span: Span) -> dict[tuple[int, float, str], list[str]]:
    """Resolutions that store this medium, grouped by the frames they need, so that each group shares a decode.

    Sizes of the source's aspect ratio and fixed ones are cut differently, so they do not share.
    """
    groups: dict[tuple[int, float, str], list[str]] = defaultdict(list)
    for name, resolution in request.resolutions.items():
        if stores(resolution, span):
            needed = (resolution.frames, resolution.fps) if span.is_clip else (1, 1.0)
            groups[(*needed, resolution.aspect)].append(name)
    return groups


def _sizes(names: list[str], request: PrecomputeRequest, span: Span, unit: int) -> dict[str, tuple[int, int]]:
    sizes = {}
    for name in names:
        wanted = request.resolutions[name]
        if wanted.aspect == "fixed":
            sizes[name] = (wanted.height, wanted.width)
        else:
            sizes[name] = size_within(wanted.height * wanted.width, *shown_size(span), unit)
    return sizes


def _largest(sizes: dict[str, tuple[int, int]]) -> tuple[int, int]:
    return max(sizes.values(), key=lambda size: size[0] * size[1])


def _index_row(row: dict[str, Any], span: Span, first: float, window: int) -> dict[str, Any]:
    """Every second window keeps the plain caption (our choice): prompts that name no motion score must work too."""
    return {
        "sample_id": f"{span.clip_id}@{first:g}" if span.is_clip else span.clip_id,
        "clip_id": span.clip_id,
        "media_id": span.media_id,
        "kind": span.kind,
        "start_pts": span.start_pts,
        "end_pts": span.end_pts,
        "first_seconds": first,
        "text": span.caption if window % 2 else span.text,
        **{name: row.get(name) for name in FROM_TABLE},
        "repeats": 1 if row.get("repeats") is None else row["repeats"],
    }

"""Sources beside what their latents decode to, as a page or as one picture."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from goku_core.pipeline.errors import GokuError
from goku_core.precompute.comparison import Compared
from goku_core.shards.verification import Damage

FRAMES = 4  # of a clip, evenly spread
SHOWN_WIDTH = 224  # px of a frame on the picture; small latents are enlarged without smoothing
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222}"
    "figure{margin:1.5rem 0}img{max-width:100%;image-rendering:pixelated}figcaption{overflow-wrap:anywhere}"
    ".bad{color:#a00}small{color:#666}"
)


def write_sheet(path: Path, compared: Sequence[Compared], damages: Sequence[Damage]) -> None:
    """`path` ends in .html (self-contained) or .png. The upper row of a figure is the source, the lower one the decoded latent."""
    if path.suffix not in (".html", ".png"):
        raise GokuError(f"--out {path.name}: write to a file that ends in .html or .png")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".html":
        path.write_text(_page(compared, damages), encoding="utf-8")
    else:
        path.write_bytes(_png(_picture(compared)))


def _page(compared: Sequence[Compared], damages: Sequence[Damage]) -> str:
    found = "".join(
        f"<li>{html.escape(f'{d.resolution}/{d.shard}, sample {d.sample_id}: {d.message}')}</li>" for d in damages
    )
    state = f"<ul class=bad>{found}</ul>" if damages else "<p>Every shard is what its index says.</p>"
    figures = "".join(
        f"<figure><img alt='source above, decoded latent below' src='data:image/png;base64,"
        f"{base64.b64encode(_png(_rows(one))).decode()}'><figcaption>{html.escape(one.resolution)}, PSNR {one.psnr:.2f} dB: "
        f"{html.escape(one.text) or '(no caption)'}<br><small>{html.escape(one.sample_id)}</small></figcaption></figure>"
        for one in compared
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>Latents beside their sources</title><style>{STYLE}</style>"
        f"<h1>Latents beside their sources</h1>{state}<p>Upper row: the source. Lower row: the stored latent, decoded.</p>"
        f"{figures}</html>\n"
    )


def _picture(compared: Sequence[Compared]) -> np.ndarray:
    """All figures below one another, each under a line of text; white where one is narrower."""
    from PIL import Image, ImageDraw

    if not compared:
        raise GokuError("there is no sample to show: every latent is damaged, or --samples is 0")
    parts = []
    for one in compared:
        rows = _rows(one)
        line = Image.new("RGB", (rows.shape[1], 16), "white")
        ImageDraw.Draw(line).text((2, 2), f"{one.resolution} {one.psnr:.2f} dB {one.sample_id[:24]}", fill="black")
        parts += [np.asarray(line), rows]
    width = max(part.shape[1] for part in parts)
    return np.vstack([np.pad(p, ((0, 8), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in parts])


def _rows(one: Compared) -> np.ndarray:
    """(H, W, 3): frames of the source side by side, below them those of the latent."""
    chosen = np.unique(np.linspace(0, len(one.source) - 1, FRAMES).round().astype(int))
    times = max(1, SHOWN_WIDTH // one.source.shape[2])
    rows = [np.hstack(list(frames[chosen])) for frames in (one.source, one.decoded)]
    return np.vstack(rows).repeat(times, axis=0).repeat(times, axis=1)


def _png(pixels: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG")
    return buffer.getvalue()

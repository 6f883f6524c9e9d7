"""How long the samples of a phase are: from the index of data/latents, else from its resolution."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from goku_core.packing import Mix
    from goku_core.precompute.request import Resolution
    from goku_core.train.request import Phase

# Width to height of the media that a stated distribution stands for, in equal shares; with `aspect: source` they hardly differ in
# tokens, as every size has at most the area of the resolution.
ASPECTS = ((16, 9), (3, 2), (4, 3), (1, 1), (3, 4), (2, 3), (9, 16))
STRIDE = 8 * 2  # px of a token: stride of the VAE times the patch


@dataclass(frozen=True)
class Lengths:
    """Tokens (n,) of samples that stand for the phase's data, which of them are clips, and where the figures are from."""

    tokens: np.ndarray
    is_clip: np.ndarray
    text_tokens: float
    source: str

    def mix(self, phase: Phase) -> Mix:
        """Raises `GokuError` where a kind that the phase wants is not there."""
        from goku_core.packing import Mix

        try:
            rows = tuple(tuple(np.flatnonzero(kind).tolist()) for kind in (~self.is_clip, self.is_clip))
            return Mix(rows, (phase.images, phase.clips))
        except ValueError as error:
            raise GokuError(f"{self.source}: {error}") from error

    def longest(self, phase: Phase) -> int:
        return int(max(self._kind(clips).max() for clips in self._wanted(phase)))

    def mean(self, phase: Phase) -> tuple[float, float]:
        """Of a sample of the phase's mix: tokens, and tokens squared."""
        total = phase.images + phase.clips
        shares = [(phase.clips if clips else phase.images) / total for clips in self._wanted(phase)]
        kinds = [self._kind(clips).astype(np.float64) for clips in self._wanted(phase)]
        return (
            float(sum(share * kind.mean() for share, kind in zip(shares, kinds, strict=True))),
            float(sum(share * (kind**2).mean() for share, kind in zip(shares, kinds, strict=True))),
        )

    def _wanted(self, phase: Phase) -> list[bool]:
        return [clips for clips, share in ((False, phase.images), (True, phase.clips)) if share > 0]

    def _kind(self, clips: bool) -> np.ndarray:
        kind = self.tokens[self.is_clip == clips]
        if not len(kind):
            raise GokuError(f"{self.source}: there are no {'clips' if clips else 'pictures'}, which the phase wants.")
        return kind


def from_index(folder: Path) -> Lengths | None:
    """Of a published resolution, `data/latents/<resolution>`; None where there is no index."""
    file = folder / "index.parquet"
    if not file.is_file():
        return None
    import pyarrow.parquet as pq

    table = pq.read_table(file, columns=["tokens", "kind", "text_shape"])
    texts = [shape[0] for shape in table["text_shape"].to_pylist()]
    return Lengths(
        table["tokens"].to_numpy().astype(np.int64),
        np.array([kind == "video" for kind in table["kind"].to_pylist()]),
        float(np.mean(texts)) if texts else 0.0,
        f"the index {file.as_posix()}, {len(table)} samples",
    )


def stated(resolution: Resolution, text_tokens: int, samples: int = 7000) -> Lengths:
    """Half pictures, half clips of `frames` frames each; sides as precompute would choose them for `ASPECTS`."""
    from goku_core.precompute.sizes import size_within

    if resolution.aspect == "fixed":
        sizes = [(resolution.height, resolution.width)]
        shapes = "cut to one size"
    else:
        sizes = [size_within(resolution.height * resolution.width, rows, columns) for columns, rows in ASPECTS]
        shapes = f"aspect ratios {', '.join(f'{w}:{h}' for w, h in ASPECTS)} in equal shares"
    pictures = np.array([(height // STRIDE) * (width // STRIDE) for height, width in sizes], np.int64)
    frames = (resolution.frames - 1) // 4 + 1
    pictures = np.resize(pictures, samples)
    return Lengths(
        np.concatenate([pictures, pictures * frames]),
        np.arange(2 * samples) >= samples,
        float(text_tokens),
        f"stated, as there is no index: {resolution.height}x{resolution.width} px, {shapes}; every clip {resolution.frames} "
        f"frames ({frames} latent); captions of {text_tokens} tokens, the most there may be",
    )

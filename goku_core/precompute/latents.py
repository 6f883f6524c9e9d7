"""Pixels to normalised latents: short samples in batches of equal shape, long ones piece by piece while they are decoded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice, tee

import numpy as np
import torch
from torch import Tensor

from goku_core.media.spans import resized
from goku_core.models.vae_interface import CausalVAE
from goku_core.models.vae_tiles import Tiles

PATCH = 2  # latent cells of a token along rows and columns (models.patches)
WAITING_BYTES = 1 << 29  # pixels that wait for a batch to fill: sources of many aspect ratios fill none for long
PIECE_FRAMES = 8


class LatentEncoder:
    """The VAE on its device.

    batch_tokens   tokens of a call at most; a single longer sample is a call of its own
    tile_side      px; longer sides are cut into overlapping tiles; 0: never
    """

    def __init__(self, vae: CausalVAE, device: torch.device, batch_tokens: int, tile_side: int = 0) -> None:
        self.vae, self.device = vae.to(device), device
        self.batch_tokens, self.tile_side = batch_tokens, tile_side

    def tokens(self, frames: int, height: int, width: int) -> int:
        """Tokens of a sample. Raises ValueError where the sample does not fit the VAE's stride."""
        latent_frames, rows, columns = self.vae.config.latent_shape(frames, height, width)
        return latent_frames * (rows // PATCH) * (columns // PATCH)

    def is_long(self, frames: int, height: int, width: int) -> bool:
        """Whether a sample goes through `stream` and not through a batch."""
        return self._tiles(height, width) is not None or self.tokens(frames, height, width) > self.batch_tokens

    @torch.no_grad()
    def encode(self, videos: list[np.ndarray]) -> list[np.ndarray]:
        """uint8 (T, H, W, 3) of one shape, in one call -> float32 latents (C, t, h, w)."""
        return list(self.vae.encode(self._floats(np.stack(videos))).cpu().numpy())

    def stream(self, frames: Iterable[np.ndarray], sizes: list[tuple[int, int]]) -> list[np.ndarray]:
        """Frames (H, W, 3) as they are decoded -> their latent at each of the sizes, none of them ever in memory as pixels.

        The sizes advance together from piece to piece, so that one decode serves all.
        """
        streams = [
            self.vae.encode_stream(self._scaled(copy, size), self._tiles(*size))
            for size, copy in zip(sizes, tee(_pieces(frames), len(sizes)), strict=True)
        ]
        parts: list[list[np.ndarray]] = [[] for _ in sizes]
        for latents in zip(*streams, strict=True):
            for part, latent in zip(parts, latents, strict=True):
                part.append(latent[0].cpu().numpy())
        return [np.concatenate(part, axis=1) for part in parts]

    def _scaled(self, pieces: Iterable[np.ndarray], size: tuple[int, int]) -> Iterator[Tensor]:
        return (self._floats(resized(piece, *size)[None]) for piece in pieces)

    def _tiles(self, height: int, width: int) -> Tiles | None:
        if not self.tile_side or max(height, width) <= self.tile_side:
            return None
        side = max(4, self.tile_side // self.vae.config.stride[1])
        reach = self.vae.encoder_reach
        # Twice the reach makes tiles exact; a VAE that looks at the whole picture is blended over a quarter (our choice).
        return Tiles(side, side, min(side - 1, side // 4 if reach is None else 2 * reach))

    def _floats(self, videos: np.ndarray) -> Tensor:
        """uint8 (B, T, H, W, 3) -> (B, 3, T, H, W) in [-1, 1] on the device."""
        pixels = torch.from_numpy(np.ascontiguousarray(videos)).to(self.device)
        return pixels.permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0


class Batches:
    """Collects samples until a batch of their shape is full. Which samples share a call depends on their order alone."""

    def __init__(self, encoder: LatentEncoder) -> None:
        self.encoder = encoder
        self._done: dict[int, np.ndarray] = {}
        self._waiting: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = defaultdict(list)
        self._bytes = 0

    def put(self, place: int, video: np.ndarray) -> None:
        """uint8 (T, H, W, 3) of the sample that `finish` returns at `place`."""
        waiting = self._waiting[video.shape]
        waiting.append((place, video))
        self._bytes += video.nbytes
        if (len(waiting) + 1) * self.encoder.tokens(*video.shape[:3]) > self.encoder.batch_tokens:
            self._flush(video.shape)
        while self._bytes > WAITING_BYTES:
            self._flush(max(self._waiting, key=lambda shape: sum(v.nbytes for _, v in self._waiting[shape])))

    def done(self, place: int, latent: np.ndarray) -> None:
        """A latent that was made elsewhere."""
        self._done[place] = latent.astype(np.float16)

    def finish(self) -> dict[int, np.ndarray]:
        """Latents by place."""
        for shape in list(self._waiting):
            self._flush(shape)
        return self._done

    def _flush(self, shape: tuple[int, ...]) -> None:
        waiting = self._waiting.pop(shape)
        for (place, video), latent in zip(waiting, self.encoder.encode([v for _, v in waiting]), strict=True):
            self._done[place] = latent.astype(np.float16)
            self._bytes -= video.nbytes


def _pieces(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    iterator = iter(frames)
    while piece := list(islice(iterator, PIECE_FRAMES)):
        yield np.stack(piece)

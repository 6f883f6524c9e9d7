"""What every VAE of the platform offers, whether trained here or elsewhere: a clip whole, in pieces of time, in tiles of space.

The latent is normalised by `latent_mean` and `latent_scale` per channel; "raw" is the latent as the posterior gives it.

A stream keeps, for each causal layer, the end of what it has seen, and nothing else: its memory depends on the size of a piece,
never on the length of the clip. Tiles and stream go together: every tile has a past of its own.

Shapes: B clips, T frames, H x W pixels; latent (B, C, (T-1)/4+1, H/stride, W/stride). Pixels are float in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from goku_core.models.vae_tiles import Layout, Tiles


class LatentConfig(Protocol):
    """Shape of the latent space."""

    @property
    def latent_channels(self) -> int: ...

    @property
    def stride(self) -> tuple[int, int, int]: ...

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int]: ...


@dataclass
class Past:
    """What is kept between two pieces of a clip: whether this is the first one, and what each causal layer has seen last."""

    first: bool = True
    kept: dict[Any, Any] = field(default_factory=dict)


class CausalVAE(nn.Module):
    """A network gives `encode_step`, `decode_step`, the sizes of the pieces they take, and how far they see in space.

    encode_pieces, decode_pieces   frames, or latent frames, of the first piece and of every later one; the last may be shorter
    encoder_reach, decoder_reach   latent cells at which an input cell still changes the result; None: the whole picture
    """

    latent_mean: Tensor
    latent_scale: Tensor
    encode_pieces: tuple[int, int]
    decode_pieces: tuple[int, int]
    encoder_reach: int | None = None
    decoder_reach: int | None = None

    def __init__(self, config: LatentConfig) -> None:
        super().__init__()
        self.config = config

    def encode_step(self, video: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        """One piece of pixels -> mean and log variance of its latent frames."""
        raise NotImplementedError

    def decode_step(self, raw: Tensor, past: Past) -> Tensor:
        """One piece of raw latent frames -> its pixels."""
        raise NotImplementedError

    def posterior(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (B, 3, T, H, W) -> mean and log variance of the raw latent, each (B, C, (T-1)/4+1, H/stride, W/stride).

        Raises ValueError where the clip does not fit the stride.
        """
        self.config.latent_shape(*video.shape[2:])
        past, parts = Past(), []
        for piece in regroup([video], *self.encode_pieces):
            parts.append(self.encode_step(piece, past))
            past.first = False
        return torch.cat([mean for mean, _ in parts], dim=2), torch.cat([spread for _, spread in parts], dim=2)

    def decode_raw(self, raw: Tensor) -> Tensor:
        """The decoder itself, on latents as the posterior gives them."""
        past, parts = Past(), []
        for piece in regroup([raw], *self.decode_pieces):
            parts.append(self.decode_step(piece, past))
            past.first = False
        return torch.cat(parts, dim=2)

    def encode(self, video: Tensor) -> Tensor:
        """Pixels (B, 3, T, H, W) in [-1, 1] -> normalised latent (B, C, (T-1)/4+1, H/stride, W/stride): the posterior's mean."""
        mean, _ = self.posterior(video)
        return self.normalise(mean)

    def decode(self, latent: Tensor) -> Tensor:
        """Normalised latent (B, C, L, h, w) -> pixels (B, 3, 4L-3, H, W)."""
        return self.decode_raw(self.denormalise(latent))

    def normalise(self, raw: Tensor) -> Tensor:
        return (raw - _per_channel(self.latent_mean)) / _per_channel(self.latent_scale)

    def denormalise(self, latent: Tensor) -> Tensor:
        return latent * _per_channel(self.latent_scale) + _per_channel(self.latent_mean)

    @torch.no_grad()
    def encode_stream(self, video: Tensor | Iterable[Tensor], tiles: Tiles | None = None) -> Iterator[Tensor]:
        """Normalised latent of a clip piece by piece; joined along time it is `encode` of the whole.

        video   the clip, or its pieces (B, 3, t, H, W) of any t, as a decoder yields them
        tiles   see `encode_tiled`

        Raises ValueError where the clip does not fit the stride.
        """
        seen, tiled = 0, _Tiled(self.encode_step, self.config.stride[1], 1, tiles, self.encoder_reach)
        for piece in regroup([video] if isinstance(video, Tensor) else video, *self.encode_pieces):
            seen += piece.shape[2]
            self.config.latent_shape(seen, *piece.shape[3:])
            yield self.normalise(tiled(piece))

    @torch.no_grad()
    def decode_stream(self, latent: Tensor | Iterable[Tensor], tiles: Tiles | None = None) -> Iterator[Tensor]:
        """Pixels of a clip piece by piece; joined along time they are `decode` of the whole.

        latent   the normalised latent, or its pieces (B, C, l, h, w) of any l
        tiles    see `decode_tiled`
        """
        tiled = _Tiled(self.decode_step, 1, self.config.stride[1], tiles, self.decoder_reach)
        for piece in regroup([latent] if isinstance(latent, Tensor) else latent, *self.decode_pieces):
            yield tiled(self.denormalise(piece))

    def encode_tiled(self, video: Tensor, tiles: Tiles) -> Tensor:
        """`encode` in overlapping tiles, blended where they overlap, in pieces of time.

        Equal to `encode` where the overlap is at least twice `encoder_reach`: the cells that a tile's cut edge has changed then
        have no weight. With less, or where the network looks at the whole picture, an approximation.
        """
        return torch.cat(list(self.encode_stream(video, tiles=tiles)), dim=2)

    def decode_tiled(self, latent: Tensor, tiles: Tiles) -> Tensor:
        """`decode` in overlapping tiles; equal to it where the overlap is at least twice `decoder_reach`."""
        return torch.cat(list(self.decode_stream(latent, tiles=tiles)), dim=2)


class _Tiled:
    """A step of the network on every tile of a piece, each with its own past; without tiles on the whole piece."""

    def __init__(
        self, step: Callable[[Tensor, Past], Any], unit_in: int, unit_out: int, tiles: Tiles | None, reach: int | None
    ) -> None:
        self._step, self._in, self._out, self._tiles, self._reach = step, unit_in, unit_out, tiles, reach
        self._layout: Layout | None = None
        self._pasts: list[Past] = []

    def __call__(self, piece: Tensor) -> Tensor:
        if self._layout is None:
            rows, columns = piece.shape[3] // self._in, piece.shape[4] // self._in
            self._layout = Layout(rows, columns, self._tiles or Tiles(rows, columns, 0), self._reach)
            self._pasts = [Past() for _ in self._layout.places]
        done = self._layout.blend(self._results(piece), self._out)
        for past in self._pasts:
            past.first = False
        return done

    def _results(self, piece: Tensor) -> Iterator[Tensor]:
        assert self._layout is not None
        for place, past in zip(self._layout.places, self._pasts, strict=True):
            found = self._step(place.cut(piece, self._in), past)
            yield found[0] if isinstance(found, tuple) else found


def regroup(pieces: Iterable[Tensor], first: int, rest: int) -> Iterator[Tensor]:
    """The same frames in pieces of `first`, then `rest` frames; the last one may be shorter."""
    waiting: list[Tensor] = []
    held, wanted = 0, first
    for piece in pieces:
        waiting.append(piece)
        held += piece.shape[2]
        while held >= wanted:
            joined = torch.cat(waiting, dim=2) if len(waiting) > 1 else waiting[0]
            yield joined[:, :, :wanted]
            held -= wanted
            waiting = [joined[:, :, wanted:]] if held else []
            wanted = rest
    if held:
        yield torch.cat(waiting, dim=2)


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None, None]

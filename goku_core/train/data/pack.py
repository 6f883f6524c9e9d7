"""The packs of a step: latents, noise, times and texts, all functions of (seed, sample id, step)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from goku_core.models.patches import grid_coords, to_tokens, token_grid
from goku_core.models.text import TextEncoder, pack_texts
from goku_core.packing import Mix, philox, plan, uniform
from goku_core.pipeline.errors import GokuError
from goku_core.shards import ShardReader
from goku_core.train.request import Phase, TrainRequest
from goku_core.transport import RectifiedFlow, shift_by_law, shift_time, timestep_of_uniform


@dataclass(frozen=True)
class Pack:
    """S samples in N tokens.

    weight  (N,) of a token in the loss: 1 / tokens of its sample / samples of the whole step, so that the loss of a step, its
            mean over samples, is the plain sum over packs and ranks
    counts  (pictures, clips)
    """

    noised: Tensor
    data: Tensor
    noise: Tensor
    coords: Tensor
    cu_seqlens: Tensor
    time: Tensor
    text: Tensor
    text_cu_seqlens: Tensor
    condition: Tensor | None
    weight: Tensor
    counts: tuple[int, int]


class Packer:
    """Makes the pack of any step without having made the ones before."""

    def __init__(
        self, reader: ShardReader, phase: Phase, request: TrainRequest, encoder: TextEncoder, seed: int
    ) -> None:
        self.reader, self.phase, self.request, self.seed = reader, phase, request, seed
        self.patch = (1, 2, 2)
        self.flow = RectifiedFlow()
        self.null_text = encoder.encode("")
        self.lengths = reader.index["tokens"].astype(np.int64)
        self.is_clip = reader.index["kind"] == "video"
        self.mix = self._mix()
        self._loaded: dict[int, tuple[Tensor, Tensor, Tensor]] = {}

    def _mix(self) -> Mix:
        wanted = (("pictures", ~self.is_clip, self.phase.images), ("clips", self.is_clip, self.phase.clips))
        for name, chosen, share in wanted:
            if share > 0 and not chosen.any():
                raise GokuError(
                    f'this phase wants {name} at resolution "{self.phase.resolution}", but data/latents has none. '
                    f"Collect {name}, or set the phase's share of {name} to 0 in params.yaml."
                )
        rows = [np.flatnonzero(chosen) for _, chosen, _ in wanted]
        # How often balance wants a sample walked per epoch.
        repeats = self.reader.index["repeats"]
        return Mix(
            tuple(tuple(own.tolist()) for own in rows),
            tuple(share for _, _, share in wanted),
            tuple(tuple(repeats[own].tolist()) for own in rows),
        )

    def packs(self, step: int, group: int = 0, groups: int = 1) -> list[Pack]:
        """What a group of ranks computes at a data step; together the groups have the same samples, however many there are."""
        dealt = plan(self.lengths, self.mix, self.phase.tokens / groups, self.seed, step, groups)
        return [self._pack(dealt[group], step, sum(len(rows) for rows in dealt))]

    def _pack(self, rows: np.ndarray, step: int, samples_of_step: int) -> Pack:
        ids = [str(self.reader.index["sample_id"][row]) for row in rows]
        samples = [self._sample(int(row)) for row in rows]
        data = torch.cat([tokens for tokens, _, _ in samples])
        noise = torch.cat([self._noise(i, len(t), t.shape[1], step) for i, (t, _, _) in zip(ids, samples, strict=True)])
        lengths = torch.tensor([len(tokens) for tokens, _, _ in samples])
        times = self._times(ids, lengths, step)
        per_token = times.repeat_interleave(lengths)[:, None]
        texts = [
            self.null_text if uniform(self.seed, "text dropout", i, step) < self.request.text_dropout else text
            for i, (_, _, text) in zip(ids, samples, strict=True)
        ]
        text, text_cu_seqlens = pack_texts(texts)
        clips = int(self.is_clip[rows].sum())
        return Pack(
            noised=self.flow.interpolate(noise, data, per_token),
            data=data,
            noise=noise,
            coords=torch.cat([coords for _, coords, _ in samples]),
            cu_seqlens=_bounds(lengths),
            time=times,
            text=text,
            text_cu_seqlens=text_cu_seqlens,
            condition=self._condition([tokens for tokens, _, _ in samples], rows, ids, step)
            if self.phase.image_condition
            else None,
            weight=(1.0 / lengths).repeat_interleave(lengths) / samples_of_step,
            counts=(len(rows) - clips, clips),
        )

    def _sample(self, row: int) -> tuple[Tensor, Tensor, Tensor]:
        """(tokens, coordinates, text) of a sample; kept in memory while small, as every epoch reads it again."""
        if row in self._loaded:
            return self._loaded[row]
        latent = torch.from_numpy(self.reader.latent(row))
        grid = token_grid(tuple(latent.shape[1:]), self.patch)
        sample = (to_tokens(latent, self.patch), grid_coords(grid), torch.from_numpy(self.reader.text(row)))
        if len(self._loaded) < 20_000 and len(sample[0]) < 4096:
            self._loaded[row] = sample
        return sample

    def _times(self, ids: list[str], lengths: Tensor, step: int) -> Tensor:
        transport = self.request.transport
        draws = torch.tensor([uniform(self.seed, "time", i, step) for i in ids], dtype=torch.float32)
        times = timestep_of_uniform(draws, transport.law, transport.location, transport.scale)
        shift = shift_by_law(transport.shift, transport.shift_law, lengths, transport.base_tokens)
        return self.flow.on_path(shift_time(times, shift))

    def _noise(self, sample_id: str, tokens: int, width: int, step: int) -> Tensor:
        return torch.from_numpy(philox(self.seed, "noise", sample_id, step).standard_normal((tokens, width), "f4"))

    def _condition(self, tokens: list[Tensor], rows: np.ndarray, ids: list[str], step: int) -> Tensor:
        """The first latent frame of each clip, repeated over its frames (paper section 2.5); zeros for pictures.

        A share of the clips gets zeros too: the null picture, from which guidance by image pushes away.
        """
        parts = []
        for sample, row, sample_id in zip(tokens, rows, ids, strict=True):
            frames = int(self.reader.index["latent_shape"][row][1])
            first = sample[: len(sample) // frames]
            dropped = uniform(self.seed, "image dropout", sample_id, step) < self.request.image_dropout
            given = self.is_clip[row] and not dropped
            parts.append(first.repeat(frames, 1) if given else torch.zeros_like(sample))
        return torch.cat(parts)


def _bounds(lengths: Tensor) -> Tensor:
    return torch.cat((lengths.new_zeros(1), lengths)).cumsum(0).to(torch.int32)

"""The packs of a step: latents, noise, times and texts, all functions of (seed, sample id, step).

What a sample becomes depends on nothing else: not on the pack it is in, nor on who reads it, nor in which order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from goku_core.models import CONFIGS
from goku_core.models.patches import grid_coords, to_tokens, token_grid
from goku_core.models.text import TextEncoder, pack_texts
from goku_core.packing import Cost, Mix, Rounds, flop_cost, philox, plan, uniform
from goku_core.pipeline.errors import GokuError
from goku_core.shards import ShardReader
from goku_core.storage import ABSENT, ObjectError
from goku_core.train.data.pack import Pack, weightless
from goku_core.train.data.source import StoreAway
from goku_core.train.data.unreadable import Unreadable
from goku_core.train.held_out import held_out
from goku_core.train.request import Phase, TrainRequest
from goku_core.transport import RectifiedFlow, shift_by_law, shift_time, timestep_of_uniform

# What a store says of one object. Everything else it refuses (credentials, the bucket) is no matter of a sample.
OF_THE_OBJECT = ABSENT | {"InvalidRange"}
VECTOR = 64  # a multiple of what any processor computes at once
Each = Callable[[Callable[[int], "Sample"], Iterable[int]], Iterable["Sample"]]


class Stored(NamedTuple):
    """A sample as it is read: tokens (N, C * patch volume), coords (N, 3), text (M, width)."""

    row: int
    tokens: Tensor
    coords: Tensor
    text: Tensor


class Sample(NamedTuple):
    """A sample of a step: with its noise, and with the null text where its own was dropped."""

    row: int
    id: str
    tokens: Tensor
    coords: Tensor
    text: Tensor
    noise: Tensor


class Packer:
    """Makes the packs of any step without having made the ones before. May be used by several threads at once.

    record  file in which unreadable samples are written down; None: they are counted only
    rounds  how groups wait for one another (`packing.plan`)
    """

    def __init__(
        self,
        reader: ShardReader,
        phase: Phase,
        request: TrainRequest,
        encoder: TextEncoder,
        seed: int,
        record: Path | None = None,
        rounds: Rounds = "free",
    ) -> None:
        self.reader, self.phase, self.request, self.seed, self.rounds = reader, phase, request, seed, rounds
        self.patch = (1, 2, 2)
        self.flow = RectifiedFlow()
        self.null_text = encoder.encode("")
        self.lengths = reader.index["tokens"].astype(np.int64)
        self.is_clip = reader.index["kind"] == "video"
        self.mix = self._mix()
        self.cost = cost_of(request)
        walked = [walk.rows for walk, share in zip(self.mix.walks, self.mix.shares, strict=True) if share > 0]
        walked = np.unique(np.concatenate(walked))
        self._refuse_too_long(walked)
        where = f'data/latents at resolution "{phase.resolution}"'
        self.unreadable = Unreadable(reader.index, walked, request.data.unreadable_max, where, record)
        self._kept: dict[int, Stored] = {}
        self._room = request.data.cache_megabytes << 20  # bytes that may still be kept
        self._lock = threading.Lock()

    def _mix(self) -> Mix:
        trained = ~held_out(self.reader.index["clip_id"], self.request.validation.share)
        wanted = (
            ("pictures", trained & ~self.is_clip, self.phase.images),
            ("clips", trained & self.is_clip, self.phase.clips),
        )
        for name, chosen, share in wanted:
            if share > 0 and not chosen.any():
                raise GokuError(
                    f'this phase wants {name} at resolution "{self.phase.resolution}", but data/latents has none. '
                    f"Collect {name}, or set the phase's share of {name} to 0 in params.yaml."
                )
        rows = [np.flatnonzero(chosen) for _, chosen, _ in wanted]
        # How often balance wants a sample walked per epoch.
        repeats = self.reader.index["repeats"]
        return Mix(tuple(rows), tuple(share for _, _, share in wanted), tuple(repeats[own] for own in rows))

    def _refuse_too_long(self, walked: np.ndarray) -> None:
        most = self.phase.pack_tokens
        long = walked[self.lengths[walked] > most] if most is not None else walked[:0]
        if len(long):
            longest = long[np.argmax(self.lengths[long])]
            raise GokuError(
                f'{len(long)} samples at resolution "{self.phase.resolution}" have more tokens than a pack holds: '
                f"{self.reader.index['sample_id'][longest]} has {self.lengths[longest]}, pack_tokens is {most}. Raise the "
                "phase's pack_tokens in params.yaml, let more ranks share a pack, or leave such clips out."
            )

    def packs(self, step: int, group: int = 0, groups: int = 1, each: Each = map) -> list[Pack]:
        """What a group of ranks computes at a data step; together the groups have the same samples, however many there are.

        each  how the samples of a pack are made, in order: `map`, or the `map` of a pool of threads
        """
        phase = self.phase
        dealt = plan(
            self.lengths,
            self.mix,
            phase.tokens,
            self.seed,
            step,
            groups,
            self.cost,
            phase.pack_tokens,
            self.rounds,
        )
        samples = sum(len(rows) for own in dealt for rows in own)
        return [self.pack(rows, step, samples, each) for rows in dealt[group]]

    def pack(self, rows: np.ndarray, step: int, samples_of_step: int, each: Each = map) -> Pack:
        if not len(rows):
            width = int(self.reader.index["latent_shape"][0][0]) * int(np.prod(self.patch))
            return weightless(width, self.null_text, self.phase.image_condition)
        samples = list(each(partial(self._sample, step=step), rows.tolist()))
        lengths = torch.tensor([len(sample.tokens) for sample in samples])
        times = self._times([sample.id for sample in samples], lengths, step)
        data, noise = (torch.cat([getattr(sample, name) for sample in samples]) for name in ("tokens", "noise"))
        text, text_cu_seqlens = pack_texts([sample.text for sample in samples])
        clips = sum(bool(self.is_clip[sample.row]) for sample in samples)
        return Pack(
            noised=self.flow.interpolate(noise, data, times.repeat_interleave(lengths)[:, None]),
            data=data,
            noise=noise,
            coords=torch.cat([sample.coords for sample in samples]),
            cu_seqlens=_bounds(lengths),
            time=times,
            text=text,
            text_cu_seqlens=text_cu_seqlens,
            condition=self._condition(samples, step) if self.phase.image_condition else None,
            weight=(1.0 / lengths).repeat_interleave(lengths) / samples_of_step,
            counts=(len(samples) - clips, clips),
            ids=tuple(sample.id for sample in samples),
        )

    def _sample(self, row: int, step: int) -> Sample:
        stored = self._readable(row)
        name = str(self.reader.index["sample_id"][stored.row])
        dropped = uniform(self.seed, "text dropout", name, step) < self.request.text_dropout
        noise = philox(self.seed, "noise", name, step).standard_normal(tuple(stored.tokens.shape), "f4")
        text = self.null_text if dropped else stored.text
        return Sample(stored.row, name, stored.tokens, stored.coords, text, torch.from_numpy(noise))

    def _readable(self, row: int) -> Stored:
        """The sample of a row, or where that cannot be read of the row that stands in for it."""
        tried: set[int] = set()
        while True:
            try:
                return self._stored(row)
            except StoreAway:
                raise
            except GokuError as error:
                if isinstance(error, ObjectError) and error.code not in OF_THE_OBJECT:
                    raise
                tried.add(row)
                following = self.unreadable.substitute(row, tried)
                self.unreadable.note(row, error, following)  # raises where there is none
                row = following

    def _stored(self, row: int) -> Stored:
        """A sample from memory, where what fits is kept, as every epoch reads it again."""
        if (kept := self._kept.get(row)) is not None:
            return kept
        latent, text = self._read(row)
        tensor = torch.from_numpy(latent)
        coords = grid_coords(token_grid(tuple(tensor.shape[1:]), self.patch))
        stored = Stored(row, to_tokens(tensor, self.patch), coords, torch.from_numpy(text))
        size = sum(tensor.nbytes for tensor in stored[1:])
        with self._lock:
            if size <= self._room and row not in self._kept:
                self._kept[row] = stored
                self._room -= size
        return stored

    def _read(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            return self.reader.sample(row)
        except ObjectError:
            raise
        except GokuError:  # bytes that changed on their way arrive whole the second time
            return self.reader.sample(row)

    def _times(self, names: list[str], lengths: Tensor, step: int) -> Tensor:
        """(S,). In whole vectors: torch computes what is left over at the end by other means, which differ in the last bit, and
        a time must not depend on its place in a pack."""
        transport = self.request.transport
        draws = torch.full((-(-len(names) // VECTOR) * VECTOR,), 0.5)
        draws[: len(names)] = torch.tensor([uniform(self.seed, "time", name, step) for name in names])
        times = timestep_of_uniform(draws, transport.law, transport.location, transport.scale)[: len(names)]
        shift = shift_by_law(transport.shift, transport.shift_law, lengths, transport.base_tokens)
        return self.flow.on_path(shift_time(times, shift))

    def _condition(self, samples: list[Sample], step: int) -> Tensor:
        """The first latent frame of each clip, repeated over its frames (paper section 2.5); zeros for pictures.

        A share of the clips gets zeros too: the null picture, from which guidance by image pushes away.
        """
        parts = []
        for sample in samples:
            frames = int(self.reader.index["latent_shape"][sample.row][1])
            first = sample.tokens[: len(sample.tokens) // frames]
            dropped = uniform(self.seed, "image dropout", sample.id, step) < self.request.image_dropout
            given = self.is_clip[sample.row] and not dropped
            parts.append(first.repeat(frames, 1) if given else torch.zeros_like(sample.tokens))
        return torch.cat(parts)


def cost_of(request: TrainRequest) -> Cost:
    """(a, b) of a sample's cost a*n + b*n^2: as measured, else by the FLOP of the network."""
    if request.cost is not None:
        return request.cost.linear, request.cost.quadratic
    size = request.model if request.model.name == "custom" else CONFIGS[request.model.name]
    return flop_cost(size.width, size.ffn)


def _bounds(lengths: Tensor) -> Tensor:
    return torch.cat((lengths.new_zeros(1), lengths)).cumsum(0).to(torch.int32)

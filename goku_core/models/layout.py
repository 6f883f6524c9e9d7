"""Where the samples of a pack lie: the bookkeeping between per-sample and per-token values.

Shapes: N tokens of a pack, S samples in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Run:
    """Neighbouring samples of equal length: they form a dense (samples, length) block without padding."""

    first_sample: int
    samples: int
    first_token: int
    length: int

    @property
    def tokens(self) -> slice:
        return slice(self.first_token, self.first_token + self.samples * self.length)

    @property
    def members(self) -> slice:
        return slice(self.first_sample, self.first_sample + self.samples)


class Layout:
    """Layout of a pack given by ``cu_seqlens`` (S+1,) int32: sample s owns tokens cu_seqlens[s] to cu_seqlens[s+1]."""

    def __init__(self, cu_seqlens: Tensor) -> None:
        if cu_seqlens.ndim != 1 or cu_seqlens.numel() < 2:
            raise ValueError(f"cu_seqlens must have shape (S+1,) with S >= 1, got {tuple(cu_seqlens.shape)}")
        self.cu_seqlens = cu_seqlens

    @cached_property
    def lengths(self) -> list[int]:
        return self.cu_seqlens.diff().tolist()

    @cached_property
    def runs(self) -> list[Run]:
        runs: list[Run] = []
        token = 0
        for sample, length in enumerate(self.lengths):
            if runs and runs[-1].length == length:
                last = runs[-1]
                runs[-1] = Run(last.first_sample, last.samples + 1, last.first_token, length)
            else:
                runs.append(Run(sample, 1, token, length))
            token += length
        return runs

    @cached_property
    def sample_of_token(self) -> Tensor:
        """(N,) int64: which sample each token belongs to."""
        samples = torch.arange(self.cu_seqlens.numel() - 1, device=self.cu_seqlens.device)
        return torch.repeat_interleave(samples, self.cu_seqlens.diff().long())

    @cached_property
    def longest(self) -> Tensor:
        """An empty tensor whose first size is the length of the longest sample (see `attention.Scope`)."""
        return torch.empty(int(self.cu_seqlens.diff().max()), 0, device="meta")

    def leave_sizes_open(self) -> None:
        """Tells the compiler that the number of samples and their lengths change from pack to pack."""
        torch._dynamo.maybe_mark_dynamic(self.cu_seqlens, 0)
        torch._dynamo.maybe_mark_dynamic(self.sample_of_token, 0)
        if "longest" in self.__dict__:
            torch._dynamo.maybe_mark_dynamic(self.longest, 0)

    def spread(self, values: Tensor) -> Tensor:
        """Per-sample values (S, D) to per-token values (N, D).

        By index, which the compiler folds into the arithmetic that reads it, so that no copy per token is ever made. On a CPU
        and not compiled, whole runs are broadcast: the backward pass is then a sum over a dense axis, not a scattered add.
        """
        if values.device.type != "cpu" or torch.compiler.is_compiling():
            return values[self.sample_of_token]
        parts = [
            values[run.members, None].expand(run.samples, run.length, values.shape[-1]).flatten(0, 1)
            for run in self.runs
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

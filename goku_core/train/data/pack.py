"""A pack: the samples that one group of ranks takes through the network at once."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pack:
    """S samples in N tokens.

    weight  (N,) of a token in the loss: 1 / tokens of its sample / samples of the whole step, so that the loss of a step, its
            mean over samples, is the plain sum over packs and ranks
    counts  (pictures, clips)
    ids     of the samples, as they were read: substitutes of unreadable ones by their own
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
    ids: tuple[str, ...] = ()

    def pinned(self) -> Pack:
        """The same in page-locked memory, from which copies to a GPU run beside its work. Needs CUDA."""
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if isinstance(getattr(self, f.name), Tensor)}
        return replace(self, **{name: tensor.pin_memory() for name, tensor in tensors.items()})


def weightless(token_width: int, null_text: Tensor, image_condition: bool) -> Pack:
    """One token without weight: what a group computes in a round for which it has no samples, so that it takes part in
    what the ranks exchange. Its gradient is zero."""
    nothing = torch.zeros(1, token_width)
    return Pack(
        noised=nothing,
        data=nothing,
        noise=nothing,
        coords=torch.zeros(1, 3, dtype=torch.int64),
        cu_seqlens=torch.tensor([0, 1], dtype=torch.int32),
        time=torch.full((1,), 0.5),
        text=null_text,
        text_cu_seqlens=torch.tensor([0, len(null_text)], dtype=torch.int32),
        condition=nothing if image_condition else None,
        weight=torch.zeros(1),
        counts=(0, 0),
    )

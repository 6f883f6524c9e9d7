"""Packs, networks and their gradients, on one process and with the tokens of a pack on several ranks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import ranks
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor

from goku_core.models import Goku, GokuConfig
from goku_core.models.attention import SequenceParallel
from goku_core.models.patches import grid_coords
from goku_core.train.data import Pack
from goku_core.train.parallel.slices import sliced

PICTURES_AND_CLIPS = [(1, 2, 4), (3, 2, 2), (1, 3, 3), (5, 2, 2), (1, 2, 3)]  # 55 tokens
WORDS = [3, 1, 5, 2, 7]


@dataclass(frozen=True)
class Case:
    """heads over ranks; grids of the pack's samples"""

    heads: int
    ranks: int
    grids: tuple[tuple[int, int, int], ...] = tuple(PICTURES_AND_CLIPS)
    recomputation: str = "none"


CASES = {
    "28 heads on 8": Case(28, 8),
    "28 heads on 8, selective": Case(28, 8, recomputation="selective"),
    "28 heads on 8, full": Case(28, 8, recomputation="full"),
    "4 heads on 3": Case(4, 3),
    "4 heads on 3, selective": Case(4, 3, recomputation="selective"),
    "4 heads on 3, full": Case(4, 3, recomputation="full"),
    "2 heads on 8: six ranks have none": Case(2, 8),
    "5 tokens on 8: three ranks have none": Case(3, 8, ((1, 1, 2), (1, 1, 3))),
    "one sample": Case(3, 2, ((3, 3, 3),)),
}


def network(case: Case) -> Goku:
    """Every weight random: at the zero gates of a fresh network most mistakes would be multiplied by nothing."""
    config = GokuConfig(
        depth=2, width=8 * case.heads, heads=case.heads, ffn=48, latent_channels=2, text_width=8, image_condition=True
    )
    generator = torch.Generator().manual_seed(case.heads)
    model = Goku(config, recomputation=case.recomputation).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def pack(case: Case) -> Pack:
    generator = torch.Generator().manual_seed(7)

    def draws(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def bounds(lengths: list[int]) -> Tensor:
        return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)

    coords = torch.cat([grid_coords(grid) for grid in case.grids])
    words = WORDS[: len(case.grids)]
    return Pack(
        noised=draws(len(coords), 8),
        data=draws(len(coords), 8),
        noise=draws(len(coords), 8),
        coords=coords,
        cu_seqlens=bounds([t * h * w for t, h, w in case.grids]),
        time=draws(len(case.grids)).sigmoid(),
        text=draws(sum(words), 8),
        text_cu_seqlens=bounds(words),
        condition=draws(len(coords), 8),
        weight=draws(len(coords)).exp(),
        counts=(0, 0),
    )


def results(model: Goku, own: Pack, spread: SequenceParallel | None = None) -> dict[str, Tensor]:
    """The velocity of these tokens, and the gradient of the weighted loss of these tokens by every parameter and by the input."""
    noised = own.noised.clone().requires_grad_()
    velocity = model(
        noised, own.coords, own.cu_seqlens, own.time, own.text, own.text_cu_seqlens, own.condition, spread=spread
    )
    loss = ((velocity - own.data + own.noise).square().mean(-1) * own.weight).sum()
    loss.backward()
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}
    return {"velocity": velocity.detach(), "loss": loss.detach(), "by input": noised.grad} | gradients


def on_each_rank(rank: int, world: int, folder: Path) -> None:
    """Every case on its ranks; each rank saves what it has."""
    ranks.join(rank, world, folder / "store")
    for number, case in enumerate(CASES.values()):
        group = dist.new_group(list(range(case.ranks)))
        if rank < case.ranks:
            whole = pack(case)
            spread = SequenceParallel(group, whole.cu_seqlens)
            found = results(network(case), sliced(whole, spread), spread)
            save_file(
                {key: value.contiguous() for key, value in found.items()}, folder / f"{number}-{rank}.safetensors"
            )
        dist.barrier()
    dist.destroy_process_group()

"""Do the ranks reach each other, and is what arrives what was sent?"""

from __future__ import annotations

import time

import torch
import torch.distributed as dist

from goku_core.train.health.errors import NodeBad

BANDWIDTH_BYTES = 8 << 20


def check_collectives(device: torch.device | str = "cpu") -> float:
    """Sums, gathers, broadcasts and exchanges small integers among all ranks, whose results are known.

    Returns the bandwidth of an all-reduce, bytes/s by the usual count (2 (n - 1) / n of the size over the time); infinite for one
    rank.
    Raises `NodeBad` naming this rank where anything differs. All ranks call it.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return float("inf")
    rank, world = dist.get_rank(), dist.get_world_size()
    own = torch.full((world,), float(rank), device=device)
    summed = own.clone()
    dist.all_reduce(summed)
    _expect(summed, torch.full_like(own, world * (world - 1) / 2), "all-reduce", rank)
    gathered = torch.empty(world * world, device=device)
    dist.all_gather_into_tensor(gathered, own)
    _expect(gathered, torch.arange(world, device=device).repeat_interleave(world).float(), "all-gather", rank)
    first = own.clone()
    dist.broadcast(first, src=world - 1)
    _expect(first, torch.full_like(own, world - 1.0), "broadcast", rank)
    exchanged = torch.empty(world, device=device)
    dist.all_to_all_single(exchanged, torch.arange(world, device=device) * 1000.0 + rank)
    _expect(exchanged, torch.arange(world, device=device) + rank * 1000.0, "all-to-all", rank)
    return _bandwidth(device, world, rank)


def _bandwidth(device: torch.device | str, world: int, rank: int) -> float:
    # Integers: a sum of them is exact however the ranks' parts are added.
    block = torch.arange(BANDWIDTH_BYTES // 4, device=device).remainder(127).float()
    seconds = []
    for _ in range(3):
        summed = block.clone()
        dist.barrier()
        started = time.monotonic()
        dist.all_reduce(summed)
        last = summed[-1].item()  # waits for a GPU
        seconds.append(time.monotonic() - started)
        if last != block[-1].item() * world or not torch.equal(summed, block * world):
            raise NodeBad(f"rank {rank}: an all-reduce of {BANDWIDTH_BYTES >> 20} MiB gave a wrong sum")
    return 2 * (world - 1) / world * BANDWIDTH_BYTES / min(seconds)


def _expect(found: torch.Tensor, wanted: torch.Tensor, what: str, rank: int) -> None:
    if not torch.equal(found, wanted):
        raise NodeBad(f"rank {rank}: {what} gave {found.tolist()[:8]} instead of {wanted.tolist()[:8]}")

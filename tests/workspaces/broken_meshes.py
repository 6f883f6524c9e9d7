"""Two ranks that do not work together, each in another way; what is said about it."""

from __future__ import annotations

import copy
import json
import resource
from collections.abc import Callable
from pathlib import Path

import ranks
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule

from goku_core.models import Goku, GokuConfig
from goku_core.pipeline.errors import GokuError
from goku_core.train.optimizers import make_optimizers
from goku_core.train.parallel.mesh import Mesh, joined
from goku_core.train.parallel.prepare import hollow, prepare
from goku_core.train.parallel.request import Parallel
from goku_core.train.parallel.verify import described, verify
from goku_core.train.request import Phase, TrainRequest

CONFIG = GokuConfig(depth=2, width=32, heads=2, ffn=64, latent_channels=2, text_width=8)
COPIES = Parallel(ranks_per_node=2, shard=1, device="cpu")
SHARDS = Parallel(ranks_per_node=2, device="cpu")


def prepared(parallel: Parallel, seed: int = 0) -> tuple[Goku, Mesh]:
    torch.manual_seed(seed)
    model, mesh = Goku(CONFIG), joined(parallel)
    prepare(model, copy.deepcopy(model), mesh, parallel)
    return model, mesh


def healthy(rank: int) -> str:
    for parallel in (COPIES, SHARDS):
        verify(*prepared(parallel))
    return "healthy"


def never_sharded(rank: int) -> str:
    """What a shard size of 1 once did: nothing is wrapped, and each rank trains a network of its own."""
    torch.manual_seed(0)
    verify(Goku(CONFIG), joined(COPIES))
    return "not noticed"


def one_block_forgotten(rank: int) -> str:
    model, mesh = prepared(SHARDS)
    model.blocks[1] = Goku(CONFIG).blocks[1]
    verify(model, mesh)
    return "not noticed"


def drifted(rank: int) -> str:
    model, mesh = prepared(COPIES)
    with torch.no_grad():
        model.final.bias.to_local().add_(1e-7 * rank)
    verify(model, mesh)
    return "not noticed"


def other_seeds(rank: int) -> str:
    prepared(SHARDS, seed=rank)
    return "not noticed"


def other_mesh(rank: int) -> str:
    model, _ = prepared(SHARDS)
    verify(model, joined(COPIES))
    return "not noticed"


def gradients_meet(rank: int) -> str:
    """Of one copy per rank, where a wrong wiring leaves each rank with its own gradient."""
    model, _ = prepared(COPIES)
    tokens = torch.full((4, CONFIG.token_width), 1.0 + rank)
    coords, bounds = torch.zeros(4, 3, dtype=torch.int64), torch.tensor([0, 4], dtype=torch.int32)
    out = model(tokens, coords, bounds, torch.tensor([0.5]), torch.ones(1, 8), torch.tensor([0, 1], dtype=torch.int32))
    ((out - tokens) ** 2).sum().backward()
    own = model.final.bias.grad.to_local()
    everyone = [torch.empty_like(own) for _ in range(2)]
    dist.all_gather(everyone, own.contiguous())
    # The network's output is 0, so the gradient is -2 * 4 tokens * (1 + rank), and the sum of both ranks -24.
    return "met" if all((one + 24).abs().max() < 1e-5 for one in everyone) else f"apart: {everyone}"


def memory_is_said(rank: int) -> str:
    said = []
    for parallel in (SHARDS, COPIES):
        model, mesh = prepared(parallel)
        request = TrainRequest(phases={"one": Phase(init_from="vae", resolution="low", steps=1)}, parallel=parallel)
        said.append(described(model, make_optimizers(model, request), mesh, parallel))
        assert isinstance(model, FSDPModule)
    return "\n".join(said)


def weights_of_the_first(rank: int) -> str:
    """One rank has weights, the other a network without any; each ends with its part of the first one's."""
    torch.manual_seed(7)
    whole, average = Goku(CONFIG).state_dict(), Goku(CONFIG).state_dict()
    for parallel in (SHARDS, COPIES):
        for given in (average, None):
            mesh, networks = joined(parallel), [hollow(CONFIG), hollow(CONFIG)]
            if rank == 0:
                networks[0] = filled(whole)
                networks[1] = networks[1] if given is None else filled(given)
            prepare(*networks, mesh, parallel, from_first=True)
            verify(networks[0], mesh)
            for network, wanted in zip(networks, (whole, given or whole), strict=True):
                parts = network.state_dict()
                assert all(torch.equal(parts[name].full_tensor(), value) for name, value in wanted.items())
    return "equal"


def filled(weights: dict[str, torch.Tensor]) -> Goku:
    network = Goku(CONFIG)
    network.load_state_dict(weights)
    return network


def memory_of_the_second(rank: int) -> str:
    """Peak of this process while it gets its halves of a network of 100 MB and of its average, in MB."""
    config = GokuConfig(depth=6, width=448, heads=7, ffn=1792, latent_channels=2, text_width=8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    first, mesh = Goku(config) if rank == 0 else hollow(config), joined(SHARDS)
    size = sum(p.numel() * p.element_size() for p in first.parameters()) / 1e6
    prepare(first, hollow(config), mesh, SHARDS, from_first=True)
    return f"{(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6:.0f} of {size:.0f}"


CASES: tuple[Callable[[int], str], ...] = (
    healthy,
    never_sharded,
    one_block_forgotten,
    drifted,
    other_seeds,
    other_mesh,
    gradients_meet,
    memory_is_said,
    weights_of_the_first,
    memory_of_the_second,
)


def on_each_rank(rank: int, world: int, folder: Path) -> None:
    ranks.join(rank, world, folder / "store")
    said = {}
    for case in CASES:
        try:
            said[case.__name__] = case(rank)
        except GokuError as error:
            said[case.__name__] = f"GokuError: {error}"
        dist.barrier()
    (folder / f"said-{rank}.json").write_text(json.dumps(said))
    dist.destroy_process_group()

"""The mesh: who shares weights, who shares packs, and what this rank is in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.placement_types import Placement

from goku_core.models.attention import SequenceParallel
from goku_core.pipeline.errors import GokuError
from goku_core.train.data import Pack
from goku_core.train.parallel.request import Parallel, Sizes
from goku_core.train.parallel.slices import moved, sliced

COMPUTE = {"float32": None, "bfloat16": torch.bfloat16, "float64": torch.float64}


@dataclass(frozen=True)
class Mesh:
    """Ranks r = (replica * shard + part) * sequence + place: sequence ranks are neighbours.

    weights   replicas x the ranks that share one copy of the weights; None for one process that holds them plainly
    compute   type of the network's arithmetic where it is not that of the weights
    """

    sizes: Sizes
    rank: int
    device: torch.device
    weights: DeviceMesh | None = None
    sequence: dist.ProcessGroup | None = None
    compute: torch.dtype | None = None

    @property
    def world(self) -> int:
        return self.sizes.replicate * self.sizes.shard * self.sizes.sequence

    @property
    def groups(self) -> int:
        """How many packs are computed at a time."""
        return self.sizes.replicate * self.sizes.shard

    @property
    def group(self) -> int:
        """Which of them this rank works on."""
        return self.rank // self.sizes.sequence

    @property
    def is_first_of_group(self) -> bool:
        return self.rank % self.sizes.sequence == 0

    @property
    def placements(self) -> tuple[Placement, ...]:
        """How a weight lies on `weights`."""
        return (Shard(0),) if self.sizes.replicate == 1 else (Replicate(), Shard(0))

    @property
    def sharers(self) -> dist.ProcessGroup:
        """The ranks that share one copy of the weights with this one."""
        return self.weights.get_group(self.weights.ndim - 1)

    def total(self, values: Tensor) -> Tensor:
        """The sum over all ranks, on each of them."""
        if self.world > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values

    def own(self, pack: Pack) -> tuple[Pack, SequenceParallel | None]:
        """What of a group's pack this rank computes, on its device."""
        pack = moved(pack, self.device)
        if self.sequence is None:
            return pack, None
        spread = SequenceParallel(self.sequence, pack.cu_seqlens)
        return sliced(pack, spread), spread


def alone(parallel: Parallel) -> Mesh:
    """This process is all there is. Half precision makes it a mesh of one, so that it keeps float32 weights as any mesh does."""
    return _mesh(parallel, rank=0)


def joined(parallel: Parallel) -> Mesh:
    """This rank's place among all that have joined `torch.distributed`. Raises `GokuError` where they are too many or too few."""
    if dist.get_world_size() != parallel.world:
        raise GokuError(
            f"{dist.get_world_size()} ranks have come, train.parallel says {parallel.nodes} x {parallel.ranks_per_node}"
        )
    return _mesh(parallel, dist.get_rank())


def device_of(parallel: Parallel, local_rank: int = 0) -> torch.device:
    """Raises `GokuError` where the GPU asked for is not there."""
    found = torch.cuda.device_count()
    if parallel.device == "cpu" or (parallel.device == "auto" and not found):
        return torch.device("cpu")
    if parallel.ranks_per_node > found:
        raise GokuError(
            f"train.parallel asks for {parallel.ranks_per_node} GPUs on this machine and PyTorch finds {found}. "
            "Lower ranks_per_node, or set device: cpu."
        )
    return torch.device("cuda", local_rank)


def _mesh(parallel: Parallel, rank: int) -> Mesh:
    sizes, device = parallel.sizes(), device_of(parallel, rank % parallel.ranks_per_node)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    compute = COMPUTE[parallel.precision]
    if parallel.world == 1 and parallel.precision != "bfloat16":
        return Mesh(sizes, rank, device, compute=compute)
    if not dist.is_initialized():
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    sharers = sizes.shard * sizes.sequence
    shape, names = (
        ((sizes.replicate, sharers), ("replicate", "shard")) if sizes.replicate > 1 else ((sharers,), ("shard",))
    )
    weights = init_device_mesh(device.type, shape, mesh_dim_names=names)
    sequence = None
    if sizes.sequence > 1:
        shape = (sizes.replicate * sizes.shard, sizes.sequence)
        sequence = init_device_mesh(device.type, shape, mesh_dim_names=("group", "sequence")).get_group("sequence")
    return Mesh(sizes, rank, device, weights, sequence, compute)

"""Weights in shards: FSDP2, one unit per block and one for the rest.

    after_step   a rank gathers the weights once per step and keeps them; gradients gather up locally over its packs and meet
                 once, in the backward pass of the last one. Groups may have different numbers of packs.
    after_block  weights are gathered for each block and let go behind it; gradients meet in every pack. All groups run the
                 same number of packs, as each pack is a set of collectives.

Gradients are plain sums over all ranks: the loss of a token is already divided by the samples of the whole step. One process
in float32 is left as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from goku_core.models import Goku, GokuConfig
from goku_core.pipeline.errors import GokuError
from goku_core.train.parallel.mesh import Mesh
from goku_core.train.parallel.request import Parallel


def hollow(config: GokuConfig) -> Goku:
    """A network without weights, which takes no memory: `prepare` brings each rank its part of rank 0's."""
    with torch.device("meta"):
        return Goku(config)


def prepare(model: Goku, ema: Goku, mesh: Mesh, parallel: Parallel, from_first: bool = False) -> None:
    """Makes both networks what the mesh wants, in place; optimizers come after it.

    from_first  weights are those of rank 0, and other ranks bring `hollow` networks: of an 8b network and its average in
                float32 each rank of a node would otherwise hold 64 GB for a moment. A hollow average is the model.

    Raises `GokuError` where ranks come with different weights: each would keep its part of another network; and where
    compilation and recomputation do not go together.
    """
    if parallel.compile and parallel.recomputation == "selective" and mesh.device.type == "cpu":
        raise GokuError(
            "train.parallel: compile with recomputation: selective does not run on a CPU, where PyTorch's compiler overwrites what "
            "is to be kept. Set recomputation to none or full, or compile to false."
        )
    model.recomputation = parallel.recomputation
    if parallel.precision == "float64":
        model.double(), ema.double()
    if mesh.weights is None:
        model.to(mesh.device), ema.to(mesh.device)
    else:
        whole: dict[str, Tensor] = {}
        for what, network in (("weights", model), ("averaged weights", ema)):
            if not from_first:
                _same_on_all_ranks(what, network, mesh)
            elif mesh.rank == 0 and not _is_hollow(network):
                whole = {name: value.detach() for name, value in network.state_dict().items()}
            _shard(network, mesh, parallel)
            if from_first:
                _fill_from_first(network, whole, mesh)
    if parallel.compile:
        model.compile_blocks()


def _shard(network: Goku, mesh: Mesh, parallel: Parallel) -> None:
    half = mesh.compute == torch.bfloat16
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if half else None,
        reduce_dtype=torch.float32 if half else None,
        cast_forward_inputs=False,  # times stay float32: bfloat16 has 8 bits for them
    )
    again = parallel.reshard == "after_block"
    for module in (*network.blocks, network):
        fully_shard(module, mesh=mesh.weights, reshard_after_forward=again, mp_policy=policy)
        module.set_gradient_divide_factor(1.0)
        # A factor of 1 would otherwise be asked of the network as a scaled sum, which only NCCL knows.
        module.set_force_sum_reduction_for_comms(True)
    # A rank that has no token for a layer sends zeros; without them ranks would exchange gradients of different weights.
    network.set_reduce_scatter_unused_params(True)


def _is_hollow(network: nn.Module) -> bool:
    return any(parameter.is_meta for parameter in network.parameters())


@torch.no_grad()
def _fill_from_first(network: Goku, whole: Mapping[str, Tensor], mesh: Mesh) -> None:
    """Every rank's part of the weights that rank 0 has `whole`, one tensor after another."""
    if _is_hollow(network):
        network.to_empty(device=mesh.device)
    for name, value in network.state_dict().items():
        if mesh.rank == 0:
            found = whole[name].to(mesh.device).contiguous()
        else:
            found = torch.empty(value.shape, dtype=value.dtype, device=mesh.device)
        dist.broadcast(found, src=0)
        local(value).copy_(distribute_tensor(found, mesh.weights, mesh.placements, src_data_rank=None).to_local())


def meet(model: nn.Module, parallel: Parallel, last: bool) -> None:
    """Says before a pack's forward pass which collectives it takes part in; `last`: of this rank's packs in this step."""
    if not isinstance(model, FSDPModule):
        return
    model.set_is_last_backward(last)
    if parallel.reshard == "after_step":
        model.set_requires_gradient_sync(last)
        model.set_reshard_after_backward(last)
    else:
        model.set_requires_all_reduce(last)


def let_go(network: nn.Module) -> None:
    """Back to shards after a forward pass without a backward pass (validation): what is gathered is no weight to train."""
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that lies on this rank; all of a plain one. Shares memory with it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def locals_of(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Parts on this rank, those that are empty left out."""
    return [part for part in map(local, tensors) if part.numel()]


@torch.no_grad()
def collected(network: nn.Module) -> dict[str, Tensor]:
    """Whole weights on the CPU of rank 0, one after another; elsewhere empty. All ranks call it."""
    first = not dist.is_initialized() or dist.get_rank() == 0
    found: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        if first:
            found[name] = whole.detach().cpu().contiguous()
    return found


def bytes_per_rank(
    model: nn.Module, optimizers: Mapping[str, torch.optim.Optimizer], mesh: Mesh, parallel: Parallel
) -> int:
    """Of weights, average, optimizer state, gradients, and the weights gathered from other ranks; without activations."""
    held = sum(local(p).numel() * p.element_size() for p in model.parameters())
    moments = sum(
        local(p).numel() * p.element_size() * (1 if name == "muon" else 2)
        for name, optimizer in optimizers.items()
        for group in optimizer.param_groups
        for p in group["params"]
    )
    gradients = held
    gathered = 0
    if mesh.weights is not None:
        whole = sum(p.numel() * p.element_size() for p in model.parameters())
        if parallel.reshard == "after_step":
            gradients, gathered = whole, whole // (2 if mesh.compute == torch.bfloat16 else 1)
    return 2 * held + moments + gradients + gathered


def _same_on_all_ranks(what: str, network: nn.Module, mesh: Mesh) -> None:
    digests = gathered_digests(network.parameters(), mesh)
    other = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
    if other:
        raise GokuError(
            f"ranks {', '.join(map(str, other[:8]))} start from other {what} than rank 0. They must have the same seed, the "
            "same code and the same files of the phase before."
        )


def gathered_digests(tensors: Iterable[Tensor], mesh: Mesh) -> list[bytes]:
    """SHA-256 over the parts that each rank holds, by rank."""
    digest = hashlib.sha256()
    for tensor in tensors:
        part = local(tensor.detach()).contiguous().cpu()
        digest.update(part.flatten().view(torch.uint8).numpy())
    own = torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8).to(mesh.device)
    if mesh.world == 1:
        return [digest.digest()]
    everyone = [torch.empty_like(own) for _ in range(mesh.world)]
    dist.all_gather(everyone, own)
    return [bytes(one.cpu().tolist()) for one in everyone]

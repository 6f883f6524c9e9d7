"""Is the network spread over ranks as the parameters say? Wrong wiring trains several networks, or none, and no loss shows it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from goku_core.models import Goku
from goku_core.models.attention.ulysses import shares
from goku_core.models.recomputation import Tally, check_kept
from goku_core.pipeline.errors import GokuError
from goku_core.train.parallel.mesh import Mesh
from goku_core.train.parallel.prepare import bytes_per_rank, gathered_digests, local
from goku_core.train.parallel.request import Parallel


def verify(model: Goku, mesh: Mesh) -> None:
    """Raises `GokuError` unless every weight is sharded over the ranks that share a copy, and copies are equal to the bit.

    Before the first step equal copies say little, as all ranks start from the same ones: the loop asks again after it.
    """
    if mesh.weights is None:
        if mesh.world > 1 or any(isinstance(p, DTensor) for p in model.parameters()):
            raise GokuError("the network is sharded and this process has no mesh: prepare it before training")
        return
    for name, parameter in model.named_parameters():
        if wrong := _what_is_wrong(parameter, mesh):
            raise GokuError(f"{name} {wrong}: its gradients would not meet those of other ranks")
    units = [name for name, module in [("the network", model), *_blocks(model)] if not isinstance(module, FSDPModule)]
    if units:
        raise GokuError(f"{', '.join(units[:4])}: no hook gathers weights and gradients there")
    if mesh.sizes.replicate > 1:
        _copies_are_equal(model, mesh)


def _blocks(model: Goku) -> list[tuple[str, nn.Module]]:
    return [(f"block {number}", block) for number, block in enumerate(model.blocks)]


def _what_is_wrong(parameter: nn.Parameter, mesh: Mesh) -> str:
    if not isinstance(parameter, DTensor):
        return "is held plainly by each rank"
    if parameter.device_mesh != mesh.weights or tuple(parameter.placements) != mesh.placements:
        return f"lies as {parameter.placements} on {parameter.device_mesh}, not as {mesh.placements} on {mesh.weights}"
    sharers = mesh.weights.size(mesh.weights.ndim - 1)
    most = -(-parameter.shape[0] // sharers)
    if local(parameter).shape[0] > most:
        return f"has {local(parameter).shape[0]} of its {parameter.shape[0]} rows here, {most} at most are due"
    return ""


def _copies_are_equal(model: Goku, mesh: Mesh) -> None:
    digests = gathered_digests(model.parameters(), mesh)
    sharers = mesh.weights.size(1)
    apart = [rank for rank, digest in enumerate(digests) if digest != digests[rank % sharers]]
    if apart:
        raise GokuError(
            f"the copies of the weights have drifted apart: ranks {', '.join(map(str, apart[:8]))} differ from the first copy. "
            "Train on from a checkpoint; with ranks that compute alike this is faulty memory or a faulty network card."
        )


def verify_recomputation(model: Goku, mesh: Mesh, tally: Tally) -> None:
    """After the first step: was kept what `recomputation: selective` says? Raises `GokuError` where not."""
    if model.recomputation == "selective":
        try:
            heads = shares(model.config.heads, mesh.sizes.sequence)[mesh.rank % mesh.sizes.sequence]
            check_kept(tally, len(model.blocks), bool(model.config.text_width), heads > 0)
        except RuntimeError as error:
            raise GokuError(f"{error}. Set train.parallel.recomputation to full or none.") from error


def described(model: Goku, optimizers: Mapping[str, torch.optim.Optimizer], mesh: Mesh, parallel: Parallel) -> str:
    """One line that says what the mesh is and what it costs: a default that copies instead of sharding must not go unseen."""
    replicate, shard, sequence = mesh.sizes
    own = bytes_per_rank(model, optimizers, mesh, parallel) / 1e9
    whole = sum(p.numel() for p in model.parameters())
    copies = f"{replicate} copies of the weights" if replicate > 1 else "one copy of the weights"
    return (
        f"{mesh.world} ranks: {copies}, each over {shard * sequence}, {sequence} on a pack; {whole:,} parameters, "
        f"{own:.3g} GB per rank besides activations ({parallel.reshard.replace('_', ' ')})"
    )

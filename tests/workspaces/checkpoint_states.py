"""Small training states with every kind of tensor that a checkpoint meets, whole or sharded; and their digests."""

from __future__ import annotations

import copy
import hashlib

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from goku_core.train.checkpoint import State


class Block(nn.Module):
    """Rows that no number of ranks divides (13, 5), fewer rows than ranks (3), a single value."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Linear(11, 13)
        self.narrow = nn.Linear(13, 5, bias=False)
        self.gate = nn.Parameter(torch.randn(3, 2, 2))
        self.register_buffer("seen", torch.randn(()))


class Network(nn.Module):
    def __init__(self, depth: int = 2, width: int = 48) -> None:
        super().__init__()
        self.embed = nn.Linear(width, width)
        self.blocks = nn.ModuleList(Block() for _ in range(depth))
        self.register_buffer("rounded", torch.randn(7, 4).bfloat16())


def make_state(seed: int, mesh: DeviceMesh | None = None, steps: int = 1, **shape: int) -> State:
    """A network with its average and optimizers that have made `steps` steps; sharded where a mesh is given."""
    torch.manual_seed(seed)
    model = Network(**shape)
    ema = copy.deepcopy(model)
    with torch.no_grad():
        for average in ema.parameters():
            average.add_(torch.randn(()))
    gradients = [[torch.randn_like(p) for p in model.parameters()] for _ in range(steps)]
    if mesh is not None:
        for network in (model, ema):
            for block in network.blocks:
                fully_shard(block, mesh=mesh)
            fully_shard(network, mesh=mesh)
    state = State(model, ema.requires_grad_(False), optimizers(model))
    for step in gradients:
        for parameter, gradient in zip(model.parameters(), step, strict=True):
            parameter.grad = _as(parameter, gradient)
        for optimizer in state.optimizers.values():
            optimizer.step()
            optimizer.zero_grad()
    return state


def optimizers(model: nn.Module) -> dict[str, torch.optim.Optimizer]:
    """AdamW, and one that keeps Muon's single moment (Muon itself multiplies whole matrices, which here is beside the point)."""
    matrices = [p for name, p in model.named_parameters() if name.endswith("weight")]
    rest = [p for name, p in model.named_parameters() if not name.endswith("weight")]
    return {
        "adamw": torch.optim.AdamW(rest, lr=1e-2, fused=False),
        "muon": torch.optim.SGD(matrices, lr=1e-2, momentum=0.9),
    }


def digests(tensors: dict[str, Tensor]) -> dict[str, str]:
    """SHA-256 of the bytes of every whole tensor, by name."""
    whole = {name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in tensors.items()}
    return {name: _digest(tensor) for name, tensor in sorted(whole.items())}


def everything(state: State) -> dict[str, Tensor]:
    """All tensors of a state, read off the modules and optimizers themselves."""
    found = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    found |= {f"ema.{name}": value for name, value in state.ema.state_dict().items()}
    for kind, optimizer in state.optimizers.items():
        for name, parameter in state.model.named_parameters():
            for key, value in optimizer.state.get(parameter, {}).items():
                found[f"{kind}.{name}.{key}"] = value
    return {name: value.detach() for name, value in found.items()}


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()


def _as(parameter: Tensor, whole: Tensor) -> Tensor:
    if isinstance(parameter, DTensor):
        return distribute_tensor(whole, parameter.device_mesh, parameter.placements)
    return whole

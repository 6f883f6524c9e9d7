"""Loading a published file of tensors into a network written for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from goku_core.pipeline.errors import GokuError
from goku_core.scorers.sources import Source

Network = TypeVar("Network", bound=nn.Module)
COUNTER = "num_batches_tracked"
"""A counter of training that files written before PyTorch 0.4.1 lack; nothing is computed from it."""


def filled(network: Network, tensors: Mapping[str, torch.Tensor], path: Path, source: Source) -> Network:
    """The network with these tensors, for inference. Raises GokuError naming the first tensor that is missing, left over or
    of another shape."""
    wanted = network.state_dict()
    given = {name: tensors.get(name, value) for name, value in wanted.items() if name.endswith(COUNTER)}
    given.update(tensors)
    wrong = [f"{name} is missing" for name in wanted if name not in given]
    wrong += [f"{name} is not part of the network" for name in given if name not in wanted]
    wrong += [
        f"{name} has the shape {tuple(given[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in given and given[name].shape != value.shape
    ]
    if wrong:
        raise GokuError(f"{path} is not {source.name}: {wrong[0]} ({len(wrong)} differences). Get it: {source.get}")
    network.load_state_dict(given, strict=True)
    return network.eval().requires_grad_(False)

"""Files of tensors as they are published: read without unpickling anything else, and put into a network written for them."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from goku_core.pipeline.errors import GokuError
from goku_core.scorers.sources import Source

if TYPE_CHECKING:
    from torch import Tensor, nn

    Network = TypeVar("Network", bound=nn.Module)

# A counter of training that files written before PyTorch 0.4.1 lack; nothing is computed from it.
COUNTER = "num_batches_tracked"


def twin(source: Source, weights: Path) -> Source:
    """The source at its .safetensors twin where there is one: what somebody made of a file that holds more than tensors."""
    other = Path(source.place).with_suffix(".safetensors")
    return replace(source, place=str(other)) if (weights / other).is_file() else source


def read_tensors(path: Path, within: Sequence[str] = ()) -> dict[str, Tensor]:
    """Named tensors of a .safetensors or .pth file, on the CPU.

    within  keys of which one may hold the tensors, as in {"state_dict": {...}, "epoch": 300}; the first that is there
    Nothing is unpickled but tensors, plain values and numpy's numbers. Raises GokuError.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_numbers()):
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise GokuError(
            f"{path} cannot be read as a file of tensors: {reason}. Download it again; if it holds more than tensors, "
            "write its tensors to a .safetensors file beside it where you trust it. See docs/weights.md"
        ) from error
    for key in within:
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
            break
    if not isinstance(found, dict) or not found or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise GokuError(
            f"{path} holds no table of tensors ({', '.join(within) or 'at its top'}), or more than that: "
            "it is not one of the files in docs/weights.md"
        )
    return found


def adopt(
    network: Network, tensors: Mapping[str, Tensor], path: Path, source: Source, may_lack: Collection[str] = ()
) -> Network:
    """The network with these tensors in float32, for inference.

    may_lack  names that a file may leave out: the network's own values stay
    Raises GokuError naming a tensor that is missing, unknown or of another shape.
    """
    wanted = network.state_dict()
    optional = {*may_lack, *(name for name in wanted if name.endswith(COUNTER))}
    wrong = [f"{name} is missing" for name in wanted if name not in tensors and name not in optional]
    wrong += [f"{name} is not part of the network" for name in tensors if name not in wanted]
    wrong += [
        f"{name} has the shape {tuple(tensors[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if wrong:
        raise GokuError(f"{path} is not {source.name}: {wrong[0]} ({len(wrong)} differences). Get it: {source.get}")
    network.load_state_dict({name: tensors.get(name, value).float() for name, value in wanted.items()})
    return network.eval().requires_grad_(False)


def _numbers() -> list[Any]:
    """What a numpy number is pickled as, under today's name and numpy 1's: a best score beside the tensors is harmless."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64, np.int32, np.bool_)]
    return [(scalar, "numpy.core.multiarray.scalar"), scalar, np.dtype, *kinds]

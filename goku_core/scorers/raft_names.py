"""The authors' names of RAFT's tensors (princeton-vl/RAFT, raft-things.pth and its kin) and torchvision's, which `raft` bears."""

from __future__ import annotations

import re

import torch
from torch import Tensor

_ENCODERS = {"fnet": "feature_encoder", "cnet": "context_encoder"}
_ENCODER = (
    (r"conv1\.", "convnormrelu.0."),
    (r"norm1\.", "convnormrelu.1."),
    (r"conv2\.", "conv."),
    (r"(layer\d\.\d)\.conv(\d)\.", r"\1.convnormrelu\2.0."),
    (r"(layer\d\.\d)\.norm([123])\.", r"\1.convnormrelu\2.1."),
    (r"(layer\d\.\d\.downsample\.)", r"\1"),
)
_UPDATE = (
    (r"encoder\.convc(\d)\.", r"update_block.motion_encoder.convcorr\1.0."),
    (r"encoder\.convf(\d)\.", r"update_block.motion_encoder.convflow\1.0."),
    (r"encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"gru\.(conv[zrq])(\d?)\.", r"update_block.recurrent_block.convgru\2.\1."),
    (r"flow_head\.", "update_block.flow_head."),
    (r"mask\.0\.", "mask_predictor.convrelu.0."),
    (r"mask\.2\.", "mask_predictor.conv."),
)


def is_authors(names: list[str]) -> bool:
    return any(name.removeprefix("module.").startswith("fnet.") for name in names)


def torchvisions(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The authors' tensors under torchvision's names. A name that is neither is left as it is, for the loader to refuse.

    The norm beside a shortcut is stored twice there; the copy is left out. Counters of batches, which inference does not
    use, are made up where an old file lacks them.
    """
    named: dict[str, Tensor] = {}
    for name, values in tensors.items():
        room, _, rest = name.removeprefix("module.").partition(".")
        if room in _ENCODERS:
            if _is_copy(rest, tensors, name):
                continue
            named[f"{_ENCODERS[room]}.{_renamed(rest, _ENCODER)}"] = values
        elif room == "update_block":
            renamed = _renamed(rest, _UPDATE)
            named[renamed.replace("convgru.", "convgru1.")] = values  # the small model has one unit and no number
        else:
            named[name] = values
    for name in [name for name in named if name.endswith(".running_mean")]:
        named.setdefault(name.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    return named


def _is_copy(rest: str, tensors: dict[str, Tensor], name: str) -> bool:
    """norm3 of a block of two layers, norm4 of a block of three: the same tensor as downsample.1."""
    block = re.match(r"(layer\d\.\d)\.norm([34])\.", rest)
    if block is None:
        return False
    three = name.replace(rest, f"{block[1]}.conv3.weight") in tensors
    return block[2] == ("4" if three else "3")


def _renamed(rest: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        if re.match(pattern, rest):
            return re.sub(rf"^{pattern}", replacement, rest)
    return rest

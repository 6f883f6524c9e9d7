"""MUSIQ's weights as Google published them: arrays of flax, channels last, heads apart, under the names of its modules."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from goku_core.pipeline.errors import GokuError

_WHOLE = {
    "Transformer/posembed_input/pos_embedding": "transformer_encoder.posembed_input.position_emb",
    "Transformer/cls": "transformer_encoder.cls",
}
_PARTS = {"kernel": "weight", "scale": "weight", "bias": "bias"}
_BLOCK = r"Transformer/encoderblock_(\d+)/"
# What a layer is called there and here. flax numbers the unnamed parts of a block in the order in which they are used.
_LAYERS = (
    (r"conv_root", "conv_root"),
    (r"gn_root", "gn_root"),
    (r"block1/unit1/(conv1|conv2|conv3|conv_proj|gn1|gn2|gn3|gn_proj)", r"block1.\1"),
    (r"embedding", "embedding"),
    (r"head", "head"),
    (r"Transformer/encoder_norm", "transformer_encoder.encoder_norm"),
    (_BLOCK + r"LayerNorm_0", r"transformer_encoder.transformer.encoderblock_\1.norm1"),
    (_BLOCK + r"LayerNorm_2", r"transformer_encoder.transformer.encoderblock_\1.norm2"),
    (_BLOCK + r"\w*Attention_1/(query|key|value|out)", r"transformer_encoder.transformer.encoderblock_\1.attention.\2"),
    (_BLOCK + r"MlpBlock_3/Dense_0", r"transformer_encoder.transformer.encoderblock_\1.mlp.fc1"),
    (_BLOCK + r"MlpBlock_3/Dense_1", r"transformer_encoder.transformer.encoderblock_\1.mlp.fc2"),
)


def read_google(file: Path) -> dict[str, Tensor]:
    """Tensors of the .npz under the names of `Musiq`. Runs nothing from the file; raises GokuError where it is another's."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files if "target/" in name}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise GokuError(f"{file} cannot be read as numpy arrays: {error}. Download it again") from error
    return renamed({name.split("target/", 1)[1]: values for name, values in found.items()}, str(file))


def renamed(arrays: dict[str, np.ndarray], source: str) -> dict[str, Tensor]:
    """Arrays by the names of flax's modules, "conv_root/kernel", to tensors of `Musiq`, float32."""
    return dict(_translated(name, values, source) for name, values in arrays.items())


def _translated(name: str, values: np.ndarray, source: str) -> tuple[str, Tensor]:
    if name in _WHOLE:
        return _WHOLE[name], _tensor(values)
    if name == "Transformer/scaleembed_input/scale_embedding":
        return "transformer_encoder.scaleembed_input.scale_emb", _tensor(values.reshape(values.shape[-2:]))
    layer, _, part = name.rpartition("/")
    for pattern, ours in _LAYERS:
        if part in _PARTS and (match := re.fullmatch(pattern, layer)):
            return f"{match.expand(ours)}.{_PARTS[part]}", _tensor(
                _kernel(layer, values) if part == "kernel" else values.ravel()
            )
    raise GokuError(f"{source} holds {name}, which is no part of MUSIQ. See docs/weights.md")


def _kernel(layer: str, values: np.ndarray) -> np.ndarray:
    """Convolutions (rows, columns, in, out); products (in, out), with the heads of attention as an axis of their own."""
    if values.ndim == 4:
        return values.transpose(3, 2, 0, 1)
    if layer.endswith(("/query", "/key", "/value")):
        return values.reshape(values.shape[0], -1).T
    return values.reshape(-1, values.shape[-1]).T


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))

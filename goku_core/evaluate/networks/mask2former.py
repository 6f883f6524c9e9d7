"""GenEval's detector: OpenMMLab's Mask2Former with a Swin-S backbone, as a model of transformers.

The network is the same in both libraries, the names and two orders of channels are not:
- a patch merging of OpenMMLab unfolds (channel, row, column), transformers concatenates (column, row, channel);
- queries, keys and values are one matrix in OpenMMLab, three in transformers.
`paired` is the whole of the renaming, one line per tensor of OpenMMLab's file, and every tensor has a partner on both
sides but those in `OURS_ALONE`, which nothing reads. Sources of names: open-mmlab/mmdetection 2.25
configs/mask2former/mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco.py, mmdet/models (Apache-2.0), mmcv 1.x.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from goku_core.pipeline.errors import GokuError
from goku_core.scorers.sources import Source, obtain

if TYPE_CHECKING:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

SOURCE = Source(
    name="mask2former-swin-s-coco",
    place="mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco_20220504_001756-743b7d99.pth",
    get="curl -L -o weights/mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco_20220504_001756-743b7d99.pth "
    "https://download.openmmlab.com/mmdetection/v2.0/mask2former/mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco/"
    "mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco_20220504_001756-743b7d99.pth",
    licence="Apache-2.0",
)
CLASSES = 80
OURS_ALONE = ("criterion.empty_weight", "model.pixel_level_module.encoder.swin.layernorm.")
"""Tensors of transformers without a partner: a weight of the loss, and a norm behind the backbone that it does not use."""
INDEX = "relative_position_index"
"""Tables that OpenMMLab stores and transformers computes: compared, not converted."""

_BACKBONE = "model.pixel_level_module.encoder."
_PIXELS = "model.pixel_level_module.decoder."
_QUERIES = "model.transformer_module."


def config(**other: Any) -> Mask2FormerConfig:
    """The published configuration; `other` replaces parts of it, `backbone_config` by a dictionary of parts."""
    from transformers import Mask2FormerConfig, SwinConfig

    backbone = {
        "embed_dim": 96,
        "depths": [2, 2, 18, 2],
        "num_heads": [3, 6, 12, 24],
        "window_size": 7,
        "drop_path_rate": 0.3,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    swin = SwinConfig(**{**backbone, **other.pop("backbone_config", {})})
    return Mask2FormerConfig(**{"backbone_config": swin, "num_labels": CLASSES, **other})


def build(shape: Mask2FormerConfig) -> Mask2FormerForUniversalSegmentation:
    """The network of a configuration with weights drawn at random, float32, for inference."""
    from transformers import Mask2FormerForUniversalSegmentation

    return Mask2FormerForUniversalSegmentation(shape).eval().requires_grad_(False)


def load(
    weights: Path, device: str = "cpu", shape: Mask2FormerConfig | None = None
) -> Mask2FormerForUniversalSegmentation:
    """The detector with OpenMMLab's weights. shape: of the network the file holds [default: the published one].

    Raises GokuError where the file is missing or is another network's.
    """
    path = obtain(SOURCE, weights)
    network = build(shape or config())
    given = from_official(read_official(path), network.config, path)
    missing, left_over = network.load_state_dict(given, strict=False)
    if left_over or any(not name.startswith(OURS_ALONE) for name in missing):
        raise GokuError(
            f"{path}: {len(left_over)} tensors find no place and {len(missing)} are missing in transformers' model"
        )
    return network.to(device)


def read_official(path: Path) -> dict[str, torch.Tensor]:
    """`state_dict` of a checkpoint of OpenMMLab; only tensors and plain values are unpickled."""
    import pickle

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise GokuError(f"{path} cannot be read as a checkpoint of tensors: {reason}. Get it: {SOURCE.get}") from error
    tensors = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(tensors, dict) or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        raise GokuError(f"{path} holds no state_dict of tensors. Get it: {SOURCE.get}")
    return dict(tensors)


def from_official(
    tensors: Mapping[str, torch.Tensor], shape: Mask2FormerConfig, path: Path = Path("checkpoint")
) -> dict[str, torch.Tensor]:
    """OpenMMLab's tensors under the names of transformers. Raises GokuError for a missing or an unknown tensor."""
    pairs = dict(paired(shape))
    indices = {name: value for name, value in tensors.items() if name.endswith(INDEX)}
    wrong = [f"{name} is missing" for name in pairs if name not in tensors]
    wrong += [f"{name} is unknown" for name in tensors if name not in pairs and name not in indices]
    expected = position_index(shape.backbone_config.window_size)
    wrong += [f"{name} is another order" for name, value in indices.items() if not torch.equal(value.long(), expected)]
    if wrong:
        raise GokuError(
            f"{path} is not GenEval's Mask2Former: {wrong[0]} ({len(wrong)} differences). Get it: {SOURCE.get}"
        )
    converted: dict[str, torch.Tensor] = {}
    for theirs, ours in pairs.items():
        value = tensors[theirs]
        if ".downsample." in theirs:
            value = merged_by_column(value)
        converted.update(zip(ours, value.chunk(len(ours)), strict=True))
    return converted


def to_official(tensors: Mapping[str, torch.Tensor], shape: Mask2FormerConfig) -> dict[str, torch.Tensor]:
    """The way back: tensors of transformers under OpenMMLab's names, without the index tables."""
    return {
        theirs: merged_by_channel(tensors[ours[0]])
        if ".downsample." in theirs
        else torch.cat([tensors[name] for name in ours])
        for theirs, ours in paired(shape)
    }


def merged_by_column(value: torch.Tensor) -> torch.Tensor:
    """Last axis (channel, row, column) of 2 x 2 patches -> (column, row, channel); weights (..., 4 c)."""
    parts = value.unflatten(-1, (-1, 2, 2))
    return parts.transpose(-1, -3).flatten(-3).contiguous()


def merged_by_channel(value: torch.Tensor) -> torch.Tensor:
    """Last axis (column, row, channel) -> (channel, row, column)."""
    parts = value.unflatten(-1, (2, 2, -1))
    return parts.transpose(-1, -3).flatten(-3).contiguous()


def position_index(window: int) -> torch.Tensor:
    """(window^2, window^2): row of the table of relative positions for each pair of places in a window.

    Pair (i, j) -> (row_i - row_j + window - 1) * (2 window - 1) + column_i - column_j + window - 1.
    """
    place = torch.arange(window * window)
    row, column = place // window, place % window
    rows = row[:, None] - row[None] + window - 1
    return rows * (2 * window - 1) + column[:, None] - column[None] + window - 1


def paired(shape: Mask2FormerConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """(name in OpenMMLab's file, its parts in transformers) of every tensor."""
    yield from _backbone(shape.backbone_config.depths)
    yield from _pixel_decoder(shape.encoder_layers)
    yield from _query_decoder(shape.decoder_layers - 1)


def _both(theirs: str, *ours: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Weight and bias of one layer."""
    for part in ("weight", "bias"):
        yield f"{theirs}.{part}", tuple(f"{name}.{part}" for name in ours)


def _backbone(depths: list[int]) -> Iterator[tuple[str, tuple[str, ...]]]:
    swin = f"{_BACKBONE}swin."
    yield from _both("backbone.patch_embed.projection", f"{swin}embeddings.patch_embeddings.projection")
    yield from _both("backbone.patch_embed.norm", f"{swin}embeddings.norm")
    for stage, depth in enumerate(depths):
        for block in range(depth):
            theirs, ours = f"backbone.stages.{stage}.blocks.{block}.", f"{swin}encoder.layers.{stage}.blocks.{block}."
            attention = f"{ours}attention."
            yield from _both(f"{theirs}norm1", f"{ours}layernorm_before")
            table = "relative_position_bias_table"
            yield f"{theirs}attn.w_msa.{table}", (f"{attention}relative_position_bias.{table}",)
            yield from _both(f"{theirs}attn.w_msa.qkv", *(f"{attention}{name}_proj" for name in "qkv"))
            yield from _both(f"{theirs}attn.w_msa.proj", f"{attention}o_proj")
            yield from _both(f"{theirs}norm2", f"{ours}layernorm_after")
            yield from _both(f"{theirs}ffn.layers.0.0", f"{ours}mlp.fc1")
            yield from _both(f"{theirs}ffn.layers.1", f"{ours}mlp.fc2")
        if stage < len(depths) - 1:
            theirs, ours = f"backbone.stages.{stage}.downsample.", f"{swin}encoder.layers.{stage}.downsample."
            yield from _both(f"{theirs}norm", f"{ours}norm")
            yield f"{theirs}reduction.weight", (f"{ours}reduction.weight",)
        yield from _both(f"backbone.norm{stage}", f"{_BACKBONE}hidden_states_norms.stage{stage + 1}")


def _pixel_decoder(layers: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    head = "panoptic_head.pixel_decoder."
    for level in range(3):
        yield from _both(f"{head}input_convs.{level}.conv", f"{_PIXELS}input_projections.{level}.0")
        yield from _both(f"{head}input_convs.{level}.gn", f"{_PIXELS}input_projections.{level}.1")
    for layer in range(layers):
        theirs, ours = f"{head}encoder.layers.{layer}.", f"{_PIXELS}encoder.layers.{layer}."
        for part in ("sampling_offsets", "attention_weights", "value_proj", "output_proj"):
            yield from _both(f"{theirs}attentions.0.{part}", f"{ours}self_attn.{part}")
        yield from _both(f"{theirs}norms.0", f"{ours}self_attn_layer_norm")
        yield from _both(f"{theirs}ffns.0.layers.0.0", f"{ours}fc1")
        yield from _both(f"{theirs}ffns.0.layers.1", f"{ours}fc2")
        yield from _both(f"{theirs}norms.1", f"{ours}final_layer_norm")
    yield f"{head}level_encoding.weight", (f"{_PIXELS}level_embed",)
    for theirs, ours in (("lateral_convs.0", "adapter_1"), ("output_convs.0", "layer_1")):
        yield f"{head}{theirs}.conv.weight", (f"{_PIXELS}{ours}.0.weight",)
        yield from _both(f"{head}{theirs}.gn", f"{_PIXELS}{ours}.1")
    yield from _both(f"{head}mask_feature", f"{_PIXELS}mask_projection")


def _query_decoder(layers: int) -> Iterator[tuple[str, tuple[str, ...]]]:
    head, decoder = "panoptic_head.", f"{_QUERIES}decoder."
    for layer in range(layers):
        theirs, ours = f"{head}transformer_decoder.layers.{layer}.", f"{decoder}layers.{layer}."
        for part in ("weight", "bias"):
            yield f"{theirs}attentions.0.attn.in_proj_{part}", (f"{ours}cross_attn.in_proj_{part}",)
            yield f"{theirs}attentions.1.attn.in_proj_{part}", tuple(f"{ours}self_attn.{n}_proj.{part}" for n in "qkv")
        yield from _both(f"{theirs}attentions.0.attn.out_proj", f"{ours}cross_attn.out_proj")
        yield from _both(f"{theirs}attentions.1.attn.out_proj", f"{ours}self_attn.out_proj")
        yield from _both(f"{theirs}norms.0", f"{ours}cross_attn_layer_norm")
        yield from _both(f"{theirs}norms.1", f"{ours}self_attn_layer_norm")
        yield from _both(f"{theirs}norms.2", f"{ours}final_layer_norm")
        yield from _both(f"{theirs}ffns.0.layers.0.0", f"{ours}fc1")
        yield from _both(f"{theirs}ffns.0.layers.1", f"{ours}fc2")
    yield from _both(f"{head}transformer_decoder.post_norm", f"{decoder}layernorm")
    for theirs, ours in (
        ("query_embed", "queries_embedder"),
        ("query_feat", "queries_features"),
        ("level_embed", "level_embed"),
    ):
        yield f"{head}{theirs}.weight", (f"{_QUERIES}{ours}.weight",)
    for number in range(3):
        yield from _both(f"{head}mask_embed.{2 * number}", f"{decoder}mask_predictor.mask_embedder.{number}.0")
    yield from _both(f"{head}cls_embed", "class_predictor")

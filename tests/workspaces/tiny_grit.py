"""GRiT, small and random, under the names of its published checkpoint, and a vocabulary for it."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from goku_core.evaluate.networks.grit.size import Size

TINY = Size(
    width=48,
    depth=3,
    heads=2,
    patch=16,
    grid=3,
    trained=8,
    window=3,
    everywhere=(2,),
    channels=32,
    convolutions=2,
    hidden=24,
    box=7,
    thing=4,
    text_width=32,
    text_depth=2,
    text_heads=2,
    text_inner=40,
    vocabulary=130,
    places=64,
)
BODY, HEAD, ROI = "backbone.bottom_up", "proposal_generator.centernet_head", "roi_heads"
TEXT = f"{ROI}.text_decoder.textual"
LAYER = f"{TEXT}.transformer.encoder.layer"


def grit_shapes(
    *,
    width: int = 768,
    depth: int = 12,
    head: int = 64,
    grid: int = 14,
    trained: int = 64,
    window: int = 14,
    everywhere: tuple[int, ...] = (2, 5, 8, 11),
    channels: int = 256,
    convolutions: int = 4,
    hidden: int = 1024,
    cells: int = 49,
    text: int = 768,
    layers: int = 6,
    inner: int = 3072,
    words: int = 30522,
    places: int = 1024,
) -> dict[str, tuple[int, ...]]:
    """Names and shapes by configs/Base.yaml, GRiT_B_DenseCap_ObjectDet.yaml and the modules that VBench's copy builds of them.

    The defaults are the published ones: ViT-B at 1024 px, windows of 14, five maps of 256, three box heads of two layers, six
    layers of text.
    """
    shapes: dict[str, tuple[int, ...]] = {f"{BODY}.pos_embed": (1, grid * grid + 1, width)}
    with_bias = {f"{BODY}.patch_embed.proj": (width, 3, 16, 16)}
    norms = {}
    for block in range(depth):
        name = f"{BODY}.blocks.{block}"
        length = 2 * (trained if block in everywhere else window) - 1
        shapes |= {f"{name}.attn.rel_pos_{axis}": (length, head) for axis in "hw"}
        with_bias |= {f"{name}.attn.qkv": (3 * width, width), f"{name}.attn.proj": (width, width)}
        with_bias |= {f"{name}.mlp.fc1": (4 * width, width), f"{name}.mlp.fc2": (width, 4 * width)}
        norms |= {f"{name}.norm1": width, f"{name}.norm2": width}
    shapes["backbone.fpn_stride_16_8.weight"] = (width, width, 2, 2)
    for stride in (8, 16, 32):
        shapes[f"backbone.fpn_stride{stride}_conv1.weight"] = (channels, width, 1, 1)
        shapes[f"backbone.fpn_stride{stride}_conv2.weight"] = (channels, channels, 3, 3)
        norms |= {f"backbone.fpn_stride{stride}_norm{number}": channels for number in (1, 2)}
    with_bias |= {f"backbone.top_block.p{level}": (channels, channels, 3, 3) for level in (6, 7)}
    for number in range(convolutions):  # convolution, norm, ReLU
        with_bias[f"{HEAD}.bbox_tower.{3 * number}"] = (channels, channels, 3, 3)
        norms[f"{HEAD}.bbox_tower.{3 * number + 1}"] = channels
    with_bias |= {f"{HEAD}.bbox_pred": (4, channels, 3, 3), f"{HEAD}.agn_hm": (1, channels, 3, 3)}
    shapes |= {f"{HEAD}.scales.{level}.scale": (1,) for level in range(5)}
    for stage in range(3):
        with_bias |= {
            f"{ROI}.box_head.{stage}.fc1": (hidden, channels * cells),
            f"{ROI}.box_head.{stage}.fc2": (hidden, hidden),
            f"{ROI}.box_predictor.{stage}.cls_score": (2, hidden),
            f"{ROI}.box_predictor.{stage}.bbox_pred.0": (hidden, hidden),
            f"{ROI}.box_predictor.{stage}.bbox_pred.2": (4, hidden),
        }
    with_bias[f"{TEXT}.object_feature_projection.0"] = (text, channels)
    norms |= {f"{TEXT}.object_feature_projection.1": text, f"{TEXT}.embedding.layer_norm": text}
    shapes |= {f"{TEXT}.embedding.words.weight": (words, text), f"{TEXT}.embedding.positions.weight": (places, text)}
    for layer in range(layers):
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            with_bias[f"{LAYER}.{layer}.attention.{part}"] = (text, text)
        with_bias |= {f"{LAYER}.{layer}.intermediate.dense": (inner, text)}
        with_bias |= {f"{LAYER}.{layer}.output.dense": (text, inner)}
        norms |= {f"{LAYER}.{layer}.{part}.LayerNorm": text for part in ("attention.output", "output")}
    with_bias[f"{TEXT}.output"] = (words, text)
    for name, shape in with_bias.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name, count in norms.items():
        shapes |= {f"{name}.weight": (count,), f"{name}.bias": (count,)}
    return shapes


def tiny_shapes() -> dict[str, tuple[int, ...]]:
    return grit_shapes(
        width=48, depth=3, head=24, grid=3, trained=8, window=3, everywhere=(2,), channels=32, convolutions=2,
        hidden=24, cells=49, text=32, layers=2, inner=40, words=130, places=64,
    )  # fmt: skip


def random_grit(seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors of the small one. Boxes reach some cells far, some are things, and words differ from box to box."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in tiny_shapes().items():
        spread = 0.5 if len(shape) == 1 or "pos" in name or "embedding" in name else math.prod(shape[1:]) ** -0.5
        tensors[name] = torch.randn(shape, generator=generator) * spread
        if "norm" in name.lower() and name.endswith("weight"):
            tensors[name] += 1.0
    tensors[f"{HEAD}.bbox_pred.bias"] = torch.tensor([2.0, 1.5, 2.5, 2.0])
    for level in range(5):
        tensors[f"{HEAD}.scales.{level}.scale"] = torch.tensor([1.0 + level / 10])
    for stage in range(3):
        tensors[f"{ROI}.box_predictor.{stage}.bbox_pred.2.weight"] *= 0.2
        tensors[f"{ROI}.box_predictor.{stage}.cls_score.bias"] = torch.tensor([1.5, -1.5])
    tensors[f"{TEXT}.output.weight"] = tensors[f"{TEXT}.embedding.words.weight"]
    return tensors


def write_grit(folder: Path, seed: int = 0) -> None:
    """Checkpoint and vocabulary at their places below a folder of weights."""
    (folder / "grit").mkdir(parents=True)
    torch.save({"model": random_grit(seed), "iteration": 180000}, folder / "grit/grit_b_densecap_objectdet.pth")
    (folder / "bert-base-uncased").mkdir()
    special = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
    words = [special.get(number, f"w{number}") for number in range(TINY.vocabulary)]
    (folder / "bert-base-uncased/vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")

"""Networks of judges, small and random, under the published names of their tensors."""

from __future__ import annotations

import math

import torch

from goku_core.evaluate.networks import dino, musiq

TINY_DINO = dino.Size(width=128, depth=2, heads=2, patch=16, grid=14)
TINY_MUSIQ = musiq.Size(width=128, inner=96, heads=2, depth=2)
BLOCK = "transformer_encoder.transformer.encoderblock"


def musiq_shapes(width: int, inner: int, depth: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of musiq_spaq_ckpt-358bb6af.pth: pyiqa's MUSIQ with one score, sizes of Google's run_predict_image."""
    shapes: dict[str, tuple[int, ...]] = {"conv_root.weight": (64, 3, 7, 7)}
    for conv, shape in {"conv1": (64, 64, 1, 1), "conv2": (64, 64, 3, 3), "conv3": (256, 64, 1, 1)}.items():
        shapes[f"block1.{conv}.weight"] = shape
    shapes["block1.conv_proj.weight"] = (256, 64, 1, 1)
    norms = {"gn_root": 64, "block1.gn1": 64, "block1.gn2": 64, "block1.gn3": 256, "block1.gn_proj": 256}
    norms["transformer_encoder.encoder_norm"] = width
    layers = {"embedding": (width, 256 * 8 * 8), "head": (1, width)}
    for block in range(depth):
        norms |= {f"{BLOCK}_{block}.norm{number}": width for number in (1, 2)}
        layers |= {f"{BLOCK}_{block}.attention.{part}": (width, width) for part in ("query", "key", "value", "out")}
        layers |= {f"{BLOCK}_{block}.mlp.fc1": (inner, width), f"{BLOCK}_{block}.mlp.fc2": (width, inner)}
    for name, channels in norms.items():
        shapes |= {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}
    for name, shape in layers.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    shapes["transformer_encoder.cls"] = (1, 1, width)
    shapes["transformer_encoder.posembed_input.position_emb"] = (1, 100, width)
    shapes["transformer_encoder.scaleembed_input.scale_emb"] = (3, width)
    return shapes


def random_musiq(seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors of the small one, by the published names."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in musiq_shapes(TINY_MUSIQ.width, TINY_MUSIQ.inner, TINY_MUSIQ.depth).items():
        spread = 1.0 if len(shape) == 1 else (0.3 if "emb" in name or "cls" in name else math.prod(shape[1:]) ** -0.5)
        tensors[name] = torch.randn(shape, generator=generator) * spread
    return tensors


def random_dino() -> dino.Dino:
    torch.manual_seed(0)
    network = dino.Dino(TINY_DINO).eval()
    for tensor in network.parameters():
        torch.nn.init.normal_(tensor, std=0.3 if tensor.dim() < 3 else 1.0)
    return network.requires_grad_(False)

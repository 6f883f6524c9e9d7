"""GenEval's detector as OpenMMLab publishes it: names and shapes of its tensors, at full size and small with random numbers."""

from __future__ import annotations

import torch

from goku_core.evaluate.networks import mask2former as port

PUBLISHED = {"width": 96, "depths": (2, 2, 18, 2), "heads": (3, 6, 12, 24), "features": 256, "encoder": 6, "decoder": 9}
SMALL = {"width": 8, "depths": (1, 1, 2, 1), "heads": (1, 2, 4, 8), "features": 32, "encoder": 1, "decoder": 2}


def official(width, depths, heads, features, encoder, decoder) -> dict[str, tuple[int, ...]]:
    """Names and shapes of mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco, read off its config and the modules it names.

    embed_dims 96, window 7, mlp_ratio 4; 6 deformable layers (8 heads, 3 levels, 4 points, feed-forward 1024); 9 decoder
    layers (feed-forward 2048); 100 queries; 80 things, no stuff.
    """
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *weight: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = weight, weight[:1]

    layer("backbone.patch_embed.projection", width, 3, 4, 4)
    layer("backbone.patch_embed.norm", width)
    for stage, (depth, many) in enumerate(zip(depths, heads, strict=True)):
        c = width * 2**stage
        for block in range(depth):
            at = f"backbone.stages.{stage}.blocks.{block}"
            layer(f"{at}.norm1", c)
            shapes[f"{at}.attn.w_msa.relative_position_bias_table"] = (169, many)
            shapes[f"{at}.attn.w_msa.relative_position_index"] = (49, 49)
            layer(f"{at}.attn.w_msa.qkv", 3 * c, c)
            layer(f"{at}.attn.w_msa.proj", c, c)
            layer(f"{at}.norm2", c)
            layer(f"{at}.ffn.layers.0.0", 4 * c, c)
            layer(f"{at}.ffn.layers.1", c, 4 * c)
        if stage < 3:
            layer(f"backbone.stages.{stage}.downsample.norm", 4 * c)
            shapes[f"backbone.stages.{stage}.downsample.reduction.weight"] = (2 * c, 4 * c)
        layer(f"backbone.norm{stage}", c)
    head = "panoptic_head.pixel_decoder"
    for level in range(3):
        layer(f"{head}.input_convs.{level}.conv", features, width * 2 ** (3 - level), 1, 1)
        layer(f"{head}.input_convs.{level}.gn", features)
    for number in range(encoder):
        at = f"{head}.encoder.layers.{number}"
        layer(f"{at}.attentions.0.sampling_offsets", 8 * 3 * 4 * 2, features)
        layer(f"{at}.attentions.0.attention_weights", 8 * 3 * 4, features)
        layer(f"{at}.attentions.0.value_proj", features, features)
        layer(f"{at}.attentions.0.output_proj", features, features)
        layer(f"{at}.ffns.0.layers.0.0", 4 * features, features)
        layer(f"{at}.ffns.0.layers.1", features, 4 * features)
        layer(f"{at}.norms.0", features)
        layer(f"{at}.norms.1", features)
    shapes[f"{head}.level_encoding.weight"] = (3, features)
    shapes[f"{head}.lateral_convs.0.conv.weight"] = (features, width, 1, 1)
    layer(f"{head}.lateral_convs.0.gn", features)
    shapes[f"{head}.output_convs.0.conv.weight"] = (features, features, 3, 3)
    layer(f"{head}.output_convs.0.gn", features)
    layer(f"{head}.mask_feature", features, features, 1, 1)
    for number in range(decoder):
        at = f"panoptic_head.transformer_decoder.layers.{number}"
        for attention in (0, 1):
            shapes[f"{at}.attentions.{attention}.attn.in_proj_weight"] = (3 * features, features)
            shapes[f"{at}.attentions.{attention}.attn.in_proj_bias"] = (3 * features,)
            layer(f"{at}.attentions.{attention}.attn.out_proj", features, features)
        layer(f"{at}.ffns.0.layers.0.0", 8 * features, features)
        layer(f"{at}.ffns.0.layers.1", features, 8 * features)
        for norm in range(3):
            layer(f"{at}.norms.{norm}", features)
    layer("panoptic_head.transformer_decoder.post_norm", features)
    for name, rows in (("query_embed", 100), ("query_feat", 100), ("level_embed", 3)):
        shapes[f"panoptic_head.{name}.weight"] = (rows, features)
    layer("panoptic_head.cls_embed", 81, features)
    for number in (0, 2, 4):
        layer(f"panoptic_head.mask_embed.{number}", features, features)
    return shapes


def small_config():
    return port.config(
        backbone_config={"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8]},
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=128,
        dim_feedforward=256,
        encoder_layers=1,
        decoder_layers=3,
    )


def mmdet_index() -> torch.Tensor:
    """How OpenMMLab lays out its table: a sequence of double steps, added to its own transpose and turned round."""
    steps = (torch.arange(0, 13 * 7, 13)[:, None] + torch.arange(7)[None]).reshape(1, -1)
    return (steps + steps.T).flip(1).contiguous()


def drawn(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator) * 0.1 for name, shape in shapes.items()}
    return {name: mmdet_index() if name.endswith("_index") else value for name, value in tensors.items()}

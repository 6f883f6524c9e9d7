"""Mask2Former with a Swin backbone in plain functions over OpenMMLab's names: what the checkpoint computes there.

Written from the papers (arXiv 2103.14030, 2112.01527, 2010.04159) and from the order of operations in mmdetection 2.25, not
from the network under test: windows are one big attention among the places of a window and region, patches are unfolded,
queries, keys and values are one matrix.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

Tensors = dict[str, torch.Tensor]
WINDOW = 7


def forward(
    t: Tensors, pixels: torch.Tensor, depths, heads, encoder, decoder, **_
) -> tuple[torch.Tensor, torch.Tensor]:
    """pixels (1, 3, h, w) -> logits of classes (100, 81) and of masks (100, h / 4, w / 4)."""
    maps = swin(t, pixels, depths, heads)
    levels, mask_features = pixel_decoder(t, maps, encoder)
    return query_decoder(t, levels, mask_features, decoder)


def linear(t: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, t[f"{name}.weight"], t.get(f"{name}.bias"))


def norm(t: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"])


def swin(t: Tensors, pixels: torch.Tensor, depths, heads) -> list[torch.Tensor]:
    x = F.conv2d(
        pixels, t["backbone.patch_embed.projection.weight"], t["backbone.patch_embed.projection.bias"], stride=4
    )
    x = norm(t, "backbone.patch_embed.norm", x[0].permute(1, 2, 0))  # (h, w, c)
    maps = []
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name = f"backbone.stages.{stage}.blocks.{block}"
            shift = WINDOW // 2 if block % 2 else 0
            x = x + windows(t, f"{name}.attn.w_msa", norm(t, f"{name}.norm1", x), heads[stage], shift)
            wide = F.gelu(linear(t, f"{name}.ffn.layers.0.0", norm(t, f"{name}.norm2", x)))
            x = x + linear(t, f"{name}.ffn.layers.1", wide)
        maps.append(norm(t, f"backbone.norm{stage}", x).permute(2, 0, 1)[None])
        if stage < len(depths) - 1:
            name = f"backbone.stages.{stage}.downsample"
            x = F.pad(x, (0, 0, 0, x.shape[1] % 2, 0, x.shape[0] % 2))
            height, width, _ = x.shape
            parts = F.unfold(x.permute(2, 0, 1)[None], 2, stride=2)[0].T
            x = linear(t, f"{name}.reduction", norm(t, f"{name}.norm", parts)).view(height // 2, width // 2, -1)
    return maps


def windows(t: Tensors, name: str, x: torch.Tensor, heads: int, shift: int) -> torch.Tensor:
    """Attention among all places that lie in one window and, where windows are shifted, in one region of the map."""
    height, width, channels = x.shape
    tall, wide = (-(-side // WINDOW) * WINDOW for side in (height, width))
    flat = F.pad(x, (0, 0, 0, wide - width, 0, tall - height)).reshape(-1, channels)
    down, across = torch.meshgrid(torch.arange(tall), torch.arange(wide), indexing="ij")
    moved = [((place - shift) % side).flatten() for place, side in ((down, tall), (across, wide))]
    window = torch.stack([place // WINDOW for place in moved], dim=1)
    if shift:
        regions = [
            (place >= side - WINDOW).long() + (place >= side - shift).long()
            for place, side in zip(moved, (tall, wide), strict=True)
        ]
        window = torch.cat([window, torch.stack(regions, dim=1)], dim=1)
    together = (window[:, None] == window[None]).all(dim=-1)
    row, column = (place % WINDOW for place in moved)
    pair = (row[:, None] - row[None] + WINDOW - 1) * (2 * WINDOW - 1) + column[:, None] - column[None] + WINDOW - 1
    bias = t[f"{name}.relative_position_bias_table"][pair].permute(2, 0, 1)
    q, k, v = linear(t, f"{name}.qkv", flat).view(len(flat), 3, heads, -1).permute(1, 2, 0, 3)
    odds = q @ k.transpose(1, 2) / math.sqrt(channels // heads) + bias
    mixed = (odds.masked_fill(~together, -torch.inf).softmax(-1) @ v).transpose(0, 1).reshape(len(flat), channels)
    return linear(t, f"{name}.proj", mixed).view(tall, wide, channels)[:height, :width]


def waves(height: int, width: int, features: int) -> torch.Tensor:
    """Sine positions (height * width, features): rows in the first half, columns in the second, lengths scaled to 2 pi."""
    half = features // 2
    sides = []
    for side in (height, width):
        place = torch.arange(1, side + 1, dtype=torch.float64) / (side + 1e-6) * 2 * math.pi
        columns = [
            (torch.cos if number % 2 else torch.sin)(place / 10000 ** (2 * (number // 2) / half))
            for number in range(half)
        ]
        sides.append(torch.stack(columns, dim=1))
    rows = sides[0][:, None].expand(height, width, half)
    return torch.cat([rows, sides[1][None].expand(height, width, half)], dim=-1).reshape(-1, features)


def convolved(t: Tensors, name: str, x: torch.Tensor, padding: int = 0) -> torch.Tensor:
    """ConvModule: convolution and group normalisation."""
    x = F.conv2d(x, t[f"{name}.conv.weight"], t.get(f"{name}.conv.bias"), padding=padding)
    return F.group_norm(x, 32, t[f"{name}.gn.weight"], t[f"{name}.gn.bias"])


def pixel_decoder(t: Tensors, maps: list[torch.Tensor], layers: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    head = "panoptic_head.pixel_decoder"
    inputs = [convolved(t, f"{head}.input_convs.{number}", maps[3 - number]) for number in range(3)]
    shapes = [tuple(x.shape[2:]) for x in inputs]
    memory = torch.cat([x[0].flatten(1).T for x in inputs])
    features = memory.shape[1]
    places = [waves(*shape, features) + t[f"{head}.level_encoding.weight"][n] for n, shape in enumerate(shapes)]
    position = torch.cat(places)
    for layer in range(layers):
        name = f"{head}.encoder.layers.{layer}"
        memory = norm(t, f"{name}.norms.0", memory + deformable(t, f"{name}.attentions.0", memory, position, shapes))
        wide = F.relu(linear(t, f"{name}.ffns.0.layers.0.0", memory))
        memory = norm(t, f"{name}.norms.1", memory + linear(t, f"{name}.ffns.0.layers.1", wide))
    parts = memory.split([height * width for height, width in shapes])
    levels = [part.T.reshape(1, features, *shape) for part, shape in zip(parts, shapes, strict=True)]
    side = convolved(t, f"{head}.lateral_convs.0", maps[0])
    top = side + F.interpolate(levels[-1], side.shape[2:], mode="bilinear", align_corners=False)
    top = F.relu(convolved(t, f"{head}.output_convs.0", top, padding=1))
    return levels, F.conv2d(top, t[f"{head}.mask_feature.weight"], t[f"{head}.mask_feature.bias"])


def deformable(t: Tensors, name: str, x: torch.Tensor, position: torch.Tensor, shapes) -> torch.Tensor:
    """Each place looks at 8 heads x 3 levels x 4 points around itself, bilinear, nothing outside the map."""
    query, count, features = x + position, len(x), x.shape[1]
    value = linear(t, f"{name}.value_proj", x).view(count, 8, -1)
    offsets = linear(t, f"{name}.sampling_offsets", query).view(count, 8, 3, 4, 2)
    odds = linear(t, f"{name}.attention_weights", query).view(count, 8, 12).softmax(-1).view(count, 8, 3, 4)
    at = torch.cat(
        [
            torch.stack(
                torch.meshgrid(
                    (torch.arange(h, dtype=x.dtype) + 0.5) / h,
                    (torch.arange(w, dtype=x.dtype) + 0.5) / w,
                    indexing="ij",
                )[::-1],
                dim=-1,
            ).view(-1, 2)
            for h, w in shapes
        ]
    )
    found = torch.zeros(count, 8, features // 8, dtype=x.dtype)
    start = 0
    for level, (height, width) in enumerate(shapes):
        part = value[start : start + height * width].view(height, width, 8, -1)
        start += height * width
        size = torch.tensor([width, height], dtype=x.dtype)
        place = (at[:, None, None] + offsets[:, :, level] / size) * size - 0.5  # (count, 8, 4, 2): column, row
        low = place.floor()
        for right in (0, 1):
            for below in (0, 1):
                column, row = low[..., 0].long() + right, low[..., 1].long() + below
                share = (1 - (place[..., 0] - column).abs()) * (1 - (place[..., 1] - row).abs())
                inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
                pixel = part[row.clamp(0, height - 1), column.clamp(0, width - 1), torch.arange(8)[None, :, None]]
                found += ((share * inside * odds[:, :, level])[..., None] * pixel).sum(dim=2)
    return linear(t, f"{name}.output_proj", found.reshape(count, features))


def attention(t: Tensors, name: str, query, key, value, hidden: torch.Tensor | None = None) -> torch.Tensor:
    """Attention of 8 heads; hidden (queries, keys): True where a query must not look."""
    weights, biases = t[f"{name}.attn.in_proj_weight"].chunk(3), t[f"{name}.attn.in_proj_bias"].chunk(3)
    q, k, v = (
        F.linear(x, weight, bias).view(len(x), 8, -1).transpose(0, 1)
        for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
    )
    odds = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
    if hidden is not None:
        odds = odds.masked_fill(hidden, -torch.inf)
    mixed = (odds.softmax(-1) @ v).transpose(0, 1).reshape(len(query), -1)
    return linear(t, f"{name}.attn.out_proj", mixed)


def query_decoder(
    t: Tensors, levels: list[torch.Tensor], mask_features: torch.Tensor, layers: int
) -> tuple[torch.Tensor, torch.Tensor]:
    head = "panoptic_head"
    memory = [x[0].flatten(1).T + t[f"{head}.level_embed.weight"][n] for n, x in enumerate(levels)]
    places = [waves(*x.shape[2:], x.shape[1]) for x in levels]
    query, own = t[f"{head}.query_feat.weight"], t[f"{head}.query_embed.weight"]

    def answered() -> tuple[torch.Tensor, torch.Tensor]:
        said = norm(t, f"{head}.transformer_decoder.post_norm", query)
        kernel = said
        for number in (0, 2, 4):
            kernel = linear(t, f"{head}.mask_embed.{number}", F.relu(kernel) if number else kernel)
        return linear(t, f"{head}.cls_embed", said), torch.einsum("qc,chw->qhw", kernel, mask_features[0])

    for layer in range(layers):
        level = layer % 3
        masks = F.interpolate(answered()[1][None], levels[level].shape[2:], mode="bilinear", align_corners=False)[0]
        hidden = masks.flatten(1).sigmoid() < 0.5
        hidden[hidden.all(dim=1)] = False  # a query whose mask is empty may look everywhere
        name = f"{head}.transformer_decoder.layers.{layer}"
        seen = attention(t, f"{name}.attentions.0", query + own, memory[level] + places[level], memory[level], hidden)
        query = norm(t, f"{name}.norms.0", query + seen)
        query = norm(
            t, f"{name}.norms.1", query + attention(t, f"{name}.attentions.1", query + own, query + own, query)
        )
        wide = F.relu(linear(t, f"{name}.ffns.0.layers.0.0", query))
        query = norm(t, f"{name}.norms.2", query + linear(t, f"{name}.ffns.0.layers.1", wide))
    return answered()

"""Attention within the samples of a pack. Every token sees all tokens of its own sample and none of another.

Shapes: N query tokens, M key tokens, S samples. The reference back end is torch's scaled-dot-product attention over runs
of equally long samples; it runs everywhere and everything else must equal it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from goku_core.models.layout import Layout, Run


def packed_attention(q: Tensor, k: Tensor, v: Tensor, queries: Layout, keys: Layout) -> Tensor:
    """q (N, heads, head_width), k and v (M, heads, head_width) -> (N, heads, head_width)."""
    parts = [_attend_run(run, q, k, v, keys) for run in queries.runs]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _attend_run(run: Run, q: Tensor, k: Tensor, v: Tensor, keys: Layout) -> Tensor:
    dense_q = q[run.tokens].unflatten(0, (run.samples, run.length)).transpose(1, 2)
    dense_k, dense_v, mask = _dense_keys(run, k, v, keys)
    out = F.scaled_dot_product_attention(dense_q, dense_k, dense_v, attn_mask=mask)
    return out.transpose(1, 2).flatten(0, 1)


def _dense_keys(run: Run, k: Tensor, v: Tensor, keys: Layout) -> tuple[Tensor, Tensor, Tensor | None]:
    """Keys and values of a run's samples as (samples, heads, length, head_width), and a mask where lengths differ."""
    lengths = keys.lengths[run.members]
    first = sum(keys.lengths[: run.first_sample])
    total = sum(lengths)
    k, v = k[first : first + total], v[first : first + total]
    longest = max(lengths)
    if min(lengths) == longest:
        shape = (run.samples, longest)
        return k.unflatten(0, shape).transpose(1, 2), v.unflatten(0, shape).transpose(1, 2), None
    length = torch.tensor(lengths, device=k.device)
    position = torch.arange(longest, device=k.device)
    valid = position < length[:, None]
    start = length.cumsum(0) - length
    index = torch.where(valid, start[:, None] + position, 0)
    return k[index].transpose(1, 2), v[index].transpose(1, 2), valid[:, None, None, :]

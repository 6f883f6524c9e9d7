"""What sees what in a pack, prepared once per forward pass for all layers, and the attention over it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from goku_core.models.attention import reference
from goku_core.models.layout import Layout

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


class Scope:
    """Queries of sample s see the keys of sample s. `backend` is one of `BACKENDS`."""

    def __init__(self, queries: Layout, keys: Layout, backend: str = "sdpa") -> None:
        self.queries, self.keys, self.backend = queries, keys, backend
        self.mask: BlockMask | None = None
        if backend == "flex":
            self.mask = _document_mask(queries, keys)
        elif backend in ("varlen", "flash"):
            # Their lengths are shapes, which the compiler can leave open; as plain numbers each would be compiled anew.
            queries.longest, keys.longest  # noqa: B018


def packed_attention(q: Tensor, k: Tensor, v: Tensor, scope: Scope) -> Tensor:
    """q (N, heads, head_width), k and v (M, heads, head_width) -> (N, heads, head_width)."""
    queries, keys = scope.queries, scope.keys
    if scope.backend == "sdpa":
        if torch.compiler.is_compiling():
            return reference.attend_opaque(q, k, v, queries.cu_seqlens, keys.cu_seqlens)
        return reference.attend(q, k, v, queries, keys)
    if scope.backend == "flex":
        dense = (x.transpose(0, 1)[None] for x in (q, k, v))
        return _flex(q.device.type)(*dense, block_mask=scope.mask)[0].transpose(0, 1)
    arguments = (q, k, v, queries.cu_seqlens, keys.cu_seqlens, queries.longest.shape[0], keys.longest.shape[0])
    if scope.backend == "varlen":
        from torch.nn.attention.varlen import varlen_attn

        return varlen_attn(*arguments)
    from flash_attn import flash_attn_varlen_func

    return flash_attn_varlen_func(*arguments)


def _document_mask(queries: Layout, keys: Layout) -> BlockMask:
    """Query token i sees key token j where both belong to the same sample."""
    from torch.nn.attention.flex_attention import create_block_mask

    of_query, of_key = queries.sample_of_token, keys.sample_of_token

    def same_sample(batch: Tensor, head: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return of_query[i] == of_key[j]

    return create_block_mask(same_sample, None, None, len(of_query), len(of_key), device=of_query.device)


def _flex(device: str) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return _compiled_flex() if device == "cuda" and not torch.compiler.is_compiling() else flex_attention


@lru_cache(maxsize=1)
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)

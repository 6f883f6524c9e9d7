"""Attention within the samples of a pack: every token sees all tokens of its own sample and none of another.

One function over several back ends. `sdpa` runs everywhere and is the reference; every other one must equal it.

    sdpa    torch's scaled-dot-product attention over runs of equally long samples
    varlen  torch's variable-length attention: FlashAttention 2, or 3 where its kernels are installed (CUDA, half precision)
    flash   the package flash-attn (CUDA, half precision)
    flex    torch's FlexAttention with a document mask (CUDA; on a CPU values only, for comparison)

Shapes: N query tokens, M key tokens, S samples.
"""

from goku_core.models.attention.choice import BACKENDS, choose, resolve
from goku_core.models.attention.scope import Scope, packed_attention
from goku_core.models.attention.ulysses import SequenceParallel, attention_over_ranks

__all__ = ["BACKENDS", "Scope", "SequenceParallel", "attention_over_ranks", "choose", "packed_attention", "resolve"]

"""Recomputation: blocks whose intermediate values are computed again in the backward pass instead of being kept.

What is kept is decided by the operator alone. No count of calls takes part in it: one that forward pass and recomputation
share makes the second decide otherwise than the first, and gradients silently wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

Recomputation = Literal["none", "selective", "full"]

# Selective: results of the dear operators are kept, the cheap elementwise ones between them are computed again. Matrix products,
# attention and the exchange between ranks, by every name that they run under here.
PRODUCTS = ("mm", "addmm", "bmm", "linear")
ATTENTION = ("attention", "attend_by_sample", "varlen", "flash_attn", "flex_attention")
EXCHANGE = "goku.exchange"


def recomputed(block: nn.Module, mode: Recomputation, *arguments: Any) -> Tensor:
    """block(*arguments), where the backward pass recomputes what `mode` does not keep."""
    if mode not in get_args(Recomputation):
        raise ValueError(f'recomputation "{mode}": known are {", ".join(get_args(Recomputation))}')
    if mode == "none" or not torch.is_grad_enabled():
        return block(*arguments)
    # No random numbers are drawn in a block, so there is no random state to restore.
    call = partial(checkpoint, block, *arguments, use_reentrant=False, preserve_rng_state=False)
    return call() if mode == "full" else call(context_fn=partial(create_selective_checkpoint_contexts, keep_dear))


def keep_dear(context: Any, operator: Callable[..., Any], *arguments: Any, **named: Any) -> CheckpointPolicy:
    """The policy of "selective"."""
    kind = kind_of(operator)
    if _tally is not None and not context.is_recompute:
        _tally.seen[kind] += 1
    return CheckpointPolicy.PREFER_RECOMPUTE if kind == "cheap" else CheckpointPolicy.MUST_SAVE


def kind_of(operator: Callable[..., Any]) -> Literal["product", "attention", "exchange", "cheap"]:
    name = getattr(operator, "_opname", "") or str(operator)
    if name in PRODUCTS:
        return "product"
    if any(part in name for part in ATTENTION):
        return "attention"
    return "exchange" if EXCHANGE in str(operator) else "cheap"


@dataclass
class Tally:
    """Calls by kind that the policy has seen in forward passes: all but the cheap ones were kept."""

    seen: Counter[str] = field(default_factory=Counter)


_tally: Tally | None = None


@contextmanager
def counted() -> Iterator[Tally]:
    """Counts, meanwhile, what selective recomputation keeps. For looking only: nothing is decided by it."""
    global _tally
    before, _tally = _tally, Tally()
    try:
        yield _tally
    finally:
        _tally = before


def check_kept(tally: Tally, blocks: int, text: bool, heads: bool = True) -> None:
    """Raises RuntimeError unless the matrix products and attentions of `blocks` blocks were kept, and cheap operators were not.
    `heads`: False on a rank that has no head of the self-attention.

    A pattern of names that matches nothing under some kernel is no error by itself: the memory goes up, or the time, and no
    result shows why.
    """
    wanted = {"product": 8 if text else 5, "attention": text + heads}
    missing = [f"{tally.seen[kind]} {kind}s" for kind, each in wanted.items() if tally.seen[kind] < each * blocks]
    if missing or not tally.seen["cheap"]:
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.seen.items())) or "nothing"
        raise RuntimeError(
            f"selective recomputation was asked for, but of {blocks} blocks it has seen {told}: its list of operators does not "
            "know the kernels that run here"
        )

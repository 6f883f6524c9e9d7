"""Recomputation: blocks whose intermediate values are computed again in the backward pass instead of being kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

Recomputation = Literal["none", "selective", "full"]

# Selective: results of the dear operators are kept, the cheap elementwise ones between them are computed again. Matrix products
# and attention, by every name that attention runs under here.
KEPT = ("mm", "addmm", "bmm", "linear")
KEPT_IN_NAME = ("attention", "attend_by_sample", "varlen", "flash_attn", "flex_attention")


def recomputed(block: nn.Module, mode: Recomputation, *arguments: Any) -> Tensor:
    """block(*arguments), where the backward pass recomputes what `mode` does not keep."""
    if mode not in get_args(Recomputation):
        raise ValueError(f'recomputation "{mode}": known are {", ".join(get_args(Recomputation))}')
    if mode == "none" or not torch.is_grad_enabled():
        return block(*arguments)
    # No random numbers are drawn in a block, so there is no random state to restore.
    call = partial(checkpoint, block, *arguments, use_reentrant=False, preserve_rng_state=False)
    return call() if mode == "full" else call(context_fn=partial(create_selective_checkpoint_contexts, keep_dear))


def keep_dear(_: Any, operator: Callable[..., Any], *arguments: Any, **named: Any) -> CheckpointPolicy:
    """The policy of "selective"."""
    name = getattr(operator, "_opname", "") or str(operator)
    dear = name in KEPT or any(part in name for part in KEPT_IN_NAME)
    return CheckpointPolicy.MUST_SAVE if dear else CheckpointPolicy.PREFER_RECOMPUTE

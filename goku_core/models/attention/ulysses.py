"""Sequence parallelism over a pack (Ulysses; paper section 3): its tokens lie on several ranks, in slices of any length.

Everything but self-attention works on single tokens and stays on the rank that holds them. For self-attention an all-to-all
gives each rank all tokens with a share of the heads; it attends as one process would, with whichever back end, and a second
all-to-all gives each rank its own tokens with all heads. Neither tokens nor heads have to divide by the number of ranks (28
heads on 8 ranks are 4, 4, 4, 4, 3, 3, 3, 3); a rank may even get none.

The backward pass of an exchange is the opposite exchange, so a gradient is that of one process: each rank's gradient of a
weight is the share of its own tokens, and the gradient of the pack is the plain sum over ranks.

Shapes: N tokens of the pack, n of them on this rank, S samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import _resolve_process_group

from goku_core.models.attention.scope import Scope, packed_attention


def shares(whole: int, ranks: int) -> list[int]:
    """`whole` in parts that differ by one at most, the larger ones first: 28 over 8 -> 4, 4, 4, 4, 3, 3, 3, 3."""
    least, over = divmod(whole, ranks)
    return [least + (rank < over) for rank in range(ranks)]


class SequenceParallel:
    """A pack spread over the ranks of `group`, each with a slice of its tokens.

    cu_seqlens  (S+1,) int32: the samples of the whole pack
    tokens      how many tokens each rank holds, in order
    """

    def __init__(self, group: dist.ProcessGroup, cu_seqlens: Tensor) -> None:
        self.name, self.rank, self.ranks = group.group_name, group.rank(), group.size()
        self.cu_seqlens = cu_seqlens
        self.tokens = shares(int(cu_seqlens[-1]), self.ranks)

    @property
    def first(self) -> int:
        """Place in the pack of this rank's first token."""
        return sum(self.tokens[: self.rank])


def attention_over_ranks(q: Tensor, k: Tensor, v: Tensor, scope: Scope, spread: SequenceParallel) -> Tensor:
    """q, k, v (n, heads, head_width) of this rank's tokens -> (n, heads, head_width). `scope` is that of the whole pack."""
    heads = shares(q.shape[1], spread.ranks)
    q, k, v = _to_heads(torch.stack((q, k, v), dim=1), heads, spread).unbind(1)
    # A rank without heads takes part in the exchanges, as the others wait for it, but has nothing to attend with.
    out = packed_attention(q, k, v, scope) if heads[spread.rank] else v
    return _to_tokens(out, heads, spread)


def _to_heads(x: Tensor, heads: list[int], spread: SequenceParallel) -> Tensor:
    """(n, 3, heads, head_width) of this rank's tokens -> (N, 3, this rank's heads, head_width)."""
    each, own, width = 3 * x.shape[-1], heads[spread.rank], x.shape[-1]
    send = [x.shape[0] * share * each for share in heads]
    receive = [tokens * own * each for tokens in spread.tokens]
    parts = torch.cat([part.flatten() for part in x.split(heads, dim=2)])
    return exchange(parts, send, receive, spread.name).view(sum(spread.tokens), 3, own, width)


def _to_tokens(x: Tensor, heads: list[int], spread: SequenceParallel) -> Tensor:
    """(N, this rank's heads, head_width) -> (n, heads, head_width) of this rank's tokens."""
    tokens, width = spread.tokens[spread.rank], x.shape[-1]
    send = [count * x.shape[1] * width for count in spread.tokens]
    receive = [tokens * share * width for share in heads]
    parts = exchange(x.flatten(), send, receive, spread.name).split(receive)
    return torch.cat([part.view(tokens, share, width) for part, share in zip(parts, heads, strict=True)], dim=1)


# An operator of its own, so that the compiler leaves it whole and selective recomputation keeps its result: what it costs is
# the network between ranks.
@torch.library.custom_op("goku::exchange", mutates_args=())
def exchange(x: Tensor, send: Sequence[int], receive: Sequence[int], group: str) -> Tensor:
    """x (sum(send),): `send[i]` values go to rank i of the group and `receive[i]` come from it -> (sum(receive),)."""
    out = x.new_empty(sum(receive))
    dist.all_to_all_single(out, x.contiguous(), list(receive), list(send), group=_resolve_process_group(group))
    return out


@exchange.register_fake
def _(x: Tensor, send: Sequence[int], receive: Sequence[int], group: str) -> Tensor:
    return x.new_empty(sum(receive))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.send, ctx.receive, ctx.group = inputs


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return exchange(grad, ctx.receive, ctx.send, ctx.group), None, None, None


exchange.register_autograd(_backward, setup_context=_setup)

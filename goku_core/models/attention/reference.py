"""The reference: torch's scaled-dot-product attention, sample by sample, neighbours of equal length together."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from goku_core.models.layout import Layout, Run


def attend(q: Tensor, k: Tensor, v: Tensor, queries: Layout, keys: Layout) -> Tensor:
    """q (N, heads, head_width), k and v (M, heads, head_width) -> (N, heads, head_width)."""
    # Split, not sliced: the gradient of a split is one concatenation, that of each slice a whole tensor of zeros.
    of_keys = [sum(keys.lengths[run.members]) for run in queries.runs]
    pieces = zip(
        queries.runs,
        q.split([run.samples * run.length for run in queries.runs]),
        k.split(of_keys),
        v.split(of_keys),
        strict=True,
    )
    parts = [_attend_run(*piece, keys) for piece in pieces]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _attend_run(run: Run, q: Tensor, k: Tensor, v: Tensor, keys: Layout) -> Tensor:
    """q, k, v: of this run alone."""
    dense_q = q.unflatten(0, (run.samples, run.length)).transpose(1, 2)
    dense_k, dense_v, mask = _dense_keys(run, k, v, keys)
    out = F.scaled_dot_product_attention(dense_q, dense_k, dense_v, attn_mask=mask)
    return out.transpose(1, 2).flatten(0, 1)


def _dense_keys(run: Run, k: Tensor, v: Tensor, keys: Layout) -> tuple[Tensor, Tensor, Tensor | None]:
    """A run's keys and values as (samples, heads, length, head_width), and a mask where lengths differ."""
    lengths = keys.lengths[run.members]
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


# The compiler sees the reference as one operator: its loops over lengths would otherwise be compiled anew for every pack.
# Operators run below autograd, so the backward pass is written out; it computes the forward pass again, which costs little
# beside what the compiler gains elsewhere.
@torch.library.custom_op("goku::attend_by_sample", mutates_args=())
def attend_opaque(q: Tensor, k: Tensor, v: Tensor, cu_queries: Tensor, cu_keys: Tensor) -> Tensor:
    """`attend` for compiled code; layouts as cu_seqlens (S+1,)."""
    return attend(q, k, v, Layout(cu_queries), Layout(cu_keys)).contiguous()


@attend_opaque.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, cu_queries: Tensor, cu_keys: Tensor) -> Tensor:
    return torch.empty_like(q, memory_format=torch.contiguous_format)


@torch.library.custom_op("goku::attend_by_sample_backward", mutates_args=())
def _gradients(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, cu_queries: Tensor, cu_keys: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    if q.device.type != "cpu":
        raise RuntimeError(
            f'compiled training with attention "sdpa" runs on a CPU only, not on {q.device.type}: use "varlen"'
        )
    queries, keys = Layout(cu_queries), Layout(cu_keys)
    grads = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
    for run in queries.runs:
        dense = q[run.tokens].unflatten(0, (run.samples, run.length)).transpose(1, 2)
        first = sum(keys.lengths[: run.first_sample])
        own = slice(first, first + sum(keys.lengths[run.members]))
        dense_k, dense_v, mask = _dense_keys(run, k[own], v[own], keys)
        upstream = grad[run.tokens].unflatten(0, (run.samples, run.length)).transpose(1, 2)
        _add_gradients(grads, run, keys, _dense_gradients(upstream, dense, dense_k, dense_v, mask))
    return grads


def _dense_gradients(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
    """Gradients of dense attention by torch's own CPU kernel; all (samples, heads, length, head_width)."""
    if mask is not None:
        mask = torch.zeros(mask.shape, dtype=q.dtype).masked_fill(~mask, float("-inf")).expand(*q.shape[:3], k.shape[2])
    out, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, False, attn_mask=mask)
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
        grad.contiguous(), q, k, v, out, log_sum, 0.0, False, attn_mask=mask
    )


def _add_gradients(grads: tuple[Tensor, ...], run: Run, keys: Layout, dense: tuple[Tensor, ...]) -> None:
    grad_q, grad_k, grad_v = (x.transpose(1, 2) for x in dense)
    grads[0][run.tokens] = grad_q.flatten(0, 1)
    first = sum(keys.lengths[: run.first_sample])
    for sample, length in enumerate(keys.lengths[run.members]):
        grads[1][first : first + length] = grad_k[sample, :length]
        grads[2][first : first + length] = grad_v[sample, :length]
        first += length


@_gradients.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, cu_queries: Tensor, cu_keys: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return (*_gradients(grad, *ctx.saved_tensors), None, None)


def _setup(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


attend_opaque.register_autograd(_backward, setup_context=_setup)

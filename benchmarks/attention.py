"""Attention within the samples of a pack, forward and backward, against the same samples padded to one length.

Measures the claim: packed attention costs what its samples cost, and nothing for padding. Sides: ours with each back
end that runs here; torch's scaled-dot-product attention over the padded batch, keys of padding masked; the same through
diffusers' dispatcher, where it is installed; and over the whole pack at once with a block-diagonal mask (up to 8k
tokens). For one sequence without padding all do the same work. Heads of the 2b model.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measuring import peer
from benchmarks.measuring.options import DTYPES, parser, settle
from benchmarks.measuring.packs import SIZES, SMALL_CONFIG, Pack, Size, chosen_sizes
from benchmarks.measuring.result import Result
from goku_core.models import CONFIGS
from goku_core.models.attention import BACKENDS, Scope, choose, packed_attention
from goku_core.models.layout import Layout

CLAIM = "Packed attention against padded attention, forward and backward, tokens of samples (not of padding) per second"
MASK_UP_TO = 8192  # tokens; a block-diagonal mask of 14k tokens takes 0.8 GiB in float32


def main(arguments: list[str] | None = None) -> Result:
    options = parser("attention", __doc__)
    options.add_argument("--sizes", nargs="+", choices=tuple(SIZES), default=["2k", "8k", "14k"])
    options = settle(options.parse_args(arguments))
    result = Result("attention", CLAIM, options)
    config = SMALL_CONFIG if options.small else CONFIGS["2b"]
    if not peer.installed():
        result.note(peer.MISSING)
    for size in chosen_sizes(options):
        _one_sequence(result, size, config.heads, config.head_width)
        _mixed(result, size, config.heads, config.head_width)
    result.finish()
    return result


def _one_sequence(result: Result, size: Size, heads: int, width: int) -> None:
    pack = size.one()
    sides = _packed_sides(result, pack, heads, width)
    pairs = []
    if peer.installed():
        sides["diffusers"] = _dispatched(result, pack, heads, width, masked=False)
        pairs = [(name, "diffusers") for name in sides if name != "diffusers"]
    _measure(result, f"{size.name}, one sequence", size, pack, sides, pairs)


def _mixed(result: Result, size: Size, heads: int, width: int) -> None:
    pack = size.mixed()
    ours = _packed_sides(result, pack, heads, width)
    others = {"torch padded": _padded(result, pack, heads, width, F.scaled_dot_product_attention)}
    if pack.tokens <= MASK_UP_TO:
        others["torch block mask"] = _block_masked(result, pack, heads, width)
    if peer.installed():
        others["diffusers padded"] = _dispatched(result, pack, heads, width, masked=True)
    pairs = [(own, other) for own in ours for other in others]
    _measure(result, f"{size.name}, mixed", size, pack, ours | others, pairs)


def _measure(
    result: Result,
    case: str,
    size: Size,
    pack: Pack,
    sides: dict[str, Callable[[], None]],
    pairs: list[tuple[str, str]],
) -> None:
    repeats = result.options.repeats or size.repeats
    tokens = {"tokens": float(pack.tokens)}
    result.measure(case, sides, pairs, repeats=repeats, per_call=tokens, samples=len(pack.lengths))


def _packed_sides(result: Result, pack: Pack, heads: int, width: int) -> dict[str, Callable[[], None]]:
    """One side per back end that can run forward and backward on this device and type."""
    dtype = DTYPES[result.options.dtype]
    sides = {}
    for name in BACKENDS:
        try:
            choose(name, result.device, dtype)
        except ValueError as obstacle:
            result.note(f"goku {name} left out: {obstacle}")
            continue
        if name == "flex" and result.device.type != "cuda":
            result.note("goku flex left out: torch has no backward pass of FlexAttention on a CPU")
            continue
        layout = Layout(pack.cu_seqlens(result.device))
        scope = Scope(layout, layout, name)
        qkv, grad = _tensors(result, (pack.tokens, heads, width))
        sides[f"goku {name}"] = _forward_backward(lambda qkv=qkv, scope=scope: packed_attention(*qkv, scope), qkv, grad)
    return sides


def _padded(result: Result, pack: Pack, heads: int, width: int, attend: Callable[..., Tensor]) -> Callable[[], None]:
    samples, longest = len(pack.lengths), max(pack.lengths)
    qkv, grad = _tensors(result, (samples, heads, longest, width))
    mask = _key_mask(result, pack)
    return _forward_backward(lambda: attend(*qkv, attn_mask=mask), qkv, grad)


def _dispatched(result: Result, pack: Pack, heads: int, width: int, masked: bool) -> Callable[[], None]:
    """diffusers' own entry, as its blocks call it: (samples, tokens, heads, width)."""
    from diffusers.models.attention_dispatch import dispatch_attention_fn

    qkv, grad = _tensors(result, (len(pack.lengths), max(pack.lengths), heads, width))
    mask = _key_mask(result, pack) if masked else None
    return _forward_backward(lambda: dispatch_attention_fn(*qkv, attn_mask=mask), qkv, grad)


def _block_masked(result: Result, pack: Pack, heads: int, width: int) -> Callable[[], None]:
    qkv, grad = _tensors(result, (1, heads, pack.tokens, width))
    owner = Layout(pack.cu_seqlens(result.device)).sample_of_token
    mask = owner[:, None] == owner
    return _forward_backward(lambda: F.scaled_dot_product_attention(*qkv, attn_mask=mask), qkv, grad)


def _key_mask(result: Result, pack: Pack) -> Tensor:
    """(samples, 1, 1, longest) bool: which keys are tokens and not padding."""
    lengths = torch.tensor(pack.lengths, device=result.device)
    return (torch.arange(max(pack.lengths), device=result.device) < lengths[:, None])[:, None, None, :]


def _tensors(result: Result, shape: tuple[int, ...]) -> tuple[list[Tensor], Tensor]:
    dtype = DTYPES[result.options.dtype]
    q, k, v, grad = (torch.randn(shape, device=result.device, dtype=dtype) for _ in range(4))
    return [x.requires_grad_() for x in (q, k, v)], grad


def _forward_backward(forward: Callable[[], Tensor], inputs: list[Tensor], grad: Tensor) -> Callable[[], None]:
    return lambda: torch.autograd.grad(forward(), inputs, grad) and None


if __name__ == "__main__":
    main()

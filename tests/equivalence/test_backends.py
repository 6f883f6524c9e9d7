"""Every attention back end equals the reference, and is chosen only where it can run."""

import pytest
import torch
import torch.nn.functional as F

from goku_core.models.attention import Scope, choose, packed_attention
from goku_core.models.attention.reference import attend_opaque
from goku_core.models.layout import Layout

LENGTHS = ([5, 5, 12, 1, 7], [3, 4, 4, 1, 9])


def layout(lengths: list[int]) -> Layout:
    return Layout(torch.tensor([0, *lengths]).cumsum(0).to(torch.int32))


def inputs(dtype: torch.dtype, device: str = "cpu", width: int = 16) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = [(sum(LENGTHS[i]), 3, width) for i in (0, 1, 1)]
    return [torch.randn(s, generator=generator, dtype=dtype).to(device).requires_grad_() for s in shapes]


def by_hand(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """softmax(q k^T / sqrt(width)) v, sample by sample and head by head."""
    parts = []
    for a, b, c in zip(*(x.split(n) for x, n in zip((q, k, v), (*LENGTHS, LENGTHS[1]), strict=True)), strict=True):
        scores = torch.einsum("qhd,khd->hqk", a, b) / a.shape[-1] ** 0.5
        parts.append(torch.einsum("hqk,khd->qhd", scores.softmax(-1), c))
    return torch.cat(parts)


def values_and_gradients(function, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    out = function(*tensors)
    weight = torch.linspace(-1, 1, out.numel(), dtype=out.dtype, device=out.device).view_as(out)
    return [out, *torch.autograd.grad((out * weight).sum(), tensors)]


def test_the_reference_equals_the_formula() -> None:
    scope = Scope(layout(LENGTHS[0]), layout(LENGTHS[1]))
    ours = values_and_gradients(lambda q, k, v: packed_attention(q, k, v, scope), inputs(torch.float64))
    for mine, other in zip(ours, values_and_gradients(by_hand, inputs(torch.float64)), strict=True):
        assert (mine - other).abs().max() < 1e-10


@torch.no_grad()
def test_the_document_mask_equals_the_formula() -> None:
    """Values only: on a CPU FlexAttention has no backward pass."""
    q, k, v = (x.detach() for x in inputs(torch.float32))
    ours = packed_attention(q, k, v, Scope(layout(LENGTHS[0]), layout(LENGTHS[1]), "flex"))
    assert (ours - by_hand(q, k, v)).abs().max() < 2e-6


def test_what_the_compiler_sees_equals_the_reference() -> None:
    queries, keys = layout(LENGTHS[0]), layout(LENGTHS[1])
    opaque = values_and_gradients(
        lambda q, k, v: attend_opaque(q, k, v, queries.cu_seqlens, keys.cu_seqlens), inputs(torch.float64)
    )
    for mine, other in zip(opaque, values_and_gradients(by_hand, inputs(torch.float64)), strict=True):
        assert (mine - other).abs().max() < 1e-10
    with torch.no_grad():
        q, k, v = (x.detach() for x in inputs(torch.float64))
        torch.library.opcheck(attend_opaque, (q, k, v, queries.cu_seqlens, keys.cu_seqlens))


@pytest.mark.parametrize("backend", ["varlen", "flash", "flex"])
def test_back_ends_of_the_gpu_equal_the_reference(backend: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    try:
        choose(backend, torch.device("cuda"), torch.bfloat16)
    except ValueError as error:
        pytest.skip(str(error))
    queries, keys = (Layout(layout(n).cu_seqlens.cuda()) for n in LENGTHS)
    scope = Scope(queries, keys, backend)
    half = inputs(torch.bfloat16, "cuda", 64)
    ours = values_and_gradients(lambda q, k, v: packed_attention(q, k, v, scope), half)
    exact = [x.detach().double().requires_grad_() for x in half]
    for mine, other in zip(ours, values_and_gradients(by_hand, exact), strict=True):
        assert F.mse_loss(mine.double(), other) < 1e-4 * other.square().mean()


def test_a_back_end_that_cannot_run_says_why() -> None:
    cpu = torch.device("cpu")
    assert choose("auto", cpu, torch.float32) == ("sdpa", "variable-length kernels need CUDA, the tensors are on cpu")
    assert choose("flex", cpu, torch.float32)[0] == "flex"
    with pytest.raises(ValueError, match="need CUDA"):
        choose("flash", cpu, torch.bfloat16)
    with pytest.raises(ValueError, match="known are auto, sdpa, varlen, flash, flex"):
        choose("magic", cpu, torch.float32)

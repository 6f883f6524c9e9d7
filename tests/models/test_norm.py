"""RMSNorm with few passes against torch's own: values and gradients."""

import pytest
import torch

from goku_core.models.norm import RMSNorm
from goku_core.models.rope import rotate


@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24)])
def test_equals_the_norm_of_torch(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ours, theirs = RMSNorm(24).double(), torch.nn.RMSNorm(24, eps=1e-6).double()
    with torch.no_grad():
        ours.weight.copy_(torch.randn(24))
        theirs.weight.copy_(ours.weight)
    x = torch.randn(shape, dtype=torch.float64)
    x[..., 0, :] = 0.0  # a token of zeros has a norm of zero
    first, second = x.clone().requires_grad_(), x.clone().requires_grad_()
    grad = torch.randn(shape, dtype=torch.float64)
    one, other = ours(first), theirs(second)
    one.backward(grad)
    other.backward(grad)
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(first.grad, second.grad, rtol=1e-10, atol=1e-9)
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_differences() -> None:
    torch.manual_seed(0)
    norm = RMSNorm(6).double()
    torch.autograd.gradcheck(norm, (torch.randn(3, 6, dtype=torch.float64, requires_grad=True),))


def test_rotation_is_the_same_with_and_without_complex_numbers() -> None:
    """Half precision takes the path of the compiler and of GPUs, float32 that of the CPU."""
    torch.manual_seed(0)
    x = torch.randn(9, 2, 8)
    angle = torch.randn(9, 4)
    table = angle.cos(), angle.sin()
    even, odd = x[..., 0::2], x[..., 1::2]
    wanted = torch.empty_like(x)
    wanted[..., 0::2] = even * table[0][:, None] - odd * table[1][:, None]
    wanted[..., 1::2] = even * table[1][:, None] + odd * table[0][:, None]
    torch.testing.assert_close(rotate(x, table), wanted)
    half = x.bfloat16()
    torch.testing.assert_close(rotate(half, table), rotate(half.float(), table).bfloat16())

"""Compiled blocks and recomputed blocks give the values and gradients of plain ones; packs do not recompile them."""

import logging

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils._python_dispatch import TorchDispatchMode

from goku_core.models import Goku, GokuConfig
from goku_core.models.patches import grid_coords

CONFIG = GokuConfig(depth=2, width=32, heads=2, ffn=64, latent_channels=2, text_width=8)


def model(**settings: str) -> Goku:
    """Every weight random: at the zero gates of a fresh model most of it would not count."""
    torch.manual_seed(0)
    network = Goku(CONFIG, **settings)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    return network


def pack(grids: list[tuple[int, int, int]], words: list[int], seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    coords = torch.cat([grid_coords(grid) for grid in grids])

    def bounds(lengths: list[int]) -> torch.Tensor:
        return torch.tensor([0, *lengths]).cumsum(0).to(torch.int32)

    return (
        torch.randn(len(coords), CONFIG.token_width, generator=generator),
        coords,
        bounds([t * h * w for t, h, w in grids]),
        torch.rand(len(grids), generator=generator),
        torch.randn(sum(words), CONFIG.text_width, generator=generator),
        bounds(words),
    )


# Packs of the same 24 tokens, as steps of a fixed token budget are.
PACKS = [
    pack([(1, 2, 4), (2, 2, 4)], [3, 5]),
    pack([(1, 2, 3), (1, 2, 3), (3, 2, 2)], [2, 7, 1], 1),
    pack([(1, 4, 2), (1, 2, 2), (1, 2, 2), (1, 4, 2)], [1, 1, 4, 2], 2),
    pack([(5, 2, 2), (1, 2, 2)], [9, 9], 3),
]


def results(network: Goku, inputs: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    network.zero_grad()
    out = network(*inputs)
    out.square().sum().backward()
    return [out.detach(), *(p.grad for p in network.parameters())]


def assert_close(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert (mine - other).abs().max() <= 1e-5 * (1 + other.abs().max())


def test_compiled_equals_eager_and_is_compiled_once() -> None:
    torch._dynamo.reset()
    plain, compiled, counter = model(), model(), CompileCounterWithBackend("aot_eager")
    compiled.compile_blocks(backend=counter)
    for number, inputs in enumerate(PACKS):
        assert_close(results(compiled, inputs), results(plain, inputs))
        assert counter.frame_count == 1, f"compiled again at pack {number}"


@pytest.mark.slow
def test_compiled_to_machine_code_equals_eager() -> None:
    torch._dynamo.reset()
    plain, compiled = model(), model()
    compiled.compile_blocks()
    for inputs in PACKS[:2]:
        assert_close(results(compiled, inputs), results(plain, inputs))


class CountOperators(TorchDispatchMode):
    """Counts calls of matrix products, attention and everything."""

    def __init__(self) -> None:
        super().__init__()
        self.products = self.attention = self.all = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        self.products += "mm" in name
        self.attention += "attention" in name and "backward" not in name
        self.all += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("mode", ["selective", "full"])
def test_recomputed_equals_stored_and_recomputes_what_it_says(mode: str) -> None:
    def counted(recomputation: str) -> tuple[list[torch.Tensor], CountOperators]:
        with CountOperators() as counts:
            return results(model(recomputation=recomputation), PACKS[1]), counts

    (stored, before), (recomputed, after) = counted("none"), counted(mode)
    for mine, other in zip(recomputed, stored, strict=True):
        assert torch.equal(mine, other)
    assert after.all > before.all
    if mode == "selective":
        assert (after.products, after.attention) == (before.products, before.attention)
    else:
        assert after.products > before.products and after.attention > before.attention


def test_the_back_end_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    from goku_core.models.attention import resolve

    resolve.cache_clear()
    with caplog.at_level(logging.INFO, logger="goku_core.models.attention"):
        model()(*PACKS[0])
        model()(*PACKS[1])
    said = [r.getMessage() for r in caplog.records if r.getMessage().startswith("attention: ")]
    assert said == ["attention: sdpa on cpu in float32 (variable-length kernels need CUDA, the tensors are on cpu)"]


def test_unknown_recomputation_is_refused() -> None:
    with pytest.raises(ValueError, match="known are none, selective, full"):
        model(recomputation="some")(*PACKS[0])

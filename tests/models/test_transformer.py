"""The transformer: what it is conditioned on, in which precision it modulates, what it keeps in memory."""

import pytest
import torch
import torch.nn.functional as F

from goku_core.models import Goku, GokuConfig
from goku_core.models.layout import Layout
from goku_core.models.patches import grid_coords
from goku_core.models.rope import RopeTables, rope_table
from goku_core.models.transformer import modulate

TEXT = GokuConfig(depth=2, width=32, heads=2, ffn=64, latent_channels=2, text_width=8)
LABELS = GokuConfig(depth=2, width=32, heads=2, ffn=64, latent_channels=2, text_width=0, classes=5)
BOUNDS = torch.tensor([0, 6, 12], dtype=torch.int32)
COORDS = grid_coords((1, 2, 3)).repeat(2, 1)


def model(config: GokuConfig) -> Goku:
    torch.manual_seed(0)
    network = Goku(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    return network


def tokens(config: GokuConfig) -> torch.Tensor:
    return torch.randn(12, config.token_width, generator=torch.Generator().manual_seed(1))


def test_a_class_label_conditions_its_own_sample() -> None:
    network = model(LABELS)
    assert not any("cross_attention" in name for name, _ in network.named_parameters())

    def velocity(labels: list[int]) -> torch.Tensor:
        return network(tokens(LABELS), COORDS, BOUNDS, torch.tensor([0.2, 0.7]), label=torch.tensor(labels))

    one, other, null = velocity([0, 1]), velocity([0, 4]), velocity([LABELS.classes, 1])
    assert torch.equal(one[:6], other[:6]) and not torch.allclose(one[6:], other[6:])
    assert not torch.allclose(one[:6], null[:6]) and torch.equal(one[6:], null[6:])


def test_a_condition_that_the_model_does_not_know_is_refused() -> None:
    arguments = (COORDS, BOUNDS, torch.tensor([0.2, 0.7]))
    with pytest.raises(ValueError, match="needs text: text_width=8"):
        model(TEXT)(tokens(TEXT), *arguments)
    with pytest.raises(ValueError, match="needs labels: classes=5"):
        model(LABELS)(tokens(LABELS), *arguments)
    with pytest.raises(ValueError, match="no image condition"):
        model(LABELS)(tokens(LABELS), *arguments, label=torch.tensor([0, 1]), condition=tokens(LABELS))


def test_modulation_in_half_precision_is_computed_in_float32() -> None:
    """A gate of 1/1000 on a residual would be lost in bfloat16's 8 bits if it were rounded on the way."""
    network = model(TEXT).bfloat16()
    time = torch.randn(2, 32, dtype=torch.bfloat16)
    modulation = network.blocks[0].modulation
    chunks = modulation(time)
    assert {c.dtype for c in chunks} == {torch.float32}
    exact = F.linear(F.silu(time.double()), modulation.linear.weight.double(), modulation.linear.bias.double())
    assert (torch.cat(chunks, -1) - exact).abs().max() < 1e-5
    x = torch.randn(12, 32, dtype=torch.bfloat16)
    modulated = modulate(x, chunks[0], chunks[1], Layout(BOUNDS))
    sample = torch.tensor([0] * 6 + [1] * 6)
    by_hand = (x.float() * (1 + chunks[1][sample]) + chunks[0][sample]).bfloat16()
    assert torch.equal(modulated, by_hand)


def test_rotary_tables_equal_the_formula_and_stay_float32() -> None:
    coords = torch.tensor([[0, 0, 0], [24, 44, 79], [7, 1, 300]])
    network = model(TEXT).bfloat16()
    for looked_up, computed in zip(RopeTables(64)(coords), rope_table(coords, 64), strict=True):
        assert torch.equal(looked_up, computed) and looked_up.dtype == torch.float32
    assert {table.dtype for table in network.rope(coords)} == {torch.float32}
    assert not any("rope" in name for name in network.state_dict())


def test_modulation_makes_no_copies_per_token_of_all_chunks() -> None:
    """No tensor of (tokens, 6 d), the size that would dominate memory at long sequences, is ever made."""
    network = model(TEXT)
    sizes: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                sizes.append(out.numel())
            return out

    n, samples = 512, 4
    bounds = torch.arange(0, n + 1, n // samples, dtype=torch.int32)
    arguments = (torch.randn(n, TEXT.token_width), grid_coords((8, 4, 4)).repeat(4, 1), bounds, torch.rand(samples))
    text = (torch.randn(samples, 8), torch.arange(samples + 1, dtype=torch.int32))
    with torch.no_grad(), Watch():
        network(*arguments, *text)
    widest = 96  # of qkv; fc1 is 64 wide
    assert max(sizes) == n * widest < n * 6 * TEXT.width

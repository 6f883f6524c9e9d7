"""What a sample costs: counted by torch for one, found again in made-up times for the other."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from goku_core.models import Goku, GokuConfig
from goku_core.models.patches import grid_coords
from goku_core.packing import fit, flop_cost

CONFIG = GokuConfig(depth=1, width=48, heads=2, ffn=160, latent_channels=4, text_width=32)


def counted(config: GokuConfig, tokens: int) -> int:
    """FLOP of a forward pass over one sample with one text token."""
    model = Goku(config)
    coords = grid_coords((1, 1, tokens))
    bounds, one = torch.tensor([0, tokens], dtype=torch.int32), torch.tensor([0, 1], dtype=torch.int32)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(
            torch.randn(tokens, config.token_width),
            coords,
            bounds,
            torch.rand(1),
            torch.randn(1, config.text_width),
            one,
        )
    return counter.get_total_flops()


@pytest.mark.parametrize("tokens", [16, 40])
def test_flop_of_a_block_are_those_that_torch_counts(tokens: int) -> None:
    width = CONFIG.width
    linear, quadratic = flop_cost(width, CONFIG.ffn)
    block = counted(replace(CONFIG, depth=2), tokens) - counted(CONFIG, tokens)
    with_text = (
        4 * width * tokens + 4 * CONFIG.text_width * width
    )  # scores and values; keys and values of one text token
    assert block == linear * tokens + quadratic * tokens**2 + with_text + 12 * width * width  # modulation of one sample


def test_the_fit_finds_what_the_times_were_made_of() -> None:
    packs = [[256] * 16, [4096], [1024, 512, 256], [8192, 64], [300, 5000]]
    seconds = [3e-7 * sum(pack) + 2e-11 * sum(n * n for n in pack) for pack in packs]
    found = fit(packs, seconds)
    assert (found.linear, found.quadratic) == (pytest.approx(3e-7), pytest.approx(2e-11))
    assert found.r_squared == pytest.approx(1) and found.worst < 1e-9
    noisy = [value * (1 + 0.01 * (-1) ** place) for place, value in enumerate(seconds)]
    found = fit(packs, noisy)
    assert found.linear == pytest.approx(3e-7, rel=0.1) and found.quadratic == pytest.approx(2e-11, rel=0.1)
    assert 0.99 < found.r_squared < 1 and 0.005 < found.worst < 0.03


def test_no_part_of_the_cost_is_negative() -> None:
    """Times that grow slower than tokens (a machine that is faster on long packs) are told as linear ones."""
    found = fit([[100], [1000], [10_000]], [1e-3, 9e-3, 80e-3])
    assert found.quadratic == 0 and found.linear == pytest.approx(9e-6, rel=0.1)


def test_what_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="two or more"):
        fit([[10]], [1.0])
    with pytest.raises(ValueError, match="same ratio"):
        fit([[10], [10, 10], [10] * 5], [1.0, 2.0, 5.0])
    assert np.isfinite(fit([[10], [20]], [1.0, 3.0]).r_squared)

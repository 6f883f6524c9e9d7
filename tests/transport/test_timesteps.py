"""Laws of the training time and the shift by size, against their densities, formulas and a second implementation."""

import math

import pytest
import torch

from goku_core.transport import shift_by_law, shift_of_size, shift_time, timestep_of_uniform

DRAWS = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000


def test_logit_normal_has_its_median_where_it_says() -> None:
    times = timestep_of_uniform(DRAWS, "logit-normal", location=0.5, scale=0.8)
    logits = torch.logit(times)
    assert logits.mean().item() == pytest.approx(0.5, abs=1e-3)
    assert logits.std().item() == pytest.approx(0.8, abs=1e-2)
    assert torch.equal(timestep_of_uniform(DRAWS, "uniform"), DRAWS)


@pytest.mark.parametrize("scale", [-1.0, -0.4, 0.0, 0.8, 1.29, 1.75])
def test_mode_law(scale: float) -> None:
    times = timestep_of_uniform(DRAWS, "mode", scale=scale)
    assert (times.diff() >= -1e-12).all() and times[0] >= -1e-9 and times[-1] <= 1 + 1e-9
    assert torch.allclose(times + times.flip(0), torch.ones_like(times))  # symmetric: noise and data alike
    # Density at 1/2 is the inverse slope of the map there.
    width = 0.002
    share = ((times - 0.5).abs() < width / 2).double().mean().item()
    if scale < 1.5:
        assert share / width == pytest.approx(1 / (1 + scale * (1 - math.pi / 2)), rel=0.03)
    # Unlike logit-normal it keeps times next to both ends.
    assert scale < -0.9 or (times < 0.01).double().mean() > 0.003


def test_mode_law_is_that_of_sd3() -> None:
    """Their time counts noise: f(u) = 1 - u - s (cos^2(pi u / 2) - 1 + u) is the level 1 - t here."""
    theirs = 1 - DRAWS - 1.29 * (torch.cos(math.pi * DRAWS / 2) ** 2 - 1 + DRAWS)
    assert torch.allclose(1 - theirs, timestep_of_uniform(DRAWS, "mode", scale=1.29))


def test_laws_refuse_what_they_cannot_have() -> None:
    with pytest.raises(ValueError, match="known are uniform, logit-normal, mode"):
        timestep_of_uniform(DRAWS, "cosine")
    with pytest.raises(ValueError, match=r"between -1 and 1\.75"):
        timestep_of_uniform(DRAWS, "mode", scale=1.8)
    with pytest.raises(ValueError, match="above 0"):
        timestep_of_uniform(DRAWS, "logit-normal", scale=0.0)


def test_shift_keeps_ends_and_moves_towards_noise() -> None:
    times = torch.linspace(0, 1, 11)
    shifted = shift_time(times, 3.0)
    assert shifted[0] == 0 and shifted[-1] == 1
    assert (shifted[1:-1] < times[1:-1]).all()
    assert torch.allclose(shift_time(times, 1.0), times)


def test_shift_by_size_makes_sizes_equally_uncertain() -> None:
    """SD3's reasoning: of n equal values c with noise, the mean of x / t tells c up to (1-t)/t * 1/sqrt(n)."""
    times = torch.linspace(0.05, 0.95, 19, dtype=torch.float64)
    small, large = 256, 4096
    shifted = shift_time(times, shift_of_size(large, small))
    assert torch.allclose((1 - shifted) / shifted / math.sqrt(large), (1 - times) / times / math.sqrt(small))
    assert shift_of_size(large, small) == 4.0
    # Per sample of a pack, as training needs it.
    per_sample = shift_by_law(2.0, "tokens", torch.tensor([small, large]), small)
    assert torch.allclose(per_sample, torch.tensor([2.0, 8.0]))
    assert shift_by_law(2.0, "constant", torch.tensor([small, large]), small) == 2.0
    with pytest.raises(ValueError, match="above 0"):
        shift_of_size(0, small)
    with pytest.raises(ValueError, match="constant, tokens"):
        shift_by_law(1.0, "pixels", 1, 1)

"""DDPM and its samplers on Gaussian data, where the best prediction of the noise and the exact map are known."""

import gaussian_flow as gaussian
import pytest
import torch
from torch import Tensor

from goku_core.transport import DDPM, RectifiedFlow, ancestral, ddim

FLOW = DDPM()


def weights(level: int) -> tuple[float, float]:
    signal = FLOW.signal[level].item()
    return signal**0.5, (1 - signal) ** 0.5


def prediction(x: Tensor, time: Tensor) -> Tensor:
    """E[noise | x]."""
    return gaussian.expected(*weights(int(FLOW.level_of(time))), x)[1]


def exact_map(noise: Tensor) -> Tensor:
    """The probability-flow ODE from the noisiest level to data keeps standardised coordinates."""
    return gaussian.marginal(1.0, 0.0, gaussian.standardised(*weights(FLOW.levels - 1), noise))


def test_schedule_is_that_of_the_paper() -> None:
    """Ho et al. 2020: beta from 1e-4 to 0.02 linearly over 1000 levels leaves 4e-5 of the signal."""
    assert FLOW.signal[0].item() == pytest.approx(1 - 1e-4, abs=1e-12)
    assert (FLOW.signal[999] / FLOW.signal[998]).item() == pytest.approx(1 - 0.02, abs=1e-12)
    assert FLOW.signal[-1].item() == pytest.approx(4.0358e-5, rel=1e-3)


def test_times_are_those_of_levels_from_noise_to_data() -> None:
    time = FLOW.on_path(torch.linspace(0, 1, 50_001, dtype=torch.float32))
    levels = FLOW.level_of(time)
    assert levels[0] == 999 and levels[-1] == 0 and (levels.diff() <= 0).all()
    assert torch.equal(FLOW.time_of(levels), time)
    assert torch.equal(FLOW.on_path(torch.tensor([0.0, 1.0])), torch.tensor([0.0, 1.0]))
    counts = levels.bincount(minlength=1000)
    assert counts.min() >= 49 and counts.max() <= 51  # uniform times, every level equally often
    assert RectifiedFlow().on_path(time) is time


@pytest.mark.parametrize("level", [20, 300, 900])
def test_least_squares_on_the_target_gives_the_expected_noise(level: int) -> None:
    time = FLOW.time_of(torch.tensor(level, dtype=torch.float64))
    noise, data = gaussian.draw(100_000, 1), gaussian.data(100_000, 2)
    x = FLOW.interpolate(noise, data, time)
    ones = torch.ones(len(x), 1, dtype=torch.float64)
    fitted = torch.linalg.lstsq(torch.cat((ones, x), dim=1), FLOW.target(noise, data)).solution
    assert torch.allclose(torch.cat((ones, x), dim=1)[:50] @ fitted, prediction(x[:50], time), atol=0.03)
    best = FLOW.loss_per_token(prediction(x, time), noise, data).mean()
    assert best < FLOW.loss_per_token(0.9 * prediction(x, time), noise, data).mean()
    assert best < FLOW.loss_per_token(1.1 * prediction(x, time), noise, data).mean()


def test_data_estimate_inverts_the_path_and_is_the_expected_data() -> None:
    noise, data = gaussian.draw(9, 1), gaussian.data(9, 2)
    for level in (0, 400, 999):
        time = FLOW.time_of(torch.tensor(level, dtype=torch.float64)).expand(9, 1)
        x = FLOW.interpolate(noise, data, time)
        assert torch.allclose(FLOW.data_estimate(x, noise, time), data)
        known = gaussian.expected(*weights(level), x)[0]
        assert torch.allclose(FLOW.data_estimate(x, prediction(x, time[0]), time), known)


def test_ddim_approaches_the_map_of_the_probability_flow() -> None:
    noise = gaussian.draw(64, 3)
    errors = {n: (ddim(prediction, noise, n) - exact_map(noise)).square().mean().sqrt().item() for n in (50, 100, 1000)}
    assert errors[1000] < 3e-3
    assert errors[50] / errors[100] == pytest.approx(2.0, abs=0.1)  # first order, as Euler's


def test_ddim_of_the_one_step_is_the_data_estimate() -> None:
    noise = gaussian.draw(8, 4)
    first = FLOW.time_of(torch.tensor(999, dtype=torch.float64))
    assert torch.allclose(
        ddim(prediction, noise, 1), FLOW.data_estimate(noise, prediction(noise, first), first), atol=1e-9
    )


def test_ancestral_sampling_makes_the_data_distribution() -> None:
    samples, steps = 3000, 400
    made = ancestral(prediction, gaussian.draw(samples, 5), steps, lambda step: gaussian.draw(samples, 1000 + step))
    assert torch.allclose(made.mean(0), gaussian.MEAN, atol=0.08)
    assert torch.allclose(torch.cov(made.T), gaussian.COVARIANCE, atol=0.1)
    # Not a function of the first noise alone, as DDIM is.
    again = ancestral(prediction, gaussian.draw(8, 5), 20, lambda step: gaussian.draw(8, 2000 + step))
    same = ancestral(prediction, gaussian.draw(8, 5), 20, lambda step: gaussian.draw(8, 2000 + step))
    other = ancestral(prediction, gaussian.draw(8, 5), 20, lambda step: gaussian.draw(8, 3000 + step))
    assert torch.equal(again, same) and not torch.allclose(again, other, atol=0.1)


@pytest.mark.parametrize("level", [1, 40, 998])
def test_an_ancestral_step_draws_from_the_posterior(level: int) -> None:
    """Ho et al. 2020, eq. 7: mean and variance of the level below, given this one and the data."""
    known, x = gaussian.data(1, 6), gaussian.draw(1, 7)
    now, below = FLOW.signal[level], FLOW.signal[level - 1]
    beta = 1 - now / below
    mean = below.sqrt() * beta / (1 - now) * known + (1 - beta).sqrt() * (1 - below) / (1 - now) * x
    deviation = ((1 - below) / (1 - now) * beta).sqrt()
    # A chain that starts at `level`, told the true data; the first two states that it shows are x and the draw below.
    chain = DDPM(levels=level + 1, last_beta=1e-4 + (0.02 - 1e-4) * level / 999)
    assert torch.allclose(chain.signal, FLOW.signal[: level + 1])
    for standard in (0.0, 1.0):
        states: list[Tensor] = []

        def from_the_data(at: Tensor, time: Tensor, states: list[Tensor] = states) -> Tensor:
            states.append(at)
            signal = chain.signal[chain.level_of(time)]
            return (at - signal.sqrt() * known) / (1 - signal).sqrt()

        ancestral(from_the_data, x, level + 1, lambda step, standard=standard: torch.full_like(x, standard), chain)
        assert torch.equal(states[0], x)
        assert torch.allclose(states[1], mean + standard * deviation)


def test_steps_outside_of_the_levels_are_refused() -> None:
    for steps in (0, 1001):
        with pytest.raises(ValueError, match="between 1 and 1000"):
            ddim(prediction, gaussian.draw(1, 1), steps)

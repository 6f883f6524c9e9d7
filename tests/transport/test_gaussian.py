"""A Gaussian carried to a Gaussian has a known velocity and a known map: path, target and solvers must meet them."""

import math

import pytest
import torch

from goku_core.transport import RectifiedFlow, guided, integrate, shift_time, time_grid, timestep_of_uniform

MEAN, DEVIATION = 1.5, 0.4


def true_velocity(x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
    """E[x1 - x0 | x_t] for x0 ~ N(0, 1) and x1 ~ N(MEAN, DEVIATION^2), independent."""
    variance = (time * DEVIATION) ** 2 + (1 - time) ** 2
    gain = (time * DEVIATION**2 - (1 - time)) / variance
    return MEAN + gain * (x - time * MEAN)


def test_least_squares_on_the_target_gives_the_true_velocity() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(400_000, generator=generator, dtype=torch.float64)
    data = MEAN + DEVIATION * torch.randn(400_000, generator=generator, dtype=torch.float64)
    flow = RectifiedFlow()
    for at in (0.1, 0.5, 0.9):
        time = torch.tensor(at, dtype=torch.float64)
        x = flow.interpolate(noise, data, time)
        features = torch.stack((torch.ones_like(x), x), dim=1)
        fitted = torch.linalg.lstsq(features, flow.target(noise, data)[:, None]).solution[:, 0]
        at_zero, at_one = (true_velocity(torch.tensor(v, dtype=torch.float64), time) for v in (0.0, 1.0))
        assert fitted[0] == pytest.approx(at_zero.item(), abs=0.02)
        assert fitted.sum() == pytest.approx(at_one.item(), abs=0.02)


def test_integration_carries_noise_to_data() -> None:
    noise = torch.linspace(-3, 3, 101, dtype=torch.float64)
    # The exact map of two Gaussians in one dimension: quantile to quantile.
    reached = integrate(true_velocity, noise, time_grid(400), "heun")
    assert torch.allclose(reached, MEAN + DEVIATION * noise, atol=1e-3)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_order_of_convergence(solver: str, order: int) -> None:
    noise = torch.linspace(-2, 2, 41, dtype=torch.float64)
    exact = integrate(true_velocity, noise, 0.7 * time_grid(4000), "heun")

    def error(steps: int) -> float:
        return (integrate(true_velocity, noise, 0.7 * time_grid(steps), solver) - exact).abs().max().item()

    # At least: on this symmetric path the midpoint rule's leading error nearly cancels.
    assert order - 0.25 < math.log2(error(40) / error(80)) < order + 1.25


def test_data_estimate_inverts_the_path() -> None:
    flow, noise, data = RectifiedFlow(), torch.randn(5), torch.randn(5)
    time = torch.tensor(0.3)
    x = flow.interpolate(noise, data, time)
    assert torch.allclose(flow.data_estimate(x, flow.target(noise, data), time), data, atol=1e-6)


def test_ends_of_the_path() -> None:
    flow, noise, data = RectifiedFlow(), torch.randn(4), torch.randn(4)
    assert torch.equal(flow.interpolate(noise, data, torch.tensor(0.0)), noise)
    assert torch.equal(flow.interpolate(noise, data, torch.tensor(1.0)), data)


def test_logit_normal_has_its_median_where_it_says() -> None:
    draws = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    times = timestep_of_uniform(draws, "logit-normal", location=0.5, scale=0.8)
    logits = torch.logit(times)
    assert logits.mean().item() == pytest.approx(0.5, abs=1e-3)
    assert logits.std().item() == pytest.approx(0.8, abs=1e-2)
    assert torch.equal(timestep_of_uniform(draws, "uniform"), draws)
    with pytest.raises(ValueError, match="known are"):
        timestep_of_uniform(draws, "cosine")


def test_shift_keeps_ends_and_moves_towards_noise() -> None:
    times = torch.linspace(0, 1, 11)
    shifted = shift_time(times, 3.0)
    assert shifted[0] == 0 and shifted[-1] == 1
    assert (shifted[1:-1] < times[1:-1]).all()
    assert torch.allclose(shift_time(times, 1.0), times)


def test_guidance_one_is_the_model() -> None:
    conditional, unconditional = torch.randn(3), torch.randn(3)
    assert torch.allclose(guided(conditional, unconditional, 1.0), conditional)
    assert torch.allclose(guided(conditional, unconditional, 0.0), unconditional)


def test_bad_settings_say_what_is_known() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        time_grid(0)
    with pytest.raises(ValueError, match="euler, midpoint, heun"):
        integrate(true_velocity, torch.zeros(1), time_grid(2), "rk45")

"""A Gaussian carried to a Gaussian has a known velocity and a known map: path, target and solvers must meet them."""

import math
from collections.abc import Callable

import gaussian_flow as gaussian
import pytest
import torch
from gaussian_flow import error, mixture_map, mixture_velocity

from goku_core.transport import RectifiedFlow, integrate, integrate_adaptive, time_grid
from goku_core.transport.adaptive import bogacki_shampine


def order(error_of_steps: Callable[[int], float], steps: int) -> float:
    return math.log2(error_of_steps(steps) / error_of_steps(2 * steps))


@pytest.mark.parametrize("at", [0.1, 0.5, 0.9])
def test_least_squares_on_the_target_gives_the_true_velocity(at: float) -> None:
    """The minimiser of the loss over affine functions of x_t is the conditional expectation, which is affine here."""
    flow, time = RectifiedFlow(), torch.tensor(at, dtype=torch.float64)
    noise, data = gaussian.draw(100_000, 1), gaussian.data(100_000, 2)
    x = flow.interpolate(noise, data, time)
    ones = torch.ones(len(x), 1, dtype=torch.float64)
    fitted = torch.linalg.lstsq(torch.cat((ones, x), dim=1), flow.target(noise, data)).solution
    assert torch.allclose(torch.cat((ones, x), dim=1)[:50] @ fitted, gaussian.velocity(x[:50], time), atol=0.04)
    # No other prediction has less loss: a small step away from the truth raises it.
    best = flow.loss_per_token(gaussian.velocity(x, time), noise, data).mean()
    for push in (0.2, -0.2):
        assert flow.loss_per_token(gaussian.velocity(x, time) * (1 + push), noise, data).mean() > best


@pytest.mark.parametrize(
    ("solver", "steps", "within"), [("euler", 400, 0.02), ("midpoint", 40, 1e-4), ("heun", 80, 2e-3)]
)
def test_every_solver_carries_noise_to_data(solver: str, steps: int, within: float) -> None:
    noise = gaussian.draw(64, 4)
    reached = integrate(gaussian.velocity, noise, time_grid(steps), solver)
    assert (reached - gaussian.carried(noise)).abs().max() < within


def test_the_map_of_the_optimal_velocity_makes_the_data() -> None:
    """The map in closed form, checked by its statistics: what the solvers are compared with is itself right."""
    made = gaussian.carried(gaussian.draw(200_000, 5))
    assert torch.allclose(made.mean(0), gaussian.MEAN, atol=0.02)
    assert torch.allclose(torch.cov(made.T), gaussian.COVARIANCE, atol=0.03)


@pytest.mark.parametrize(("solver", "expected"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_order_of_convergence(solver: str, expected: int) -> None:
    noise = torch.linspace(-2, 2, 41, dtype=torch.float64)

    def of_steps(steps: int) -> float:
        return error(integrate(mixture_velocity, noise, time_grid(steps), solver), mixture_map(noise))

    assert order(of_steps, 100) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize(("solver", "expected"), [("euler", 1), ("midpoint", 3), ("heun", 2)])
def test_order_of_convergence_between_gaussians(solver: str, expected: int) -> None:
    """The midpoint rule gains an order: along x = r(t) z with r^2 quadratic in t its leading error is
    z (r'''/24 + r' r''/(8 r)), and r r''' = -3 r' r''."""
    noise = gaussian.draw(64, 6)

    def of_steps(steps: int) -> float:
        return error(integrate(gaussian.velocity, noise, time_grid(steps), solver), gaussian.carried(noise))

    assert order(of_steps, 80) == pytest.approx(expected, abs=0.1)


def test_the_adaptive_pair_has_order_three_with_an_error_estimate_of_order_two() -> None:
    noise = torch.linspace(-2, 2, 41, dtype=torch.float64)
    slope = mixture_velocity(noise, torch.tensor(0.3, dtype=torch.float64))

    def of_steps(steps: int) -> float:
        x, first, length = noise, mixture_velocity(noise, torch.tensor(0.0)), 1 / steps
        for index in range(steps):
            x, first, _ = bogacki_shampine(mixture_velocity, x, first, index * length, length)
        return error(x, mixture_map(noise))

    def estimate(steps: int) -> float:
        return bogacki_shampine(mixture_velocity, noise, slope, 0.3, 1 / steps)[2].abs().max().item()

    assert order(of_steps, 100) == pytest.approx(3, abs=0.15)
    assert order(estimate, 100) == pytest.approx(3, abs=0.15)  # of one step; over all steps one order less


def test_the_adaptive_solver_meets_its_tolerance_and_pays_for_it() -> None:
    noise = torch.linspace(-2, 2, 41, dtype=torch.float64)
    costs = []
    for tolerance in (1e-3, 1e-5, 1e-7):
        seen: list[int] = []
        solved = integrate_adaptive(
            mixture_velocity, noise, tolerance=tolerance, max_evaluations=5000, on_step=seen.append
        )
        assert error(solved.x, mixture_map(noise)) < 10 * tolerance
        assert solved.evaluations == 1 + 3 * (solved.accepted + solved.rejected)
        assert seen == list(range(1, solved.accepted + 1))
        costs.append(solved.evaluations)
    # Third order: a hundredth of the tolerance costs about 100^(1/3) = 4.6 times as many steps.
    assert 3 < costs[2] / costs[1] < 7


def test_the_adaptive_solver_equals_that_of_scipy() -> None:
    integrate_ivp = pytest.importorskip("scipy.integrate").solve_ivp
    noise = torch.linspace(-2, 2, 7, dtype=torch.float64)
    evaluations = 0

    def right_side(time, x):
        nonlocal evaluations
        evaluations += 1
        return mixture_velocity(torch.from_numpy(x), torch.tensor(time)).numpy()

    peer = integrate_ivp(right_side, (0.0, 0.8), noise.numpy(), "RK23", rtol=1e-5, atol=1e-5)
    own = integrate_adaptive(mixture_velocity, noise, 0.0, 0.8, tolerance=1e-5)
    assert error(own.x, torch.from_numpy(peer.y[:, -1])) < 5e-5
    assert abs(own.evaluations - evaluations) < 0.15 * evaluations


def test_the_adaptive_solver_says_why_it_stops() -> None:
    noise = torch.linspace(-2, 2, 7, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"40 evaluations .* reached t=0\.\d+ of 1"):
        integrate_adaptive(mixture_velocity, noise, tolerance=1e-8, max_evaluations=40)
    with pytest.raises(ValueError, match="not finite between t=0"):
        integrate_adaptive(lambda x, time: x / (time * 0), noise)
    with pytest.raises(ValueError, match="tolerance > 0"):
        integrate_adaptive(mixture_velocity, noise, tolerance=0.0)


def test_data_estimate_inverts_the_path() -> None:
    flow, noise, data = RectifiedFlow(), torch.randn(5), torch.randn(5)
    time = torch.tensor(0.3)
    x = flow.interpolate(noise, data, time)
    assert torch.allclose(flow.data_estimate(x, flow.target(noise, data), time), data, atol=1e-6)


def test_ends_of_the_path() -> None:
    flow, noise, data = RectifiedFlow(), torch.randn(4), torch.randn(4)
    assert torch.equal(flow.interpolate(noise, data, torch.tensor(0.0)), noise)
    assert torch.equal(flow.interpolate(noise, data, torch.tensor(1.0)), data)


def test_bad_settings_say_what_is_known() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        time_grid(0)
    with pytest.raises(ValueError, match="euler, midpoint, heun"):
        integrate(gaussian.velocity, torch.zeros(1), time_grid(2), "rk45")

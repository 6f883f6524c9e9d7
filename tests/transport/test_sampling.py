"""The loop from noise to data: settings, where guidance acts, what a sample costs, and the preset."""

import pytest
import torch
from gaussian_flow import error, mixture_map, mixture_velocity
from torch import Tensor

from goku_core.transport import PRESETS, SamplingSettings, integrate, sample, time_grid

NOISE = torch.linspace(-2, 2, 41, dtype=torch.float64)


class Counted:
    """A velocity that remembers when it was asked."""

    def __init__(self, velocity) -> None:
        self.velocity, self.times = velocity, []

    def __call__(self, x: Tensor, time: Tensor) -> Tensor:
        self.times.append(time.item())
        return self.velocity(x, time)


def test_defaults_are_one_evaluation_per_step_of_euler_on_an_even_grid() -> None:
    pushed = Counted(mixture_velocity)
    reached = sample(None, pushed, NOISE, 28, SamplingSettings(steps=20))
    assert torch.equal(reached, integrate(mixture_velocity, NOISE, time_grid(20), "euler"))
    assert len(pushed.times) == 20


def test_guidance_acts_in_its_interval_alone() -> None:
    plain, pushed = Counted(mixture_velocity), Counted(lambda x, t: torch.ones_like(x))
    sample(plain, pushed, NOISE, 28, SamplingSettings(steps=10, guidance_interval=(0.2, 0.6)))
    assert pushed.times == pytest.approx([0.2, 0.3, 0.4, 0.5])
    assert plain.times == pytest.approx([0.0, 0.1, 0.6, 0.7, 0.8, 0.9])


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_every_step_is_told_as_a_share_of_the_way(solver: str) -> None:
    told: list[float] = []
    settings = SamplingSettings(steps=4, solver=solver)
    reached = sample(None, mixture_velocity, NOISE, 28, settings, told.append)
    assert told == [0.25, 0.5, 0.75, 1.0]
    assert torch.equal(reached, sample(None, mixture_velocity, NOISE, 28, settings)), "being told changes nothing"


def test_under_the_adaptive_solver_the_time_is_told() -> None:
    told: list[float] = []
    settings = SamplingSettings(solver="adaptive", guidance_interval=(0.25, 0.75))
    sample(Counted(mixture_velocity), mixture_velocity, NOISE, 28, settings, told.append)
    assert (told[0], max(told)) == (0.0, 1.0) and len(told) > 6


def test_the_adaptive_solver_integrates_each_piece_by_itself() -> None:
    """A velocity of 1 inside of the interval and 0 outside carries every x by the interval's length, without refusals."""
    plain, pushed = Counted(lambda x, t: torch.zeros_like(x)), Counted(lambda x, t: torch.ones_like(x))
    settings = SamplingSettings(solver="adaptive", guidance_interval=(0.25, 0.75))
    reached = sample(plain, pushed, NOISE, 28, settings)
    assert torch.allclose(reached, NOISE + 0.5)
    assert min(pushed.times) == 0.25 and max(pushed.times) == 0.75
    assert len(plain.times) + len(pushed.times) < 40
    with pytest.raises(ValueError, match="not enough at tolerance"):
        sample(plain, pushed, NOISE, 28, SamplingSettings(solver="adaptive", max_evaluations=8))
    precise = SamplingSettings(solver="adaptive", tolerance=1e-5)
    assert error(sample(None, mixture_velocity, NOISE, 28, precise), mixture_map(NOISE)) < 1e-4


def test_few_steps_go_far() -> None:
    """The preset beats Euler at equal cost, and twice the cost, on a flow that is bent and whose map is known."""
    settings = SamplingSettings.from_json({"preset": "few-step"})
    velocity = Counted(mixture_velocity)
    few = error(sample(None, velocity, NOISE, 28, settings), mixture_map(NOISE))
    assert len(velocity.times) == 8

    def euler(steps: int) -> float:
        return error(integrate(mixture_velocity, NOISE, time_grid(steps)), mixture_map(NOISE))

    assert few < 0.6 * euler(8) and few < euler(16)
    assert all(4 <= preset["steps"] <= 8 for preset in PRESETS.values())


def test_shift_by_tokens_changes_the_grid_with_the_size() -> None:
    velocity = Counted(mixture_velocity)
    settings = SamplingSettings(steps=4, shift_law="tokens", base_tokens=100)
    for tokens, second in ((100, 0.25), (400, 0.25 / (2 - 0.25)), (25, 0.25 / (0.5 + 0.5 * 0.25))):
        velocity.times.clear()
        sample(None, velocity, NOISE, tokens, settings)
        assert velocity.times[1] == pytest.approx(second)


def test_settings_of_older_models_load_with_defaults_and_unknown_ones_are_named() -> None:
    old = SamplingSettings.from_json({"steps": 20, "solver": "heun", "guidance": 2.5, "shift": 1.5})
    assert old == SamplingSettings(steps=20, solver="heun", guidance=2.5, shift=1.5)
    assert old.guidance_interval == (0.0, 1.0) and old.guidance_rescale == 0.0 and old.shift_law == "constant"
    for wrong, said in (
        ({"sampler": "x"}, "sampler: unknown; known are steps"),
        ({"solver": "rk45"}, "euler, midpoint, heun, adaptive"),
        ({"preset": "fast"}, "known are few-step"),
        ({"guidance_interval": [0.7, 0.2]}, "low < high"),
    ):
        with pytest.raises(ValueError, match=said):
            SamplingSettings.from_json(wrong)

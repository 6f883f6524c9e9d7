"""Guidance against what it means for Gaussians, whose sharpened distributions are known, and its limiting cases."""

import gaussian_flow as gaussian
import pytest
import torch

from goku_core.transport import guided, guided_by_text_and_image, integrate, rescaled, time_grid
from goku_core.transport.guidance import acts, check_interval


def test_guidance_one_is_the_model() -> None:
    conditional, unconditional, third = torch.randn(3, 4, 5).unbind(0)
    assert torch.allclose(guided(conditional, unconditional, 1.0), conditional, atol=1e-6)
    assert torch.equal(guided(conditional, unconditional, 0.0), unconditional)
    assert torch.allclose(guided_by_text_and_image(conditional, unconditional, third, 1.0, 1.0), conditional, atol=1e-6)


def test_two_scales_act_on_their_own_condition() -> None:
    both, image_only, neither = torch.randn(3, 4, 5, dtype=torch.float64).unbind(0)
    text_alone = guided_by_text_and_image(both, image_only, neither, 4.0, 1.0)
    assert torch.allclose(text_alone, guided(both, image_only, 4.0))
    image_alone = guided_by_text_and_image(image_only, image_only, neither, 4.0, 2.5)
    assert torch.allclose(image_alone, guided(image_only, neither, 2.5))


def test_guided_score_of_gaussians() -> None:
    """Guidance multiplies densities, p(x|c)^w p(x)^(1-w): for Gaussians of one variance the mean moves by w.

    Velocities are affine in scores, so the guided velocity is exactly that of data around the moved mean.
    """

    def velocity(x, time, mean):
        variance = 0.25 * time**2 + (1 - time) ** 2
        return mean + (0.25 * time - (1 - time)) / variance * (x - time * mean)

    scale, conditional, unconditional = 3.0, 1.0, 0.4
    noise = torch.linspace(-2, 2, 9, dtype=torch.float64)
    reached = integrate(
        lambda x, t: guided(velocity(x, t, conditional), velocity(x, t, unconditional), scale),
        noise,
        time_grid(200),
        "midpoint",
    )
    moved = unconditional + scale * (conditional - unconditional)
    assert torch.allclose(reached, moved + 0.5 * noise, atol=1e-5)


def test_rescale_matches_the_spread_of_each_sample() -> None:
    conditional = gaussian.draw(12, 1).view(4, 3, 3) * torch.tensor([1.0, 2.0, 0.1, 5.0])[:, None, None]
    velocity = 7.0 * conditional + gaussian.draw(12, 2).view(4, 3, 3)
    whole = rescaled(velocity, conditional, 1.0)
    assert torch.allclose(whole.flatten(1).std(1), conditional.flatten(1).std(1))
    # The direction stays, and what lies between is the mixture of both.
    assert torch.allclose(torch.cosine_similarity(whole.flatten(1), velocity.flatten(1)), torch.ones(4).double())
    assert torch.allclose(rescaled(velocity, conditional, 0.7), 0.7 * whole + 0.3 * velocity)
    assert rescaled(velocity, conditional, 0.0) is velocity
    # A sample is rescaled by itself: its neighbours do not matter.
    assert torch.equal(rescaled(velocity[:1], conditional[:1], 0.5), rescaled(velocity, conditional, 0.5)[:1])
    assert rescaled(torch.zeros(1, 2), torch.ones(1, 2), 1.0).isfinite().all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        rescaled(velocity, conditional, 1.2)


def test_interval_is_closed_below_and_open_above_but_for_the_end() -> None:
    times = (time_grid(10).to(torch.float32)).tolist()
    assert [acts(t, (0.3, 0.7)) for t in times] == [False] * 3 + [True] * 4 + [False] * 4
    assert all(acts(t, (0.0, 1.0)) for t in times)
    assert [acts(t, (0.5, 1.0)) for t in times] == [False] * 5 + [True] * 6
    for wrong in ((0.6, 0.4), (-0.1, 1.0), (0.0, 1.1), (0.5, 0.5)):
        with pytest.raises(ValueError, match="low < high"):
            check_interval(wrong)

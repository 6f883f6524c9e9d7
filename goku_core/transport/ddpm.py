"""Denoising diffusion (Ho et al. 2020): the other side of the paper's pilot (section 2.3, Table 2), with the same face.

A thousand noise levels; level k = 0 is almost data, k = 999 almost pure noise. Times are those of the rectified flow, t=0
noise and t=1 data, with t = 1 - k/999, so that network, packs and plots are shared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Prediction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class DDPM:
    """x_k = sqrt(a_k)*x1 + sqrt(1-a_k)*x0 with x0 ~ N(0, I) and x1 data; the network predicts the noise x0.

    a_k is the product of 1 - beta up to level k, with beta linear from 1e-4 to 0.02 over 1000 levels (Ho et al., section 4).
    """

    levels: int = 1000
    first_beta: float = 1e-4
    last_beta: float = 0.02

    @cached_property
    def signal(self) -> Tensor:
        """a_k, the share of the data's variance in x_k: (levels,) float64, falling."""
        beta = torch.linspace(self.first_beta, self.last_beta, self.levels, dtype=torch.float64)
        return (1 - beta).cumprod(0)

    def on_path(self, time: Tensor) -> Tensor:
        """The times of noise levels for any times in [0, 1]; uniform times fall on every level equally often."""
        level = ((1 - time) * self.levels).floor().clamp(0, self.levels - 1)
        return 1 - level / (self.levels - 1)

    def level_of(self, time: Tensor) -> Tensor:
        """Level (int64) whose time is nearest."""
        return ((1 - time) * (self.levels - 1)).round().long().clamp(0, self.levels - 1)

    def time_of(self, level: Tensor) -> Tensor:
        return 1 - level / (self.levels - 1)

    def interpolate(self, noise: Tensor, data: Tensor, time: Tensor) -> Tensor:
        """x_k for noise and data of one shape and times that broadcast against them."""
        of_data, of_noise = self._weights(time, data)
        return of_data * data + of_noise * noise

    def target(self, noise: Tensor, data: Tensor) -> Tensor:
        """The noise itself."""
        return noise

    def data_estimate(self, x: Tensor, prediction: Tensor, time: Tensor) -> Tensor:
        """The x1 that x_k is made of if the predicted noise is right."""
        of_data, of_noise = self._weights(time, x)
        return (x - of_noise * prediction) / of_data

    def loss_per_token(self, prediction: Tensor, noise: Tensor, data: Tensor) -> Tensor:
        """Squared error averaged over the values of a token: (N, D) -> (N,). Unweighted over levels ("simple" loss)."""
        return (prediction - self.target(noise, data)).square().mean(dim=-1)

    def _weights(self, time: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """sqrt(a) and sqrt(1-a), rounded last: near data 1-a has few digits left in float32."""
        signal = self.signal.to(time.device)[self.level_of(time)]
        return signal.sqrt().to(like.dtype), (1 - signal).sqrt().to(like.dtype)

    def sampling_levels(self, steps: int) -> list[int]:
        """`steps` levels from the noisiest to the cleanest, evenly spread. Raises ValueError outside of 1 to `levels`."""
        if not 1 <= steps <= self.levels:
            raise ValueError(f"{steps} sampling steps: between 1 and {self.levels} are possible")
        return torch.linspace(self.levels - 1, 0, steps, dtype=torch.float64).round().long().tolist()


def ddim(
    prediction: Prediction,
    noise: Tensor,
    steps: int,
    flow: DDPM | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Data from noise without further randomness (Song et al. 2021, eq. 12 with sigma 0).

    `prediction(x, time)` is the noise in x. It follows the probability-flow ODE, so equal noise gives equal data, and with
    more steps the same data more exactly.
    """
    flow = flow or DDPM()
    return _descend(prediction, noise, steps, flow, None, on_step)


def ancestral(
    prediction: Prediction,
    noise: Tensor,
    steps: int,
    draw: Callable[[int], Tensor],
    flow: DDPM | None = None,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Data from noise through random posterior steps (Ho et al. 2020, algorithm 2, with the posterior's own variance).

    draw(k)  standard normal of the shape of `noise` for the k-th step, a function of k alone: same seed, same sample
    steps    fewer than all levels skip levels; the posterior is then that between the levels taken
    """
    flow = flow or DDPM()
    return _descend(prediction, noise, steps, flow, draw, on_step)


def _descend(
    prediction: Prediction,
    noise: Tensor,
    steps: int,
    flow: DDPM,
    draw: Callable[[int], Tensor] | None,
    on_step: Callable[[int], None] | None,
) -> Tensor:
    """Both samplers: the estimate of the data is noised again to the next level, with old noise and with fresh noise.

    Fresh noise of variance s^2 replaces as much of the old; s = 0 is DDIM, the posterior's variance is ancestral.
    """
    levels = flow.sampling_levels(steps)
    signals = [*flow.signal[levels].tolist(), 1.0]
    x = noise
    for index, level in enumerate(levels):
        now, after = signals[index], signals[index + 1]
        time = flow.time_of(torch.tensor(level, dtype=x.dtype, device=x.device))
        predicted = prediction(x, time)
        data = flow.data_estimate(x, predicted, time)
        fresh = 0.0 if draw is None else (1 - after) / (1 - now) * (1 - now / after)
        x = after**0.5 * data + max(1 - after - fresh, 0.0) ** 0.5 * predicted
        if draw is not None and fresh > 0:
            x = x + fresh**0.5 * draw(index)
        if on_step is not None:
            on_step(index + 1)
    return x

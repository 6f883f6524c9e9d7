"""Gaussian noise carried to a Gaussian: the optimal predictions and the maps of both flows in closed form.

Data ~ N(MEAN, COVARIANCE) in three dimensions, correlated. All marginals of a path have covariances that commute, so the
flow keeps the coordinates in which a marginal is standard normal: the map is linear along the eigenvectors.

And a mixture of two Gaussians in one dimension, whose map is quantile to quantile: a flow that is nowhere straight.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MEAN = torch.tensor([1.5, -0.5, 0.2], dtype=torch.float64)
_TURN = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(7), dtype=torch.float64))[0]
_DEVIATIONS = torch.tensor([0.3, 0.8, 1.6], dtype=torch.float64)
COVARIANCE = _TURN @ torch.diag(_DEVIATIONS**2) @ _TURN.T


def draw(samples: int, seed: int) -> Tensor:
    """Standard normal (samples, 3), float64."""
    return torch.randn(samples, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def data(samples: int, seed: int) -> Tensor:
    return MEAN + draw(samples, seed) * _DEVIATIONS @ _TURN.T


def marginal(of_data: Tensor | float, of_noise: Tensor | float, standard: Tensor) -> Tensor:
    """Where the flow has carried noise `standard` (n, 3) when x = of_data * data + of_noise * noise."""
    deviations = ((of_data * _DEVIATIONS) ** 2 + of_noise**2) ** 0.5
    return of_data * MEAN + (standard @ _TURN * deviations) @ _TURN.T


def standardised(of_data: Tensor | float, of_noise: Tensor | float, x: Tensor) -> Tensor:
    """Inverse of `marginal`."""
    deviations = ((of_data * _DEVIATIONS) ** 2 + of_noise**2) ** 0.5
    return ((x - of_data * MEAN) @ _TURN / deviations) @ _TURN.T


def expected(of_data: Tensor | float, of_noise: Tensor | float, x: Tensor) -> tuple[Tensor, Tensor]:
    """E[data | x] and E[noise | x], each (n, 3): regression of jointly Gaussian variables."""
    variances = (of_data * _DEVIATIONS) ** 2 + of_noise**2
    centred = (x - of_data * MEAN) @ _TURN
    return (
        MEAN + (centred * of_data * _DEVIATIONS**2 / variances) @ _TURN.T,
        (centred * of_noise / variances) @ _TURN.T,
    )


def velocity(x: Tensor, time: Tensor) -> Tensor:
    """The optimal velocity of the rectified flow, E[x1 - x0 | x_t]."""
    of_data, of_noise = expected(time, 1 - time, x)
    return of_data - of_noise


def carried(noise: Tensor, time: float = 1.0) -> Tensor:
    """Where that velocity has carried `noise` at this time."""
    return marginal(time, 1 - time, noise)


CENTRES, SPREAD = torch.tensor([-1.2, 0.9], dtype=torch.float64), 0.35


def mixture_velocity(x: Tensor, time: Tensor) -> Tensor:
    """E[x1 - x0 | x_t] for an even mixture of N(CENTRES, SPREAD^2)."""
    variance = (time * SPREAD) ** 2 + (1 - time) ** 2
    apart = x[..., None] - time * CENTRES
    weight = torch.softmax(-(apart**2) / (2 * variance), dim=-1)
    gain = (time * SPREAD**2 - (1 - time)) / variance
    return (weight * (CENTRES + gain * apart)).sum(-1)


def mixture_map(noise: Tensor, time: float = 1.0) -> Tensor:
    """Inverse by bisection of the distribution function at `time`, at the quantile of the noise."""
    deviation = math.sqrt((time * SPREAD) ** 2 + (1 - time) ** 2)
    low, high = torch.full_like(noise, -20.0), torch.full_like(noise, 20.0)
    for _ in range(80):
        middle = (low + high) / 2
        reached = torch.special.ndtr((middle[:, None] - time * CENTRES) / deviation).mean(-1)
        below = reached < torch.special.ndtr(noise)
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def error(reached: Tensor, exact: Tensor) -> float:
    """Root mean square."""
    return (reached - exact).square().mean().sqrt().item()

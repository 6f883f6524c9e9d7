"""Gaussian noise carried to a Gaussian: the optimal predictions and the maps of both flows in closed form.

Data ~ N(MEAN, COVARIANCE) in three dimensions, correlated. All marginals of a path have covariances that commute, so the
flow keeps the coordinates in which a marginal is standard normal: the map is linear along the eigenvectors.
"""

from __future__ import annotations

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

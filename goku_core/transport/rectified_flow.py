"""Rectified flow (paper section 2.3): straight paths from noise at t=0 to data at t=1."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class RectifiedFlow:
    """x_t = t*x1 + (1-t)*x0 with x0 ~ N(0, I) and x1 data; the network predicts the velocity x1 - x0."""

    def on_path(self, time: Tensor) -> Tensor:
        """The times themselves: the path is continuous (that of `DDPM` is not)."""
        return time

    def interpolate(self, noise: Tensor, data: Tensor, time: Tensor) -> Tensor:
        """x_t for noise and data of one shape and times that broadcast against them."""
        return time * data + (1 - time) * noise

    def target(self, noise: Tensor, data: Tensor) -> Tensor:
        """Velocity d x_t / d t."""
        return data - noise

    def data_estimate(self, x: Tensor, velocity: Tensor, time: Tensor) -> Tensor:
        """Where the straight line through x_t with this velocity ends: the implied x1."""
        return x + (1 - time) * velocity

    def loss_per_token(self, velocity: Tensor, noise: Tensor, data: Tensor) -> Tensor:
        """Squared error averaged over the values of a token: (N, D) -> (N,). Unweighted in t (our choice: the paper is silent)."""
        return (velocity - self.target(noise, data)).square().mean(dim=-1)

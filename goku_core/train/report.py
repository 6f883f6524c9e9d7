"""What a training phase reports."""

from __future__ import annotations

from pydantic import BaseModel

from goku_core.train.goodput import Goodput


class Report(BaseModel):
    """Loss: mean over the last tenth of the phase; validation_loss: after the last step, None without held-out samples. Rates count
    this attempt's own steps, goodput all attempts; unreadable: samples that some attempt could not read."""

    phase: str
    resolution: str
    steps: int
    resumed_from: int
    loss_first: float
    loss: float
    validation_loss: float | None = None
    parameters: int
    images: int
    clips: int
    tokens: int
    unreadable: int = 0
    seconds: float
    samples_per_second: float
    tokens_per_second: float
    goodput: Goodput

"""What stage `precompute` reports."""

from __future__ import annotations

from pydantic import BaseModel


class Report(BaseModel):
    """Samples, tokens and bytes by resolution; `failed` names clips whose pixels could not be read again,
    `resumed_batches` counts what an earlier, killed attempt had finished."""

    latents: int
    samples: dict[str, int]
    tokens: dict[str, int]
    shards: dict[str, int]
    bytes: int
    too_short: int
    failed: list[str]
    resumed_batches: int = 0
    seconds: float
    samples_per_second: float

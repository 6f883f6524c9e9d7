"""How training reads, and what it takes a sample to cost. Neither changes which samples a step shows."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Data(BaseModel):
    """Reading of latents."""

    model_config = ConfigDict(extra="forbid")

    source: str | None = Field(
        None, description="s3://bucket/prefix that holds the shards; the index stays local; null: data/latents"
    )
    threads: int = Field(
        1, ge=1, description="samples read and noised at once; from a bucket 16 or more hide its latency"
    )
    ahead: int = Field(2, ge=0, description="steps made before they are wanted; 0: each when it is wanted")
    cache_megabytes: int = Field(
        512, ge=0, description="samples kept in memory, of each rank; what fits is read once (our choice)"
    )
    verify: bool = Field(True, description="check the CRC-32 of samples read from a folder; from a bucket it always is")
    unreadable_max: float = Field(
        0.01,
        ge=0,
        le=1,
        description="share of samples that may be unreadable and are replaced by others; above it the run stops (our choice)",
    )
    patience_seconds: float = Field(
        120,
        ge=0,
        description="how long a store that does not answer is asked again before the run stops, s (our choice)",
    )

    @model_validator(mode="after")
    def _source_is_a_bucket(self) -> Data:
        if self.source is not None and not self.source.startswith("s3://"):
            raise ValueError(f"source {self.source}: s3://bucket/prefix, or null for the workspace's own data/latents")
        return self


class Cost(BaseModel):
    """Cost linear*n + quadratic*n^2 of a sample of n tokens, by which groups of ranks share work; `goku bench cost` finds it."""

    model_config = ConfigDict(extra="forbid")

    linear: float = Field(ge=0, description="of a token, any unit")
    quadratic: float = Field(ge=0, description="of a pair of tokens, same unit")

    @model_validator(mode="after")
    def _something_costs(self) -> Cost:
        if self.linear == 0 and self.quadratic == 0:
            raise ValueError("linear and quadratic are both 0: no sample would cost anything")
        return self

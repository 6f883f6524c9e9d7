"""Parameters of `curate.taxonomy` and `curate.balance`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Taxonomy(BaseModel):
    """How clips get their label."""

    model_config = ConfigDict(extra="forbid")

    classifier: Literal["words", "clip", "none"] = Field(
        default="words", description="by words of the caption; by CLIP on four frames (needs weights); or not at all"
    )
    weights: str = Field(default="", description="clip: local folder of a CLIP model (docs/weights.md)")
    device: str = Field(default="auto", description="clip: auto (cuda where there is one), cpu, cuda:1 ...")
    least_score: float = Field(
        default=0.0, ge=0, le=1, description="labels below are none: share of votes, or CLIP's probability (our choice)"
    )
    file: str = Field(
        default="", description="own taxonomy, a YAML file of the workspace; empty: the package's 9 and 86"
    )


class Balance(BaseModel):
    """Evens out the sub-classes of each primary class (paper section 4.4; its target shares are not public)."""

    model_config = ConfigDict(extra="forbid")

    least_labelled: int = Field(
        default=10_000,
        ge=0,
        description="with fewer labelled clips nothing is balanced: shares of a few clips are chance, and down-sampling "
        "would cost what a small set cannot spare (our choice)",
    )
    strength: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="0 leaves sub-classes as found, 1 gives all the same weight (paper: uniform)",
    )
    weights: dict[str, float] = Field(
        default_factory=dict,
        description="wanted weight by name, 1 where none is given: of a sub-class within its primary, or of a whole "
        "primary against what was found ({human: 2, kid: 1.5})",
    )
    most_repeats: int = Field(
        default=4, ge=1, le=100, description="a clip is walked so often per epoch at most (our choice)"
    )
    least_kept: float = Field(
        default=0.25, ge=0, le=1, description="share of a sub-class that down-sampling always leaves (our choice)"
    )

    @field_validator("weights")
    @classmethod
    def _positive(cls, weights: dict[str, float]) -> dict[str, float]:
        if wrong := [name for name, weight in weights.items() if not 0 <= weight <= 1000]:
            raise ValueError(f"the weight of {wrong[0]} is {weights[wrong[0]]:g}; weights are 0 to 1000")
        return weights

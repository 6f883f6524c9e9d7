"""Parameters of `promote`: which models make the bundle, and when it may become champion."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Gate(BaseModel):
    """When a candidate is refused (our choice: the paper has no promotion step)."""

    model_config = ConfigDict(extra="forbid")

    minimum_score: float = Field(
        default=0.0, ge=0.0, le=1.0, description="lowest overall score (0 to 1) that may become champion"
    )
    maximum_drop: Literal["interval"] | float = Field(
        default="interval",
        description=(
            "how far below the champion's score a candidate may lie: `interval` = the half-width of the 95 % interval "
            "of the difference, or a number (score points, 0 to 1)"
        ),
    )


class Request(BaseModel):
    """The section `promote:` of params.yaml."""

    model_config = ConfigDict(extra="forbid")

    image_model: str = Field(
        default="finetune_t2i", min_length=1, description="training phase whose model makes pictures (t2i)"
    )
    video_model: str | None = Field(
        default="finetune_t2v", min_length=1, description="training phase whose model makes clips (t2v); null for none"
    )
    image_to_video_model: str | None = Field(
        default="finetune_i2v",
        min_length=1,
        description="training phase whose model continues a first picture (i2v); null for none",
    )
    gate: Gate = Field(default_factory=Gate, description="when a candidate is refused")
    registry_name: str = Field(
        default="goku", pattern=r"^[A-Za-z0-9_-]+$", description="name of the registered model in MLflow"
    )
    alias: str = Field(
        default="champion", pattern=r"^[A-Za-z][A-Za-z0-9_-]*$", description="registry alias of the champion"
    )

    def phases(self) -> dict[str, str]:
        """Task (``t2i``, ``t2v``, ``i2v``) -> training phase that serves it; tasks without a model are left out."""
        wanted = {"t2i": self.image_model, "t2v": self.video_model, "i2v": self.image_to_video_model}
        return {task: phase for task, phase in wanted.items() if phase is not None}

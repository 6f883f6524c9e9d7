"""Parameters of `evaluate`: which models, how many samples, how they are drawn, who judges."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from goku_core.pipeline.rules import PHASE


class Clips(BaseModel):
    """Clips of one kind. Our choice: 16 prompts are 4 of each direction, enough to tell a model from chance (0.25)."""

    model_config = ConfigDict(extra="forbid")

    prompts: int = Field(8, ge=0, le=96, description="different prompts, the four directions in turn; 0 for no clips")
    per_prompt: int = Field(1, ge=1, description="samples of each prompt")


class Request(BaseModel):
    """The section `evaluate:` of params.yaml."""

    model_config = ConfigDict(extra="forbid")

    image_model: str = Field(
        "finetune_t2i", min_length=1, description="training phase that makes the pictures", json_schema_extra=PHASE
    )
    video_model: str | None = Field(
        "finetune_t2v",
        min_length=1,
        description="training phase that makes the clips; null for none",
        json_schema_extra=PHASE,
    )
    image_to_video_model: str | None = Field(
        "finetune_i2v",
        min_length=1,
        description="training phase that continues a picture; null for none",
        json_schema_extra=PHASE,
    )
    prompts_per_task: int = Field(
        20, ge=1, description="different prompts of each GenEval task, where there are so many"
    )
    images_per_prompt: int = Field(4, ge=1, description="pictures of each prompt (GenEval: 4)")
    photo_prefix: bool = Field(True, description='prompts begin with "a photo of", as GenEval\'s do')
    video: Clips = Field(default_factory=Clips, description="clips from text")
    image_to_video: Clips = Field(default_factory=lambda: Clips(prompts=4), description="clips from a first picture")
    frames: int = Field(17, ge=5, description="frames of a clip; 4k+1 by the VAE's stride in time")
    steps: int | None = Field(None, ge=1, description="solver steps; null for those of the model's own configuration")
    guidance: float | None = Field(None, ge=0, description="guidance scale; null for the model's own")
    batch: int = Field(16, ge=1, description="pictures sampled at a time (changes speed only)")
    judge: Literal["contour"] = Field("contour", description="who looks at the pictures")
    judge_minimum: float = Field(
        0.98,
        ge=0,
        le=1,
        description="share of ground-truth renders the judge must get right, in every task and overall",
    )
    bootstrap: int = Field(2000, ge=100, description="resamples for the 95 % intervals")

    def models(self) -> list[str]:
        """Training phases that are sampled, each once."""
        wanted = [self.image_model]
        wanted += [self.video_model] if self.video_model and self.video.prompts else []
        wanted += [self.image_to_video_model] if self.image_to_video_model and self.image_to_video.prompts else []
        return list(dict.fromkeys(wanted))

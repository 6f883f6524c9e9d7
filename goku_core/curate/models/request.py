"""Parameters of the scorers that need weights. docs/weights.md says where each set of weights comes from.

Every `weights` is a folder or file that is there, relative to the workspace; nothing is downloaded. Other content needs
another name: the name, not the content, is part of what decides whether the stage has been done.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

_OFF = "; empty: off"


class Clip(BaseModel):
    """CLIP: the pooled embedding of a clip (column `clip_embedding`), and what the aesthetic score is computed from."""

    model_config = ConfigDict(extra="forbid")

    weights: str = Field("", description="folder of a CLIP model of transformers, e.g. ViT-L/14" + _OFF)


class Aesthetic(BaseModel):
    """LAION's aesthetic predictor (paper Table 4): a head on the image embedding of CLIP ViT-L/14."""

    model_config = ConfigDict(extra="forbid")

    weights: str = Field("", description="file of the head, .safetensors or .pth; needs clip.weights (ViT-L/14)" + _OFF)


class Nsfw(BaseModel):
    """Not safe for work (paper Figure 2 names the filter, not the model): the worst frame of a clip counts."""

    model_config = ConfigDict(extra="forbid")

    weights: str = Field("", description="folder of an image classifier of transformers" + _OFF)
    label: str = Field("nsfw", min_length=1, description="the classifier's label whose probability is the score")


class Watermark(BaseModel):
    """Watermarks (not in the paper): the mean of a clip's frames counts, because a watermark stays."""

    model_config = ConfigDict(extra="forbid")

    weights: str = Field("", description="folder of an image classifier of transformers" + _OFF)
    label: str = Field("watermark", min_length=1, description="the classifier's label whose probability is the score")


class Raft(BaseModel):
    """RAFT optical flow (paper section 4.5). Where it is on, the tiers judge motion by it instead of by DIS."""

    model_config = ConfigDict(extra="forbid")

    weights: str = Field("", description="file of torchvision's raft_large or raft_small, .safetensors or .pth" + _OFF)
    updates: int = Field(20, ge=1, le=64, description="refinements of the flow (our choice: 20, as VBench runs it)")
    pairs: int = Field(8, ge=1, description="most pairs of neighbouring frames per clip, evenly spread (our choice)")


class Models(BaseModel):
    """Where and how the scorers with weights run. They read the frames that the one decode left behind."""

    model_config = ConfigDict(extra="forbid")

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: GPUs where torch sees any")
    share: float = Field(
        1.0,
        gt=0,
        le=1,
        description="part of a GPU that one worker takes: 0.5 runs two on each; on CPUs there is one worker per core",
    )
    frames: int = Field(4, ge=1, le=64, description="frames scored per clip, evenly spread (our choice)")
    batch: int = Field(32, ge=1, description="frames in one pass of a network, across clips; part of the result's bits")
    memory_gigabytes: float = Field(16.0, gt=0.5, description="a clip that needs more is a failure, GiB of a worker")
    clip: Clip = Field(default_factory=Clip, description="embeddings of frames")
    aesthetic: Aesthetic = Field(default_factory=Aesthetic, description="aesthetic score (paper Table 4)")
    nsfw: Nsfw = Field(default_factory=Nsfw, description="not safe for work (paper Figure 2)")
    watermark: Watermark = Field(default_factory=Watermark, description="watermarks (not in the paper)")
    raft: Raft = Field(default_factory=Raft, description="motion by RAFT (paper section 4.5)")

    @model_validator(mode="after")
    def _head_has_a_body(self) -> Models:
        if self.aesthetic.weights and not self.clip.weights:
            raise ValueError(
                "aesthetic.weights is a head on the embedding of CLIP ViT-L/14: set clip.weights to its folder as well"
            )
        return self

    @property
    def on(self) -> list[str]:
        """Names of the scorers that have weights."""
        return [name for name in SCORERS if getattr(self, name).weights]

    @property
    def needs_frames(self) -> bool:
        """Whether the decode has to leave sampled frames behind."""
        return bool(self.on)


SCORERS = ("clip", "aesthetic", "nsfw", "watermark", "raft")
COLUMNS = {
    "clip": "clip_embedding",
    "aesthetic": "aesthetic",
    "nsfw": "nsfw",
    "watermark": "watermark",
    "raft": "motion_raft",
}

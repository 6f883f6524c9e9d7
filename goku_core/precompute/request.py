"""Parameters of stage `precompute`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Resolution(BaseModel):
    """One size at which latents are stored. Sides are multiples of 16: stride 8 of the VAE times patch 2."""

    model_config = ConfigDict(extra="forbid")

    height: int = Field(ge=16, multiple_of=16, description="px")
    width: int = Field(ge=16, multiple_of=16, description="px")
    aspect: Literal["source", "fixed"] = Field(
        "source",
        description="source: sides nearest to the source's own aspect ratio, of at most height x width pixels; "
        "fixed: every source is cut to height x width",
    )
    frames: int = Field(17, ge=1, description="frames of a clip's latent, 4k+1")
    fps: float = Field(8.0, gt=0, description="frames per second at which clips are read")
    images: bool = Field(True, description="store pictures at this size")
    clips: bool = Field(True, description="store clips at this size")

    @model_validator(mode="after")
    def _frames_fit_the_stride(self) -> Resolution:
        if (self.frames - 1) % 4:
            raise ValueError(
                f"frames {self.frames}: must be 4k+1 (1, 5, 9, 13, 17, ...), the stride of the VAE in time"
            )
        return self


class TextEncoderRequest(BaseModel):
    """`words` is the embedded default without download; `t5` loads Flan-T5 through transformers (paper Table 5)."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["words", "t5"] = Field("words", description="which encoder")
    width: int = Field(192, ge=8, multiple_of=2, description="width of a word vector (words only)")
    weights: str = Field("google/flan-t5-xl", description="hub name or local folder (t5 only)")
    max_tokens: int = Field(256, ge=1, le=1024, description="longer captions are cut")

    def weights_in_use(self) -> list[str]:
        return [self.weights] if self.kind == "t5" else []


class PrecomputeRequest(BaseModel):
    """Latents per resolution and text embeddings into shards."""

    model_config = ConfigDict(extra="forbid")

    resolutions: dict[str, Resolution] = Field(
        min_length=1, description="by name; phases of `train` refer to the names"
    )
    text: TextEncoderRequest = Field(default_factory=TextEncoderRequest)
    windows_per_clip: int = Field(1, ge=1, description="spans of `frames` taken from each clip, evenly spread")
    pictures_per_clip: int = Field(
        4, ge=0, description="frames of each clip stored as pictures where the data set has none; phases need pictures"
    )
    shard_megabytes: int = Field(256, ge=1, le=4096, description="size at which a shard is closed")
    batch_tokens: int = Field(
        16384,
        ge=16,
        description="tokens the VAE, and captions' tokens the text encoder, get in one call; a longer sample is encoded "
        "piece by piece while it is decoded",
    )
    tile_side: int = Field(
        0,
        ge=0,
        multiple_of=16,
        description="px; a longer side is encoded in overlapping tiles; 0 never (tiles only approximate VAEs that look "
        "at the whole picture)",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where the encoders run; auto: on the GPUs, where there are none on the CPU"
    )
    workers_per_device: int = Field(
        1,
        ge=1,
        le=16,
        description="processes on a GPU, each with an equal share of its memory; on the CPU one per core",
    )
    timeout_seconds: float = Field(300.0, gt=0, description="a clip that takes longer is a failure, s")
    memory_gigabytes: float = Field(6.0, gt=0.5, description="a process that needs more main memory is stopped, GiB")

    @field_validator("resolutions")
    @classmethod
    def _are_names_of_folders(cls, resolutions: dict[str, Resolution]) -> dict[str, Resolution]:
        for name in resolutions:
            if not name.replace("_", "").isalnum():
                raise ValueError(f'resolution "{name}": letters, digits and underscores, for it becomes a folder')
        return resolutions

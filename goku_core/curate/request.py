"""Parameters of `curate`: every threshold of the paper's Tables 3 and 4, and the choices where the paper is silent."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from goku_core.curate.captions.request import Captions
from goku_core.curate.checks.request import Drift
from goku_core.curate.duplicates.request import Dedup
from goku_core.curate.models.request import Models
from goku_core.curate.taxonomy.request import Balance, Taxonomy
from goku_core.pipeline.rules import Rule, Rules

TierName = Literal["480p", "720p", "1080p"]


class Gate(BaseModel):
    """What a raw file must have before anything is decoded (paper Table 3, section 4.3). Pictures: only `min_side`."""

    model_config = ConfigDict(extra="forbid")

    min_seconds: float = Field(default=4.0, ge=0, description="least length of a raw video, s (paper Table 3: 4)")
    min_side: int = Field(default=480, ge=16, description="least short side, px (paper Table 3: 480)")
    min_kbps: float = Field(default=500.0, ge=0, description="least video bit rate, kbit/s (paper Table 3: 500)")
    min_fps: float = Field(
        default=23.976, ge=0, description="least frame rate, frames/s (paper Table 3: 24, or 23.976 for NTSC)"
    )
    interlaced: bool = Field(
        default=False, description="admit interlaced video, combs and all (our choice: no; the paper does not say)"
    )
    hdr: bool = Field(
        default=False,
        description="admit PQ and HLG video, cut to 8 bits without tone mapping (our choice: no; the paper does not say)",
    )


class Prescreen(BaseModel):
    """Thresholds of the look at the key frames. All our choice: neither the paper nor its peers have such a step."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool = Field(default=True, description="look at the key frames first")
    min_key_frames: int = Field(
        default=3, ge=2, description="sources with fewer key frames pass on: too little to go by (our choice)"
    )
    blank_contrast: float = Field(
        default=3.0,
        ge=0,
        description="levels of 255: a key frame is blank when its luma varies (standard deviation) by at most this",
    )
    still_bits: float = Field(
        default=0.0005,
        ge=0,
        description="bits per pixel of a frame between key frames, beyond the 40 bytes of a repeated one, at or below "
        "which nothing moves; mean of the busiest stretch as long as the shortest clip",
    )
    still_share: float = Field(
        default=0.0005,
        ge=0,
        le=1,
        description="and size of such a frame over that of a key frame. Both must hold for a slide show",
    )
    text_coverage: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="largest text box / frame area that every key frame must exceed to be turned away for text",
    )
    max_spacing_seconds: float = Field(
        default=2.0,
        gt=0,
        description="key frames farther apart say nothing about text and blankness, s (not above min_clip_seconds: each "
        "clip then holds a key frame)",
    )


class Tier(BaseModel):
    """Demands of one resolution tier (paper Table 4, section 4.5).

    Its DINOv2 similarity (0.85 / 0.90 / 0.90) cuts shots and is a parameter of the cutting, not a demand on a clip.
    """

    model_config = ConfigDict(extra="forbid")

    min_side: int = Field(
        ge=16,
        description="least short side, px. Paper Table 4 gives 480x864, 720x1280, 1080x1920; our choice: the short "
        "side decides, else portrait and 854-wide sources would be lost",
    )
    ocr_max: float = Field(
        ge=0, le=1, description="largest text box / frame area at most (paper Table 4: 0.02 / 0.01 / 0.01)"
    )
    aesthetic_min: float = Field(
        ge=0,
        le=10,
        description="least aesthetic score (paper Table 4: 4.3 / 4.5 / 4.5); only where models.aesthetic is on",
    )
    motion_min: float = Field(
        ge=0, description="least motion score, px at 256 px height per 0.25 s (paper Table 4: 0.3 / 0.5 / 0.5)"
    )
    motion_max: float = Field(ge=0, description="largest motion score (paper Table 4: 20 / 15 / 8)")

    @model_validator(mode="after")
    def _range(self) -> Tier:
        if self.motion_min > self.motion_max:
            raise ValueError(f"motion_min ({self.motion_min}) is above motion_max ({self.motion_max}): nothing passes")
        return self


PAPER_TIERS: dict[str, dict[str, float]] = {
    "480p": {"min_side": 480, "ocr_max": 0.02, "aesthetic_min": 4.3, "motion_min": 0.3, "motion_max": 20.0},
    "720p": {"min_side": 720, "ocr_max": 0.01, "aesthetic_min": 4.5, "motion_min": 0.5, "motion_max": 15.0},
    "1080p": {"min_side": 1080, "ocr_max": 0.01, "aesthetic_min": 4.5, "motion_min": 0.5, "motion_max": 8.0},
}


class Shots(BaseModel):
    """PySceneDetect's detectors (paper section 4.4 names the library, not the detector or its thresholds)."""

    model_config = ConfigDict(extra="forbid")

    adaptive_threshold: float = Field(
        default=3.0,
        gt=1,
        description="a cut: a frame differs this many times more than its neighbours do (library's default)",
    )
    min_content: float = Field(
        default=10.0,
        gt=0,
        description="and by at least this much, mean HSV difference of 255 (our choice: the library's 15 misses cuts "
        "between two plain greys)",
    )
    content_threshold: float = Field(
        default=27.0,
        gt=0,
        description="a change of this size is looked at too where the neighbours change as well, mean HSV difference of "
        "255 (library's default)",
    )
    min_seconds: float = Field(
        default=0.5,
        ge=0,
        description="two boundaries nearer than this become one with what lies between, s (library's default: 15 frames)",
    )
    gradual: bool = Field(
        default=True, description="find fades and dissolves too, and leave their frames out of clips (our choice)"
    )


class Refine(BaseModel):
    """Cuts that the shot detector missed, found by features of one frame per second (paper section 4.4)."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra=Rules(Rule({"kind": {"const": "dinov2"}}, {"weights": {"minLength": 1}}))
    )

    kind: Literal["embedded", "dinov2", "none"] = Field(
        default="embedded",
        description="features: embedded (colours and edge directions, needs nothing), dinov2 (the paper's, needs "
        "weights) or none",
    )
    weights: str = Field(default="", description="folder of a DINOv2 checkpoint in the form of transformers")
    device: str = Field(default="cpu", description="where DINOv2 runs: cpu, cuda, cuda:1, ...")
    embedded_min: float = Field(
        default=0.8,
        ge=-1,
        le=1,
        description="embedded: least cosine of frames 1 s apart (our choice: motion and zoom stay above, goku bench "
        "shots)",
    )
    dinov2_min: float = Field(
        default=0.85, ge=-1, le=1, description="DINOv2: least cosine below 720p (paper Table 4: 0.85)"
    )
    dinov2_min_720p: float = Field(
        default=0.90, ge=-1, le=1, description="DINOv2: least cosine from 720 px short side on (paper Table 4: 0.90)"
    )

    @model_validator(mode="after")
    def _named(self) -> Refine:
        if self.kind == "dinov2" and not self.weights:
            raise ValueError("kind is dinov2, but weights names no folder: see docs/weights.md, or set kind: embedded")
        return self

    def least(self, side: int) -> float:
        """The bound for sources of this short side, px."""
        if self.kind == "embedded":
            return self.embedded_min
        return self.dinov2_min if side < 720 else self.dinov2_min_720p


class Previews(BaseModel):
    """What is written for people to look at."""

    model_config = ConfigDict(extra="forbid")

    frames: int = Field(default=4, ge=0, le=50, description="example frames for kept and for each filter")
    clips: int = Field(default=12, ge=0, le=500, description="short MP4s of kept clips")
    rejected_clips: int = Field(default=2, ge=0, le=100, description="short MP4s of clips that each filter took out")
    width: int = Field(default=256, ge=32, le=1920, multiple_of=2, description="width of both, px")
    seconds: float = Field(default=2.0, gt=0, le=10, description="length of a preview clip, s")


class Request(BaseModel):
    """Section `curate` of params.yaml."""

    model_config = ConfigDict(extra="forbid")

    gate: Gate = Field(default_factory=Gate, description="cheap demands on the raw file (paper Table 3)")
    tiers: dict[TierName, Tier] = Field(
        default_factory=dict, validate_default=True, description="demands per resolution tier (paper Table 4)"
    )
    prescreen: Prescreen = Field(
        default_factory=Prescreen, description="key frames looked at before everything is decoded (our choice)"
    )
    shots: Shots = Field(default_factory=Shots, description="shot detector (paper section 4.4)")
    refine: Refine = Field(default_factory=Refine, description="further cuts by features (paper section 4.4)")
    max_clip_seconds: float = Field(
        default=10.0, gt=0, le=600, description="longer shots are divided, s (paper section 4.4: 10)"
    )
    min_clip_seconds: float = Field(
        default=2.0, ge=1, description="shorter shots are rejected, s (unknown in the paper; our choice, as MfM does)"
    )
    quality_heuristic_min: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="least quality `heuristic`, own scale 0 to 10 (our choice: 0 rejects nothing). Not LAION's",
    )
    nsfw_max: float = Field(
        default=0.5, ge=0, le=1, description="largest probability of nsfw; only where models.nsfw is on (our choice)"
    )
    watermark_max: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="largest probability of a watermark; only where models.watermark is on (our choice)",
    )
    models: Models = Field(default_factory=Models, description="scorers that need weights: docs/weights.md")
    dedup: Dedup = Field(default_factory=Dedup, description="near-duplicates (paper section 4.4)")
    captions: Captions = Field(default_factory=Captions, description="who describes clips and pictures (section 4.6)")
    taxonomy: Taxonomy = Field(default_factory=Taxonomy, description="what a clip is about (paper section 4.4)")
    balance: Balance = Field(default_factory=Balance, description="shares of sub-classes (paper section 4.4)")
    drift: Drift = Field(default_factory=Drift, description="distance from the version before")
    previews: Previews = Field(default_factory=Previews, description="examples for the report")
    timeout_seconds: float = Field(default=600.0, gt=0, description="a file that takes longer is a failure, s")
    memory_gigabytes: float = Field(default=4.0, gt=0.5, description="a file that needs more is a failure, GiB")

    @field_validator("tiers", mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        """A tier that names some of its demands keeps the paper's values for the others."""
        if not isinstance(given, dict):
            return given
        if unknown := [name for name in given if name not in PAPER_TIERS]:
            raise ValueError(f"{unknown[0]!r} is not a tier; the tiers are {', '.join(PAPER_TIERS)}")
        tiers: dict[str, Any] = {name: dict(values) for name, values in PAPER_TIERS.items()}
        for name, tier in given.items():
            values = tier.model_dump() if isinstance(tier, Tier) else tier
            tiers[name] = {**tiers[name], **values} if isinstance(values, dict) else values
        return tiers

    @model_validator(mode="after")
    def _lengths(self) -> Request:
        if self.min_clip_seconds * 2 > self.max_clip_seconds:
            raise ValueError(
                f"min_clip_seconds ({self.min_clip_seconds}) must be at most half of max_clip_seconds "
                f"({self.max_clip_seconds}), so that a long shot can always be divided"
            )
        return self

    def files(self) -> list[str]:
        """Files and folders of the user's that results depend on, beside raw media and weights: prompts, taxonomy."""
        return [path for path in (self.captions.templates, self.taxonomy.file) if path]

"""The `collect` section of params.yaml."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, model_validator

SAMPLE = "sample"
LEAST_VIDEO_SECONDS = 4.0  # the paper's gate, Table 3


class SampleCorpus(BaseModel):
    """The rendered corpus of the embedded default. Defaults fill 2 cores for less than a minute."""

    model_config = ConfigDict(extra="forbid")

    videos: int = Field(48, ge=1, le=9000, description="good videos")
    images: int = Field(1600, ge=0, le=90000, description="good images")
    shots_per_video: tuple[int, int] = Field((3, 5), description="least and most shots of a video")
    shot_seconds: tuple[float, float] = Field((2.5, 3.25), description="shortest and longest shot, seconds")
    height: int = Field(480, ge=64, multiple_of=2, description="height of videos and images, pixels")
    width: int = Field(
        864, ge=64, multiple_of=2, description="width, pixels; 864 is the least of the paper's 480p tier (Table 4)"
    )
    fps: int = Field(24, ge=1, le=120, description="frames per second; 24 is the paper's gate (Table 3)")
    bitrate_kbps: int = Field(1000, ge=100, description="average bitrate of good videos, kbit/s; the gate wants 500")
    bad_files: bool = Field(True, description="add files that curation must reject or repair, each for one reason")

    @model_validator(mode="after")
    def _ranges(self) -> SampleCorpus:
        shots, seconds = self.shots_per_video, self.shot_seconds
        if not 1 <= shots[0] <= shots[1]:
            raise ValueError(f"shots_per_video must be [least, most] with 1 <= least <= most, not {list(shots)}")
        if not 0.5 <= seconds[0] <= seconds[1] <= 10:
            raise ValueError(f"shot_seconds must be [shortest, longest] within 0.5 to 10, not {list(seconds)}")
        return self


class Request(BaseModel):
    """Where the raw media come from."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(
        SAMPLE,
        min_length=1,
        description="'sample' renders the sample corpus; anything else is a folder of videos and images, "
        "read recursively and left in place; relative paths count from the workspace",
    )
    sample: SampleCorpus = Field(default_factory=SampleCorpus, description="the sample corpus; unused for a folder")

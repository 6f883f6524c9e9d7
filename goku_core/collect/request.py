"""The `collect` section of params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from goku_core.pipeline.rules import PLACE, Rule, Rules

if TYPE_CHECKING:
    from goku_core.pipeline.fingerprint import Digests, Tree

SAMPLE = "sample"
BUCKET_SCHEME = "s3://"
LIST_SUFFIX, TABLE_SUFFIXES = ".txt", (".parquet", ".csv", ".jsonl")
LEAST_VIDEO_SECONDS = 4.0  # the paper's gate, Table 3


class SampleCorpus(BaseModel):
    """The rendered corpus of the embedded default. Defaults fill 2 cores for less than a minute."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra=Rules(
            Rule({}, {"shots_per_video": {"prefixItems": [{"minimum": 1}, {"minimum": 1}]}}),
            Rule({}, {"shot_seconds": {"prefixItems": [{"minimum": 0.5, "maximum": 10}] * 2}}),
        ),
    )

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


class Columns(BaseModel):
    """Which columns of a table say what; the last four need not be there."""

    model_config = ConfigDict(extra="forbid")

    url: str = Field("", description="address or path of the medium; empty: the first of url, path, uri that is there")
    caption: str = Field("caption", description="caption of the whole medium")
    captions: str = Field("captions", description="captions of spans: a list of {start, end, text}, or JSON of one")
    sha256: str = Field("sha256", description="digest the file must have, 64 hexadecimal digits")
    bytes: str = Field("bytes", description="size the file must have, bytes")


class Download(BaseModel):
    """How files are fetched from addresses and buckets. Unused for a folder."""

    model_config = ConfigDict(extra="forbid")

    threads: int = Field(16, ge=1, le=256, description="files fetched at once (our choice)")
    retries: int = Field(5, ge=0, le=50, description="further tries after a failure that may pass, without progress")
    backoff_seconds: float = Field(1.0, ge=0, le=60, description="first pause before another try, s; doubles each time")
    timeout_seconds: float = Field(30.0, gt=0, le=600, description="a server silent for this long is given up, s")
    max_gigabytes: float = Field(20.0, gt=0, description="largest file, 1e9 bytes (our choice)")
    unreachable_max: float = Field(
        0.05,
        ge=0,
        le=1,
        description="share of addresses that may stay unreachable; above it the stage fails and goes on when run again "
        "(our choice)",
    )
    allow_hosts: list[str] = Field(
        [],
        description="names, addresses and networks (10.1.0.0/16) that may be asked although they are private, loopback "
        "or link-local",
        json_schema_extra=PLACE,
    )
    round: int = Field(1, ge=1, description="raise it to ask again for what failed or may have changed")


class Request(BaseModel):
    """Where the raw media come from."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(
        SAMPLE,
        min_length=1,
        description="'sample' renders the sample corpus; a folder of videos and images is read recursively and left in "
        "place; s3://bucket/prefix, a list of addresses (.txt) or a table (.parquet, .csv, .jsonl) is downloaded; "
        "relative paths count from the workspace",
    )
    sample: SampleCorpus = Field(default_factory=SampleCorpus, description="the sample corpus; unused otherwise")
    table: Columns = Field(default_factory=Columns, description="names of a table's columns; unused otherwise")
    download: Download = Field(
        default_factory=Download, description="how files are fetched from addresses and buckets; unused for a folder"
    )

    @field_validator("source")
    @classmethod
    def _is_a_source(cls, source: str) -> str:
        if source.startswith(("http://", "https://")):
            raise ValueError(
                "one address alone is no source; write it into a list, a text file with an address per line"
            )
        return source

    @property
    def kind(self) -> Literal["sample", "bucket", "list", "table", "folder"]:
        """What the source is, by its name alone."""
        if self.source == SAMPLE:
            return "sample"
        if self.source.startswith(BUCKET_SCHEME):
            return "bucket"
        suffix = Path(self.source).suffix.lower()
        if suffix == LIST_SUFFIX:
            return "list"
        return "table" if suffix in TABLE_SUFFIXES else "folder"

    def inputs(self) -> list[str]:
        """What the stage reads, as its cell declares it."""
        if self.kind == "sample":
            return []
        return [self.source] if self.kind == "bucket" else [Path(self.source).expanduser().as_posix()]

    def input_tree(self, path: str, root: Path, digests: Digests) -> Tree | None:
        """Content of a declared input; None where there is nothing. See `goku_core.collect.entries.content`."""
        from goku_core.collect.entries import content

        return content(self, root / path, digests)

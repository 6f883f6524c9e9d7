"""Parameters of deduplication."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Semantic(BaseModel):
    """Clips that mean the same (SemDeDup, arXiv 2303.09540): clusters of embeddings, cosine within a cluster."""

    model_config = ConfigDict(extra="forbid")

    min_cosine: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="cosine of two embeddings from which on the worse clip goes; 1 switches it off (our choice). "
        "Needs the column clip_embedding",
    )
    clusters: int = Field(
        default=0, ge=0, description="clusters of k-means; 0: one per 500 clips, at least one (our choice)"
    )
    iterations: int = Field(default=20, ge=1, description="rounds of k-means at most (our choice)")


class Stills(BaseModel):
    """Bounds for pictures. One frame says less than many: what tells two shapes on a plain ground apart is smaller."""

    model_config = ConfigDict(extra="forbid")

    max_difference: float = Field(
        default=0.08, ge=0, description="as above (our choice: re-encoded and scaled pictures stay below 0.03)"
    )
    max_peak: float = Field(default=0.4, ge=0, description="as above (our choice: such copies stay below 0.11)")
    max_color: float = Field(
        default=1.0, ge=0, le=255, description="as above, levels of 255 (our choice: such copies stay below 1)"
    )
    max_edges: float = Field(
        default=0.03,
        ge=0,
        le=2,
        description="as above (our choice: re-encoded and scaled pictures stay below 0.006, other shapes are above 0.05)",
    )


class Dedup(BaseModel):
    """Near-duplicates (paper section 4.4: perceptual hash; type and distance unknown). All bounds must hold."""

    model_config = ConfigDict(extra="forbid")

    max_hamming: int = Field(
        default=8,
        ge=-1,
        le=64,
        description="bits of 64 in which two hashes may differ; -1 switches it off (our choice)",
    )
    max_difference: float = Field(
        default=0.3,
        ge=0,
        description="mean difference of 8x8 tiles of luma, in units of the clips' contrast (our choice: copies stay below "
        "0.25, other scenes above 0.45)",
    )
    max_peak: float = Field(
        default=0.55,
        ge=0,
        description="the same of the tile that differs most, over the clip; tells shapes on plain grounds apart (our "
        "choice: re-encoded, scaled and cropped copies stay below 0.35)",
    )
    max_movement: float = Field(
        default=0.42,
        ge=0,
        description="difference of what moves, of all that moves in both; tells two takes before one ground apart "
        "(our choice: copies stay below 0.41, other takes are mostly above 0.6)",
    )
    max_color: float = Field(
        default=2.0,
        ge=0,
        le=255,
        description="levels of 255 by which colours of 4x4 tiles differ in the mean (our choice: re-encoded, scaled and "
        "cropped copies stay below 1.6, much brighter ones below 3.3)",
    )
    max_edges: float = Field(
        default=0.05,
        ge=0,
        le=2,
        description="1 - cosine of the edges of all common frames, in 16x16 tiles; tells a star from a circle of the same "
        "colour in the same place (our choice: re-encoded, scaled, shifted copies and such with a logo stay below 0.03, "
        "other shapes are mostly above 0.06)",
    )
    max_edges_cropped: float = Field(
        default=0.12,
        ge=0,
        le=2,
        description="the same where a window of one clip fits the other better than the whole (our choice: copies cropped "
        "by 5 % stay below 0.12)",
    )
    pictures: Stills = Field(default_factory=Stills, description="closer bounds for pictures, which have one frame")
    semantic: Semantic = Field(default_factory=Semantic, description="clips of the same meaning")

    def of(self, kind: str) -> Dedup:
        """The bounds for "video" or "image"."""
        return self if kind == "video" else self.model_copy(update=self.pictures.model_dump())

"""Parameters of the checks."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Drift(BaseModel):
    """How far a version may lie from the one before it (our choice: the paper says nothing of versions)."""

    model_config = ConfigDict(extra="forbid")

    max_distance: float = Field(
        default=0.35,
        gt=0,
        le=1,
        description="total variation distance, 0 to 1, of any score or label among kept clips from which on nothing is "
        "published; 1 switches it off (our choice)",
    )
    min_rows: int = Field(
        default=200, ge=1, description="kept clips both versions need to be compared (our choice: fewer are chance)"
    )

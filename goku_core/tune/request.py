"""Parameters of `goku tune`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Value = bool | int | float | str


class Range(BaseModel):
    """Values that a key may take: from `low` to `high`, or one of `choices`."""

    model_config = ConfigDict(extra="forbid")

    low: int | float | None = Field(None, description="least value; whole numbers where both ends are")
    high: int | float | None = Field(None, description="greatest value")
    log: bool = Field(False, description="evenly spread in the logarithm")
    choices: list[Value] | None = Field(None, description="the values themselves, in place of an interval")

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Range:
        interval = (self.low is not None, self.high is not None)
        if self.choices is not None:
            if any(interval) or self.log or not self.choices:
                raise ValueError("give either choices (at least one), or low and high")
            return self
        if not all(interval):
            raise ValueError("give low and high, or choices")
        if self.low >= self.high or (self.log and self.low <= 0):
            raise ValueError(f"{self.low:g} to {self.high:g}: low must be below high, and above 0 with log")
        return self

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


class TuneRequest(BaseModel):
    """A search for better parameters of one phase (all our choice: the paper says nothing of how it chose)."""

    model_config = ConfigDict(extra="forbid")

    phase: str | None = Field(None, description="phase of train that every trial trains; null: the first one")
    space: dict[str, Range] = Field(
        default_factory=dict,
        description="what varies, by full key: {train.phases.joint_low.learning_rate: {low: 1e-4, high: 1e-2, log: true}}",
    )
    trials: int = Field(20, ge=1, description="trials in all, those of earlier runs of the study counted")
    startup_trials: int = Field(
        5, ge=1, description="trials drawn at random before the search learns, and before it prunes"
    )
    pruner: Literal["median", "none"] = Field(
        "median", description="median: stop a trial whose validation loss is above the median of the others at its step"
    )
    warmup: float = Field(0.25, ge=0, le=1, description="share of the phase's steps before which none is stopped")
    seed: int = Field(0, ge=0, description="of the search's own draws; the trials keep the run seed")
    storage_variable: str = Field(
        "",
        pattern="^([A-Za-z_][A-Za-z0-9_]*)?$",
        description="name of the environment variable with a database URL, to search from several machines, never the URL; "
        "empty: a journal file in .goku/tune",
    )

    @model_validator(mode="after")
    def _changes_what_it_can(self) -> TuneRequest:
        for key in self.space:
            if key.split(".")[0] in ("tune", "tracking", "collect", "seed"):
                raise ValueError(
                    f"space: {key} cannot be searched: the search itself, the seed, the tracking and the raw media stay as they are"
                )
        return self

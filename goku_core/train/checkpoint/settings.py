"""When a run is saved, what stays of it, and where."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Checkpointing(BaseModel):
    """None of it changes the result of a run."""

    model_config = ConfigDict(extra="forbid")

    every: int = Field(200, ge=1, description="steps between checkpoints")
    keep: int = Field(
        2, ge=1, description="newest checkpoints that stay; where the newest is damaged, the next one counts"
    )
    keep_every: int | None = Field(
        None, ge=1, description="checkpoints at multiples of so many steps stay until the phase is done; null for none"
    )
    asynchronous: bool = Field(True, description="written while training goes on; false: training waits for the disk")
    remote: str | None = Field(
        None, description="s3://bucket/prefix of a second copy, sent behind the local one; null for none"
    )

    @field_validator("remote")
    @classmethod
    def _remote_is_an_address(cls, remote: str | None) -> str | None:
        if remote is not None:
            from goku_core.storage import GokuError, split_url

            try:
                split_url(remote)
            except GokuError as error:
                raise ValueError(str(error)) from error
        return remote

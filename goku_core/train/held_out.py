"""Samples that are never trained on, kept for the validation loss."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import numpy as np


class Validation(BaseModel):
    """The loss of samples that are held out (all our choice: the paper reports none)."""

    model_config = ConfigDict(extra="forbid")

    share: float = Field(
        0.0, ge=0, le=0.5, description="share of the clips and pictures that no phase trains on; 0: no validation"
    )
    every: int = Field(200, ge=1, description="steps between validation losses; the last step always has one")
    samples: int = Field(64, ge=1, description="samples in it at most, drawn by their names")
    weights: Literal["ema", "raw"] = Field("ema", description="whose loss: the averaged weights, or those in training")
    of: Literal["mix", "pictures", "clips"] = Field(
        "mix", description="samples of which kind: as the phase mixes them, or of one kind whatever it trains on"
    )


def held_out(clip_ids: Iterable[str], share: float) -> np.ndarray:
    """bool: which samples are held out, by the clip or picture they are of.

    A function of that name and of nothing else, so that all windows of a clip, all its resolutions, all phases and all versions
    of a data set agree. A larger share holds out what a smaller one does, and more.
    """
    import numpy as np

    bound = share * 2.0**64
    return np.array([share > 0 and _place(str(one)) < bound for one in clip_ids], bool)


def _place(clip_id: str) -> int:
    """Where the name falls among 2^64 places, evenly."""
    return int.from_bytes(hashlib.blake2b(f"held out\0{clip_id}".encode(), digest_size=8).digest(), "big")

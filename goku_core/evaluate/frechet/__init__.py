"""Distances between two sets of samples: FID, sFID, Inception Score, precision and recall, KID, FVD, video IS.

The arithmetic needs no weights and no network; `run` feeds it from a folder of pictures or clips.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goku_core.evaluate.frechet.measure import Report


def run(folder: Path, reference: Path | None = None, flavour: str = "adm", **how: Any) -> Report:
    """Every measure of the flavour for the set at `folder`, against `reference`. how: see `measure.run`."""
    from goku_core.evaluate.frechet import measure

    return measure.run(folder, reference, flavour, **how)

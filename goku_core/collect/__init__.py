"""Collect: gathers raw media, a user's folder or the rendered sample corpus, and names every file by its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goku_core.collect.request import Request

if TYPE_CHECKING:
    from goku_core.collect.collection import Report
    from goku_core.pipeline.context import Context

__all__ = ["Request", "run"]


def run(request: Request, context: Context) -> Report:
    """Writes data/raw (the files, for the sample corpus) and data/raw.parquet (one row per file found)."""
    from goku_core.collect.collection import collect

    return collect(request, context)

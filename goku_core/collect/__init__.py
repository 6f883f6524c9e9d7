"""Collect: gathers raw media from a folder, a bucket, a list, a table or the rendered sample corpus, named by their bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goku_core.collect.request import Request

if TYPE_CHECKING:
    from goku_core.collect.collection import Report
    from goku_core.pipeline.context import Context

__all__ = ["Request", "run"]


def run(request: Request, context: Context) -> Report:
    """Writes data/raw (the files rendered or downloaded) and data/raw.parquet (one row per file found or named)."""
    from goku_core.collect.collection import collect

    return collect(request, context)

"""curate: gate, clip, score, filter, dedup, caption; three outcomes for everything: kept, rejected, failed.

Reads data/raw and data/raw.parquet; writes data/clips.parquet, data/transcoded and reports/curation.
"""

from typing import TYPE_CHECKING

from goku_core.curate.request import Request

if TYPE_CHECKING:
    from goku_core.curate.funnel import Report
    from goku_core.pipeline.context import Context

__all__ = ["Request", "run"]


def run(request: Request, context: "Context") -> "Report":
    """Curates everything in data/raw.parquet. See `goku_core.curate.funnel`."""
    from goku_core.curate.funnel import curate

    return curate(request, context)

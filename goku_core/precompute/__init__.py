"""Stage `precompute`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from goku_core.precompute.request import PrecomputeRequest as Request

if TYPE_CHECKING:
    from goku_core.pipeline.context import Context
    from goku_core.precompute.report import Report

__all__ = ["Request", "run"]


def run(request: Request, context: Context) -> Report:
    from goku_core.precompute.stage import run as body

    return body(request, context)

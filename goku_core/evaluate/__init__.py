"""evaluate: samples from the trained models and scores them; every score is a pure function of stored records.

Reads models/vae and the models of its phases; writes reports/evaluation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from goku_core.evaluate.request import Request

if TYPE_CHECKING:
    from goku_core.evaluate.evaluation import Report
    from goku_core.pipeline.context import Context

__all__ = ["Request", "run"]


def run(request: Request, context: Context) -> Report:
    """Scores pictures by GenEval's protocol and clips by direction, flicker and first frame. See `evaluation`."""
    from goku_core.evaluate.evaluation import evaluate

    return evaluate(request, context)

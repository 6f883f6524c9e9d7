"""The last stage: a bundle, a gate, a ledger entry, a registry alias.

Which model is champion, since when and on what evidence is answered by ``ledger/`` alone; MLflow mirrors it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from goku_core.promote.request import Request

if TYPE_CHECKING:
    from goku_core.pipeline.context import Context
    from goku_core.promote.promotion import Report

__all__ = ["Request", "run"]


def run(request: Request, context: Context) -> Report:
    """Bundle the evaluated models, decide by the gate, write the ledger, mirror the decision to the registry."""
    from goku_core.promote.promotion import promote

    return promote(request, context)

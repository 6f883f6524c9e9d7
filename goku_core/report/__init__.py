"""report: one self-contained page and a table in the terminal, from what the workspace holds. Runs no stage."""

from __future__ import annotations

from pathlib import Path

__all__ = ["build", "print_table"]


def build(workspace: Path) -> Path:
    """Writes reports/index.html: pictures, clips and curves inside, nothing loaded from outside. Returns its path."""
    from goku_core.report.page import build_page

    return build_page(workspace)


def print_table(workspace: Path) -> None:
    """The line in numbers on the terminal (standard output)."""
    from goku_core.report.table import print_summary

    print_summary(workspace)

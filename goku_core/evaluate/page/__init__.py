"""evaluation.html: the tables of an evaluation beside published ones, and every sample with what was said about it."""

from __future__ import annotations

from goku_core.evaluate.page.build import write_page

__all__ = ["write_page"]

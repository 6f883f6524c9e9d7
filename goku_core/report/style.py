"""The style sheet that all reports share."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup


def page_style() -> Markup:
    return Markup((Path(__file__).parent / "page.css").read_text(encoding="utf-8"))

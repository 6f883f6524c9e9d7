"""reports/curation.html: what curation did, for people to look at."""

from __future__ import annotations

from goku_core.curate.page.build import write_page

__all__ = ["write_page"]

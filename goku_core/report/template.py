"""How every report becomes HTML: escaped, nothing undefined, with the shared style and the script beside its template."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup


def rendered(folder: Path, view: Mapping[str, Any], filters: Mapping[str, Callable[..., str]]) -> str:
    """``folder``/page.html.j2 with the values of ``view``; the template's `style` and `script` are given by this function.

    Raises `jinja2.UndefinedError` where the template names what is not there.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    style, script = (_raw(path) for path in (Path(__file__).parent / "page.css", folder / "page.js"))
    return environment.get_template("page.html.j2").render(**view, style=style, script=script)


def _raw(path: Path) -> Markup:
    """A page may do without a script."""
    return Markup(path.read_text(encoding="utf-8") if path.is_file() else "")

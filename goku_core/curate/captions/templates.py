"""Prompts in files: `templates/*.j2` of this package, each overruled by a file of the same name in the user's folder.

Variables: kind (video or image), seconds (length of the clip), sidecar (text beside the file where shown as a hint,
else ""), keyframes and clip (the two captions to merge), camera (list of camera motions the clip's caption names).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from goku_core.pipeline.errors import GokuError

OWN = Path(__file__).parent / "templates"
NAMES = ("image", "keyframes", "clip", "merge")
NOTHING: dict[str, Any] = {"kind": "video", "seconds": 0.0, "sidecar": "", "keyframes": "", "clip": "", "camera": []}


class Templates:
    """The prompts in force. `digests[name]` is the SHA-256 of a template's text."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: the user's own. Raises `GokuError` where it is missing, holds strangers or a template is wrong."""
        own = _files(folder) if folder else {}
        environment = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False, trim_blocks=True)
        self.digests: dict[str, str] = {}
        self._templates: dict[str, Any] = {}
        for name in NAMES:
            path = own.get(name, OWN / f"{name}.j2")
            text = path.read_text(encoding="utf-8")
            self.digests[name] = hashlib.sha256(text.encode()).hexdigest()
            try:
                self._templates[name] = environment.from_string(text)
                self.instructions(name)
            except TemplateError as error:
                line = getattr(error, "lineno", None)
                where = f"{path}, line {line}" if line else str(path)
                raise GokuError(f"{where}: {error.message}. Variables are {', '.join(NOTHING)}.") from error

    def render(self, name: str, values: Mapping[str, Any]) -> str:
        return self._templates[name].render({**NOTHING, **values}).strip()

    def instructions(self, name: str) -> str:
        """The prompt without anything of a clip: what a caption must not say back."""
        return self.render(name, NOTHING)


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise GokuError(f"curate.captions.templates: {folder} is no folder")
    found = {path.stem: path for path in sorted(folder.glob("*.j2"))}
    if strangers := [name for name in found if name not in NAMES]:
        raise GokuError(f"{found[strangers[0]]}: no such template; the names are {', '.join(NAMES)} (.j2)")
    if not found:
        raise GokuError(f"curate.captions.templates: {folder} holds no *.j2; the names are {', '.join(NAMES)}")
    return found

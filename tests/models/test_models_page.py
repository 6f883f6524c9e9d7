"""docs/models.md names files and things in them: each must be there, and its numbers must be the configs'."""

import re
from pathlib import Path

import pytest

from goku_core.models import CONFIGS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/models.md"


def references() -> list[tuple[str, str]]:
    """(file, name) of every `file.py` followed by `Name`, `name` in the page."""
    found = []
    for file, names in re.findall(r"`(goku_core/[\w/]+\.py)`((?:,? `\w+`)*)", PAGE.read_text(encoding="utf-8")):
        found += [(file, name) for name in re.findall(r"`(\w+)`", names)] or [(file, "")]
    return found


def test_the_page_has_references() -> None:
    assert len(references()) > 20


@pytest.mark.parametrize(("file", "name"), sorted(set(references())))
def test_what_is_named_is_there(file: str, name: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(rf"^(?:    )?(?:class|def) {name}\b", text, re.MULTILINE) if name else text


@pytest.mark.parametrize("name", ["nano", "1b", "2b", "8b"])
def test_sizes_are_those_of_the_configs(name: str) -> None:
    config = CONFIGS[name]
    row = f"| `{name}` | {config.depth} | {config.width} | {config.heads} | {config.ffn} |"
    assert row in PAGE.read_text(encoding="utf-8")

"""Every network that is declared stands in docs/weights.md with its place, command and licence."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import goku_core.evaluate
import goku_core.scorers
from goku_core.scorers.sources import Source

ROOT = Path(__file__).parents[2]


def declared() -> dict[str, Source]:
    found = {}
    for package in (goku_core.evaluate, goku_core.scorers):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, Source):
                    found[value.place] = value
    return found


def rows() -> dict[str, list[str]]:
    text = (ROOT / "docs/weights.md").read_text(encoding="utf-8").split("# Weights of evaluation")[1]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")
    ]
    return {cell[1].strip("`"): cell for cell in cells if len(cell) == 5}


def test_the_table_tells_what_messages_tell() -> None:
    sources, table, text = declared(), rows(), (ROOT / "docs/weights.md").read_text(encoding="utf-8")
    assert {"dino_vitbase16_pretrain.pth", "clip-vit-base-patch32", "spaq_ckpt.npz", "raft-things.pth"} <= set(sources)
    for place, source in sources.items():
        assert place in table, f"{place} ({source.name}) has no row in docs/weights.md"
        judge, _, told, size, licence = table[place]
        assert f"`{source.get}`" in told and licence == source.licence and judge and size, place
        assert source.sha256 == "" or source.sha256 in text, place

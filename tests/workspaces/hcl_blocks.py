"""Blocks and plain attributes of Terraform's language, read without Terraform: enough to look at what a file says."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_HEAD = re.compile(r'^\s*(?P<kind>[a-z_]+)(?P<labels>(\s+"[^"]*")*)\s*\{\s*$')


@dataclass(frozen=True)
class Block:
    """`kind "label" "label" { body }`; body: its lines, inner blocks and all."""

    kind: str
    labels: tuple[str, ...]
    body: str

    def attribute(self, name: str) -> str | None:
        """The text behind `name =` of the block itself, not of one inside it; None where it is not given."""
        found = re.search(rf"^\s*{re.escape(name)}\s*=\s*(.+?)\s*$", outer(self.body), re.MULTILINE)
        return found and re.sub(r"\s+#.*$", "", found[1])

    def inner(self, kind: str) -> list[Block]:
        return [one for one in blocks(self.body) if one.kind == kind]


def of_folder(folder: Path) -> list[Block]:
    return [block for file in sorted(folder.glob("*.tf")) for block in blocks(file.read_text(encoding="utf-8"))]


def blocks(text: str) -> list[Block]:
    """Those at the outside. Raises `ValueError` where a brace is left open."""
    found, lines, place = [], text.splitlines(), 0
    while place < len(lines):
        head = _HEAD.match(lines[place])
        if head is None:
            place += 1
            continue
        depth, end = 1, place
        while depth:
            end += 1
            if end == len(lines):
                raise ValueError(f"{head['kind']}{head['labels']}: its brace is not closed")
            depth += _depth(lines[end])
        labels = tuple(re.findall(r'"([^"]*)"', head["labels"]))
        found.append(Block(head["kind"], labels, "\n".join(lines[place + 1 : end])))
        place = end + 1
    return found


def outer(body: str) -> str:
    """The lines of a block that are not inside of another one."""
    kept, depth = [], 0
    for line in body.splitlines():
        if depth == 0 and not _HEAD.match(line):
            kept.append(line)
        depth += _depth(line)
    return "\n".join(kept)


def _depth(line: str) -> int:
    bare = re.sub(r'"(\\.|[^"\\])*"|#.*$', "", line)
    return bare.count("{") - bare.count("}")

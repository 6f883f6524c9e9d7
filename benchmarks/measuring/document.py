"""Writes the figures of the committed results into docs/benchmarks.md: python -m benchmarks.measuring.document

Every figure there comes from a result file; a test compares the two.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.measuring.result import shown

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT, RESULTS = ROOT / "docs/benchmarks.md", ROOT / "benchmarks/results"
START, END = "<!-- figures: python -m benchmarks.measuring.document -->", "<!-- end of figures -->"
EMPTY = "No results are committed yet."
HIDDEN = {"seconds"}


def render(folder: Path) -> str:
    """Markdown of all result files of a folder, by name."""
    parts = [_section(path) for path in sorted(folder.glob("*.json"))]
    return "\n\n".join(parts) if parts else EMPTY


def _section(path: Path) -> str:
    found = json.loads(path.read_text(encoding="utf-8"))
    machine = found["machine"]
    where = machine["device"] if machine["device"] != "cpu" else f"{machine['cpu']}, {machine['cores']} cores"
    versions = [f"torch {machine['torch']}", *([f"diffusers {machine['diffusers']}"] if machine["diffusers"] else [])]
    load = f"load {found['load']['before'][0]} before, {found['load']['after'][0]} after"
    facts = [where, *versions, found["options"]["dtype"], f"{machine['threads']} threads", load, found["date"]]
    text = [f"### {found['benchmark']}: {where}", f"{found['claim']}. {', '.join(facts)}. "]
    text[-1] += f"[Result file](../benchmarks/results/{path.name})"
    if found["ratios"]:
        text.append(_table(["ratio", "of", "to", "case", "least to greatest"], map(_ratio, found["ratios"])))
    keys = list(dict.fromkeys(key for row in found["rows"] for key in row if key not in HIDDEN))
    text.append(_table(keys, ([shown(row.get(key, "")) for key in keys] for row in found["rows"])))
    if path.with_suffix(".png").is_file():
        text.append(f"![{found['claim']}](../benchmarks/results/{path.with_suffix('.png').name})")
    if found["notes"]:
        text.append("\n".join(f"- {note}" for note in found["notes"]))
    return "\n\n".join(text)


def _ratio(ratio: dict[str, Any]) -> list[str]:
    spread = f"{ratio['low']:.2f} to {ratio['high']:.2f} ({ratio['repeats']})" if ratio["repeats"] > 1 else "one repeat"
    return [f"{ratio['ratio']:.2f}x", ratio["side"], ratio["against"], ratio["case"], spread]


def _table(head: list[str], lines: Any) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def written(document: str) -> str:
    """What stands between the markers."""
    return document.split(START)[1].split(END)[0].strip()


def main() -> None:
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    DOCUMENT.write_text(f"{before}{START}\n\n{render(RESULTS)}\n\n{END}{after}", encoding="utf-8")
    print(f"{DOCUMENT.name}: {len(list(RESULTS.glob('*.json')))} result files", file=sys.stderr)


if __name__ == "__main__":
    main()

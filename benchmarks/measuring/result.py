"""What a run found: rows and ratios, a table on the terminal, a JSON file."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import machine
from benchmarks.measuring.timing import Call, Timing, alternate, compare

FORMAT = 1


class Result:
    """Rows (one per case and side) and ratios of one benchmark.

    name, claim   the benchmark, and the sentence it measures
    options       settled options (`options.settle`)
    """

    def __init__(self, name: str, claim: str, options: argparse.Namespace) -> None:
        self.name, self.claim, self.options = name, claim, options
        self.device = torch.device(options.device)
        self.machine = machine.describe(self.device)
        self.load_before = machine.load()
        self.rows: list[dict[str, Any]] = []
        self.ratios: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def measure(
        self,
        case: str,
        sides: dict[str, Call],
        pairs: list[tuple[str, str]],
        *,
        repeats: int,
        warmup: int = 1,
        per_call: dict[str, float] | None = None,
        between: Call = lambda: None,
        **facts: Any,
    ) -> dict[str, Timing]:
        """Times the sides of one case; `pairs` are (side, against). `per_call` are amounts done in a call ("tokens": 2016),
        the same for all sides; each becomes a rate per second. `between` is called after each side, untimed."""
        timings = alternate(sides, self.device, repeats, warmup, lambda what: self.say(f"{case}: {what}"), between)
        for side, timing in timings.items():
            row: dict[str, Any] = {"case": case, "side": side, "median_s": timing.median, "seconds": timing.seconds}
            row |= {"peak_gib": timing.peak_gib} if timing.peak_gib is not None else {}
            row |= {f"{what}_per_s": amount / timing.median for what, amount in (per_call or {}).items()}
            self.rows.append(row | facts)
        self.ratios += [{"case": case} | asdict(compare(timings, side, against)) for side, against in pairs]
        return timings

    def note(self, text: str) -> None:
        """Something a reader of the figures must know, such as a side that could not run. Said once."""
        if text not in self.notes:
            self.notes.append(text)

    def say(self, text: str) -> None:
        """Progress, on standard error."""
        print(f"[{self.name}] {text}", file=sys.stderr, flush=True)

    def as_json(self) -> dict[str, Any]:
        given = {k: v for k, v in vars(self.options).items() if k != "out"}
        return {
            "format": FORMAT,
            "benchmark": self.name,
            "claim": self.claim,
            "date": datetime.now(UTC).date().isoformat(),
            "machine": self.machine,
            "load": {"before": self.load_before, "after": machine.load()},
            "code": machine.code_digest(),
            "options": given,
            "rows": self.rows,
            "ratios": self.ratios,
            "notes": self.notes,
        }

    def table(self) -> str:
        """Rows and ratios as text."""
        skipped = {"seconds"}
        keys = list(dict.fromkeys(key for row in self.rows for key in row if key not in skipped))
        lines = [[*keys, "spread"]]
        for row in self.rows:
            lines.append([shown(row.get(key, "")) for key in keys] + [_spread(row.get("seconds", []))])
        text = [self.claim, "", _columns(lines)]
        if self.ratios:
            text += ["", _columns([["ratio", "of", "to", "case", "least to greatest"], *map(_ratio_line, self.ratios)])]
        return "\n".join([*text, *([""] if self.notes else []), *(f"note: {note}" for note in self.notes)])

    def finish(self) -> Path | None:
        """Prints the table; writes the result file where options.out says one is wanted, and returns it."""
        print(self.table())
        if self.options.out is None:
            print("\nnot written: name a folder with --out", file=sys.stderr)
            return None
        self.options.out.mkdir(parents=True, exist_ok=True)
        path = self.options.out / f"{self.name}-{machine.slug(self.machine)}.json"
        path.write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf-8")
        print(f"\nwritten: {path.name}", file=sys.stderr)
        return path


def shown(value: Any) -> str:
    """A figure with three digits, or the text itself."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def _spread(seconds: list[float]) -> str:
    return f"{min(seconds):.3g} to {max(seconds):.3g} s ({len(seconds)})" if seconds else ""


def _ratio_line(ratio: dict[str, Any]) -> list[str]:
    spread = f"{ratio['low']:.2f} to {ratio['high']:.2f}" if ratio["repeats"] > 1 else "one repeat"
    return [f"{ratio['ratio']:.2f}x", ratio["side"], ratio["against"], ratio["case"], spread]


def _columns(lines: list[list[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)

"""Histograms as inline SVG, with the lines of thresholds. Colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from goku_core.report.charts import ticks

WIDTH, HEIGHT = 560, 170
LEFT, RIGHT, TOP, BOTTOM = 10, 10, 26, 22
BINS = 40
TAIL = 0.995  # the last bar holds everything above this share, so that one outlier does not flatten the rest


@dataclass(frozen=True)
class Line:
    """A threshold: where it stands, what it is called, and whether values below it ("least") or above it ("most") go."""

    value: float
    name: str
    kind: str


def histogram(kept: Sequence[float], gone: Sequence[float], lines: Sequence[Line], title: str, log: bool) -> Markup:
    """Stacked bars of kept values and of those that went, whatever they went for; empty where there is no value.

    log  the axis is log(1 + x), for scores over orders of magnitude
    """
    values = np.array([*kept, *gone], dtype=np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return Markup("")
    low = min([float(values.min()), *(line.value for line in lines)])
    high = max([float(np.quantile(values, TAIL)), *(line.value * 1.05 for line in lines)])
    high = high if high > low else low + 1.0
    warp = np.log1p if log and low >= 0 else np.asarray
    first, last = float(warp(low)), float(warp(high))
    edges = np.linspace(first, last, BINS + 1)

    def counted(given: Sequence[float]) -> np.ndarray:
        warped = np.clip(warp(np.array(given, dtype=np.float64)), first, last)
        return np.histogram(warped, edges)[0]

    stays, goes = counted(kept), counted(gone)
    most = max(1, int((stays + goes).max()))

    def x_at(value: float) -> float:
        return LEFT + (float(warp(value)) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def height_of(count: int) -> float:
        # Square root: a bar of three clips stays visible beside one of three thousand.
        return math.sqrt(count / most) * (HEIGHT - TOP - BOTTOM)

    step = (WIDTH - LEFT - RIGHT) / BINS
    bars = []
    for place, (stay, go) in enumerate(zip(stays.tolist(), goes.tolist(), strict=True)):
        if stay + go == 0:
            continue
        whole, x = height_of(stay + go), LEFT + place * step
        part = whole * stay / (stay + go)
        floor = HEIGHT - BOTTOM
        for kind, top, tall in (("stay", floor - part, part), ("go", floor - whole, whole - part)):
            if tall > 0:
                bars.append(
                    f'<rect class="{kind}" x="{x:.1f}" y="{top:.1f}" width="{step - 1:.1f}" height="{tall:.1f}">'
                    f"<title>{stay} kept, {go} not</title></rect>"
                )
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" class="histogram" role="img" aria-label="{Markup.escape(title)}">'
        f"<title>{Markup.escape(title)}</title>{''.join(bars)}{_axis(low, high, log, x_at)}{_marks(lines, x_at)}</svg>"
    )


def _axis(low: float, high: float, log: bool, x_at) -> str:
    if log:
        decades = [m * 10.0**k for k in range(-3, 7) for m in (1, 3)]
        at = [0.0, *decades] if low <= 0 else decades
        marks = [t for t in at if low <= t <= high]
        marks = [t for i, t in enumerate(marks) if i == 0 or x_at(t) - x_at(marks[i - 1]) > 24]
    else:
        marks = ticks(low, high, 6)
    base = f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}" class="grid"/>'
    return base + "".join(
        f'<text x="{x_at(t):.1f}" y="{HEIGHT - 6}" class="tick mid">{round(t, 6):g}</text>' for t in marks
    )


def _marks(lines: Sequence[Line], x_at) -> str:
    """Threshold lines; equal ones share a line and join their names."""
    places: dict[tuple[float, str], list[str]] = {}
    for line in lines:
        places.setdefault((line.value, line.kind), []).append(line.name)
    drawn = []
    for number, ((value, kind), names) in enumerate(sorted(places.items())):
        x = x_at(value)
        anchor = "end" if x > WIDTH * 0.7 else "start"
        shift = -4 if anchor == "end" else 4
        sign = "≥" if kind == "least" else "≤"
        drawn.append(
            f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 12}" y2="{HEIGHT - BOTTOM}"/>'
            f'<text class="limit" text-anchor="{anchor}" x="{x + shift:.1f}" y="{TOP - 14 + 11 * (number % 3)}">'
            f"{sign} {value:g} {Markup.escape(', '.join(names))}</text>"
        )
    return "".join(drawn)

"""Curves as inline SVG: no plotting library, colours from the page's own style sheet (so they follow light and
dark)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT = 340, 150
LEFT, RIGHT, TOP, BOTTOM = 42, 8, 10, 22
MOST_POINTS = 240


def smoothed(values: Sequence[float], share: float = 0.04) -> list[float]:
    """Exponential mean whose memory is that share of the curve (bias-corrected, so it starts at the first value)."""
    keep = 1 - 1 / max(1.0, share * len(values))
    mean = weight = 0.0
    curve = []
    for value in values:
        mean = keep * mean + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        curve.append(mean / weight)
    return curve


def curve(steps: Sequence[float], values: Sequence[float], title: str) -> Markup:
    """One curve: faint raw values, a firm smoothed line, its end marked. Empty for fewer than two points."""
    points = [(s, v) for s, v in zip(steps, values, strict=True) if math.isfinite(s) and math.isfinite(v)]
    if len(points) < 2:
        return Markup("")
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    soft = smoothed(ys)
    low, high = _range(ys)
    x_at = _scale(xs[0], xs[-1], LEFT, WIDTH - RIGHT)
    y_at = _scale(low, high, HEIGHT - BOTTOM, TOP)
    grid = "".join(
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y_at(t):.1f}" y2="{y_at(t):.1f}" class="grid"/>'
        f'<text x="{LEFT - 6}" y="{y_at(t) + 3.5:.1f}" class="tick end">{_number(t)}</text>'
        for t in ticks(low, high, 3)
    )
    foot = "".join(
        f'<text x="{x_at(t):.1f}" y="{HEIGHT - 6}" class="tick mid">{_number(t)}</text>'
        for t in ticks(xs[0], xs[-1], 4)
    )
    last = f"{x_at(xs[-1]):.1f}", f"{y_at(min(max(soft[-1], low), high)):.1f}"
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" class="curve" role="img" aria-label="{Markup.escape(title)}">'
        f"<title>{Markup.escape(title)}</title>{grid}{foot}"
        f'<path d="{_path(xs, ys, x_at, y_at, low, high)}" class="raw"/>'
        f'<path d="{_path(xs, soft, x_at, y_at, low, high)}" class="soft"/>'
        f'<circle cx="{last[0]}" cy="{last[1]}" r="3" class="dot"/></svg>'
    )


def ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers within [low, high], roughly `about` of them."""
    if high <= low:
        return [low]
    step = 10 ** math.floor(math.log10((high - low) / about))
    step *= min((1, 2, 5, 10), key=lambda m: abs((high - low) / (m * step) - about))
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Shown range: all values but the highest 2 % (a loss starts far above the rest of its curve), with a little
    air."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[min(len(ordered) - 1, int(0.98 * len(ordered)))]
    air = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    return low - air, high + air


def _scale(a: float, b: float, start: float, end: float):
    span = (b - a) or 1.0
    return lambda value: start + (value - a) / span * (end - start)


def _path(xs: Sequence[float], ys: Sequence[float], x_at, y_at, low: float, high: float) -> str:
    stride = max(1, math.ceil(len(xs) / MOST_POINTS))
    kept = [*range(0, len(xs) - 1, stride), len(xs) - 1]
    return "M" + "L".join(f"{x_at(xs[i]):.1f} {y_at(min(max(ys[i], low), high)):.1f}" for i in kept)


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value / 1000:g}k"
    return f"{round(value, 6):g}"

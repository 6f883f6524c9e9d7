"""A score as a bar with its interval as whiskers, inline SVG: chance dotted, published scores as ticks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, BAR, GAP = 320, 11, 4


@dataclass(frozen=True)
class Bar:
    """One score. mode: "corrected" or "official"; place: its number among the modes shown, which gives it its colour.

    low, high  of its interval; None where it has none, and then no whiskers either
    """

    mode: str
    place: int
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Tick:
    """A score somebody published."""

    name: str
    value: float


def bars(given: Sequence[Bar], top: float, chance: float | None = None, ticks: Sequence[Tick] = ()) -> Markup:
    """One picture of a line: a bar per mode on the axis 0 to `top`. Values beyond the axis end at its end."""
    if not given or top <= 0:
        return Markup("")
    tall = len(given) * (BAR + GAP) + GAP

    def x_at(value: float) -> float:
        return min(max(value, 0.0), top) / top * WIDTH

    drawn = [f'<rect class="ground" x="0" y="0" width="{WIDTH}" height="{tall}"/>']
    for place, bar in enumerate(given):
        y = GAP + place * (BAR + GAP)
        has_interval = bar.low is not None and bar.high is not None
        said = f"{bar.value:.4g}, {bar.low:.4g} to {bar.high:.4g}" if has_interval else f"{bar.value:.4g}"
        drawn.append(
            f'<rect class="bar mode-{bar.place}" x="0" y="{y}" width="{x_at(bar.value):.2f}" height="{BAR}">'
            f"<title>{Markup.escape(bar.mode)}: {said}</title></rect>"
        )
        if bar.low is not None and bar.high is not None:
            drawn.append(_whisker(x_at(bar.low), x_at(bar.high), y + BAR / 2))
    if chance is not None:
        drawn.append(
            f'<line class="chance" x1="{x_at(chance):.2f}" x2="{x_at(chance):.2f}" y1="0" y2="{tall}">'
            f"<title>chance {chance:.4g}</title></line>"
        )
    for tick in ticks:
        drawn.append(
            f'<line class="published" x1="{x_at(tick.value):.2f}" x2="{x_at(tick.value):.2f}" y1="0" y2="{GAP}">'
            f"<title>{Markup.escape(tick.name)}: {tick.value:.4g}</title></line>"
        )
    return Markup(
        f'<svg class="bars" viewBox="0 0 {WIDTH} {tall}" width="{WIDTH}" height="{tall}" role="img">{"".join(drawn)}</svg>'
    )


def _whisker(low: float, high: float, middle: float) -> str:
    top, bottom = middle - BAR * 0.3, middle + BAR * 0.3
    return (
        f'<path class="whisker" d="M{low:.2f} {middle}H{high:.2f}M{low:.2f} {top:.2f}V{bottom:.2f}'
        f'M{high:.2f} {top:.2f}V{bottom:.2f}"/>'
    )

"""Histograms: every value is in a bar, thresholds stand where the axis says."""

import re

from goku_core.report.histogram import BINS, LEFT, RIGHT, WIDTH, Line, histogram


def counts(svg: str) -> tuple[int, int]:
    """(kept, not) over all bars; a bar with both has its title twice."""
    bars = set(re.findall(r'x="([\d.]+)" y="[\d.]+" width="[\d.]+" height="[\d.]+"><title>(\d+) kept, (\d+) not', svg))
    return sum(int(kept) for _, kept, _ in bars), sum(int(gone) for _, _, gone in bars)


def test_every_value_is_counted_once() -> None:
    kept, gone = [0.0, 1.0, 2.5, 9.0, 10.0], [0.1, 0.2, 50.0]
    for log in (False, True):
        svg = histogram(kept, gone, [Line(0.3, "480p", "least"), Line(20.0, "480p", "most")], "motion", log)
        assert counts(svg) == (5, 3)
    assert histogram([], [], [], "motion", False) == ""


def test_an_outlier_does_not_flatten_the_rest() -> None:
    svg = histogram([i / 1000 for i in range(1000)], [10.0**6], [], "x", False)
    assert len(set(re.findall(r'class="stay" x="([\d.]+)"', svg))) > BINS * 0.9


def test_a_threshold_stands_at_its_value() -> None:
    svg = histogram([0.0, 10.0], [], [Line(5.0, "tier <1>", "least")], "x", False)
    x = float(re.search(r'class="limit" x1="([\d.]+)"', svg).group(1))
    assert abs(x - (LEFT + (WIDTH - LEFT - RIGHT) / 2)) < 3
    assert "≥ 5 tier &lt;1&gt;" in svg

"""How RAFT's motion score compares with DIS's on the same clips: what a threshold of one means on the other.

Thresholds of paper Table 4 are RAFT's. Where RAFT is off they are applied to DIS as they stand; this report says, from
clips that have both, which share of the verdicts that changes and where DIS would have to be cut instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from goku_core.curate.request import Request

LEAST_CLIPS = 10  # fewer say nothing about a distribution
DIGITS = 6


def calibrate(rows: list[dict[str, Any]], request: Request) -> dict[str, Any]:
    """Report over the clips that have both scores.

    clips, spearman   how many, and the correlation of their ranks
    ratio             median of RAFT / DIS where DIS is at least the smallest `motion_min`, with its 10th and 90th percentile
    thresholds        per bound of Table 4: the DIS score that cuts off the same share of these clips, and the share of
                      clips on which the two scores disagree when the bound is applied to both as it stands
    """
    both = [row for row in rows if row.get("motion") is not None and row.get("motion_raft") is not None]
    report: dict[str, Any] = {"clips": len(both), "least_clips": LEAST_CLIPS}
    if len(both) < LEAST_CLIPS:
        return report
    dis, raft = (np.array([row[name] for row in both], np.float64) for name in ("motion", "motion_raft"))
    report["spearman"] = _rounded(_spearman(dis, raft))
    moving = dis >= min(tier.motion_min for tier in request.tiers.values())
    if moving.any():
        low, middle, high = np.percentile(raft[moving] / np.maximum(dis[moving], 1e-9), [10, 50, 90])
        report["ratio"] = {"p10": _rounded(low), "median": _rounded(middle), "p90": _rounded(high)}
    bounds = {
        f"{name}.{bound}": float(getattr(tier, bound))
        for name, tier in request.tiers.items()
        for bound in ("motion_min", "motion_max")
    }
    report["thresholds"] = {name: _threshold(dis, raft, bound) for name, bound in sorted(bounds.items())}
    return report


def _threshold(dis: np.ndarray, raft: np.ndarray, bound: float) -> dict[str, float]:
    below = float((raft < bound).mean())
    return {
        "raft": bound,
        "share_below": _rounded(below),
        "dis_same_share": _rounded(float(np.quantile(dis, below))),
        "disagree": _rounded(float(((raft < bound) != (dis < bound)).mean())),
    }


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    """0 where one of them does not vary."""
    ranks = [_ranks(values) for values in (first, second)]
    deviations = [rank - rank.mean() for rank in ranks]
    lengths = np.sqrt((deviations[0] ** 2).sum() * (deviations[1] ** 2).sum())
    return float((deviations[0] * deviations[1]).sum() / lengths) if lengths else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse]


def _rounded(value: float) -> float:
    return round(float(value), DIGITS)

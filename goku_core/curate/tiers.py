"""The demands of paper Table 4: which resolution tier a clip belongs to, or why to none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from goku_core.curate.gate import Verdict
from goku_core.curate.request import Request, Tier


def assign(row: Mapping[str, Any], request: Request) -> str | Verdict:
    """The name of the highest tier whose demands are all met, else the verdict of the most lenient one.

    Tiers are nested (the paper's amounts, 36M / 24M / 7M, suggest it): a 1080p clip that moves too much for its own
    tier may still serve at 480p. row: scores as in clips.parquet; ``motion`` is None for pictures, which are judged by
    resolution, text and quality. Scores whose model is off are None and judge nothing; a model's motion score, where
    there is one, judges in place of the embedded one.
    """
    if (unwanted := _unwanted(row, request)) is not None:
        return unwanted
    if row["quality_heuristic"] < request.quality_heuristic_min:
        least = request.quality_heuristic_min
        text = f"quality heuristic {row['quality_heuristic']:.2f} of 10, at least {least:g} is demanded"
        return Verdict("quality_heuristic", row["quality_heuristic"], least, text)
    verdict: Verdict | None = None
    for name, tier in sorted(request.tiers.items(), key=lambda item: -item[1].min_side):
        against = _against(row, name, tier)
        if against is None:
            return name
        verdict = against
    if verdict is None:
        raise ValueError("the request has no tier")
    return verdict


def _unwanted(row: Mapping[str, Any], request: Request) -> Verdict | None:
    """What no tier takes."""
    for name, most, what in (
        ("nsfw", request.nsfw_max, "not safe for work"),
        ("watermark", request.watermark_max, "a watermark"),
    ):
        score = row.get(name)
        if score is not None and score > most:
            return Verdict(name, score, most, f"{what} with probability {score:.2f}, {most:g} is allowed")
    return None


def _against(row: Mapping[str, Any], name: str, tier: Tier) -> Verdict | None:
    side = min(row["width"], row["height"])
    if side < tier.min_side:
        return Verdict(
            "tier_side", side, tier.min_side, f"short side {side} px, tier {name} demands at least {tier.min_side}"
        )
    text = row["ocr_coverage"]
    if text > tier.ocr_max:
        sentence = f"a text box covers {text:.1%} of the frame, tier {name} allows {tier.ocr_max:.0%}"
        return Verdict("ocr_coverage", text, tier.ocr_max, sentence)
    beauty = row.get("aesthetic")
    if beauty is not None and beauty < tier.aesthetic_min:
        sentence = f"aesthetic score {beauty:.2f}, tier {name} demands at least {tier.aesthetic_min:g}"
        return Verdict("aesthetic", beauty, tier.aesthetic_min, sentence)
    if row["kind"] != "video":
        return None
    motion = judged_motion(row)
    if motion is None:
        sentence = "no pair of its frames could be measured, they are too far apart: how it moves is not known"
        return Verdict("motion_unmeasured", 0.0, 1.0, sentence)
    if motion < tier.motion_min:
        sentence = f"motion score {motion:.2f}: (almost) still, tier {name} demands at least {tier.motion_min:g}"
        return Verdict("motion_low", motion, tier.motion_min, sentence)
    if motion > tier.motion_max:
        sentence = f"motion score {motion:.1f}: shaking or too fast, tier {name} allows {tier.motion_max:g}"
        return Verdict("motion_high", motion, tier.motion_max, sentence)
    return None


def judged_motion(row: Mapping[str, Any]) -> float | None:
    """The motion score that the bounds of Table 4 are applied to: RAFT's where it is on, as in the paper, else DIS's.

    None where no pair of frames was measured: a frame that stays on the screen for seconds, in a film of variable rate.
    """
    measured = row.get("motion_raft")
    return row["motion"] if measured is None else measured

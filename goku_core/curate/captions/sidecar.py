"""Captions from sidecars: the text that belongs to a clip's span, and the text a model is trained on.

The paper appends the motion score to a clip's caption (section 4.6), which gives control over motion at inference;
its wording is unknown. Our choice: "CAPTION. motion: N", N the score rounded to a whole number: few distinct words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LEAST_OVERLAP = 0.5  # of the clip: below, a timed text mostly tells of something else


def caption_of(start: float, seconds: float, whole: str | None, timed: Sequence[Mapping[str, Any]] | None) -> str:
    """The timed text with the largest overlap, at least half of the clip; else the whole file's text; else "".

    start, seconds  the clip's span in its source
    timed           entries with start, end (s) and text; the earlier one wins a tie
    """
    best, best_overlap = "", 0.0
    for entry in timed or ():
        overlap = min(start + seconds, entry["end"]) - max(start, entry["start"])
        if overlap > best_overlap:
            best, best_overlap = entry["text"] or "", overlap
    if best and (seconds <= 0 or best_overlap >= LEAST_OVERLAP * seconds):
        return best.strip()
    return (whole or "").strip()


def training_text(caption: str, motion: float | None) -> str:
    """Caption with the motion score appended for clips; a picture's caption as it is; "" stays ""."""
    if not caption or motion is None:
        return caption
    return f"{caption.rstrip('.')}. motion: {round(motion)}"

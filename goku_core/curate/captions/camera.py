"""Camera motion in words: what a caption says of it, under one name whatever the wording.

The paper has no camera classifier, because Tarsier2 names camera motion itself (section 4.6); so these words are the
only control of the camera that a model learns, and a merge that drops them takes it away. Rules, not understanding: a
frying pan left on a stove counts as a pan to the left, which costs one more question at most.
"""

from __future__ import annotations

import re

_CAMERA = r"(?:camera|shot|view|frame|lens|perspective)"
_MOVES = r"(?:slowly |quickly |smoothly |gradually |gently |slightly )?"
_WORDS = {
    "zoom in": r"zoom(?:s|ed|ing)?[ -]in",
    "zoom out": r"zoom(?:s|ed|ing)?[ -]out",
    "pan left": rf"pan(?:s|ned|ning)? {_MOVES}(?:to(?:wards?)? )?(?:the )?left"
    rf"|{_CAMERA} {_MOVES}(?:moves|moving|sweeps|glides) {_MOVES}(?:to(?:wards?)? )?(?:the )?left",
    "pan right": rf"pan(?:s|ned|ning)? {_MOVES}(?:to(?:wards?)? )?(?:the )?right"
    rf"|{_CAMERA} {_MOVES}(?:moves|moving|sweeps|glides) {_MOVES}(?:to(?:wards?)? )?(?:the )?right",
    "tilt up": rf"tilt(?:s|ed|ing)? {_MOVES}up(?:wards?)?",
    "tilt down": rf"tilt(?:s|ed|ing)? {_MOVES}down(?:wards?)?",
    "push in": rf"push(?:es|ed|ing)?[ -]in|dolly(?:ing)?[ -]in|dollies in"
    rf"|{_CAMERA} {_MOVES}(?:moves|moving|pushes) {_MOVES}(?:forwards?|closer|in)\b",
    "pull out": rf"pull(?:s|ed|ing)?[ -](?:out|back|away)|dolly(?:ing)?[ -]out|dollies out"
    rf"|{_CAMERA} {_MOVES}(?:moves|moving|pulls) {_MOVES}(?:backwards?|back|away)",
    "tracking": rf"tracking shot|{_CAMERA} {_MOVES}(?:tracks|follows|is following|is tracking)",
    "orbit": rf"orbit(?:s|ing)?(?: around)?|{_CAMERA} {_MOVES}(?:circles|rotates|revolves) ",
    "crane": r"crane (?:shot|up|down)|boom(?:s)? (?:up|down)",
    "handheld": r"hand-?held|shak(?:y|ing) camera|camera shakes?",
    "static": rf"static {_CAMERA}|{_CAMERA} (?:is|remains|stays|stands) (?:static|still|fixed|stationary)"
    r"|(?:fixed|stationary|locked-off) camera",
    "aerial": r"aerial|drone shot|bird'?s[- ]eye",
}
_PATTERNS = {name: re.compile(rf"\b(?:{pattern})", re.IGNORECASE) for name, pattern in _WORDS.items()}


def camera_words(text: str) -> list[str]:
    """Names of the camera's motions that the text tells of, in the order of this file's table."""
    return [name for name, pattern in _PATTERNS.items() if pattern.search(text)]


def lost(before: str, after: str) -> list[str]:
    """Camera motions told of before a merge and no longer after it."""
    kept = camera_words(after)
    return [name for name in camera_words(before) if name not in kept]

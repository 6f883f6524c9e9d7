"""The gate of paper Table 3: what a file must have, judged from its header alone. It runs first because it is cheap."""

from __future__ import annotations

from dataclasses import dataclass

from goku_core.curate.request import Gate
from goku_core.media.probe import MediaInfo


@dataclass(frozen=True)
class Verdict:
    """Why something is not kept: the filter, what was measured, what is demanded, and a sentence for people."""

    filter: str
    score: float
    threshold: float
    message: str


def judge(info: MediaInfo, gate: Gate) -> Verdict | None:
    """The first demand that a file fails, or None. Pictures are judged by their short side only."""
    side = min(info.width, info.height)
    if info.kind == "video" and info.seconds < gate.min_seconds:
        text = f"lasts {info.seconds:.2f} s, at least {gate.min_seconds:g} s are needed"
        return Verdict("seconds", info.seconds, gate.min_seconds, text)
    if side < gate.min_side:
        text = f"is {info.width}x{info.height}: the short side has {side} px, at least {gate.min_side} are needed"
        return Verdict("side", float(side), float(gate.min_side), text)
    if info.kind != "video":
        return None
    if info.bitrate_kbps < gate.min_kbps:
        text = f"has {info.bitrate_kbps:.0f} kbit/s of video, at least {gate.min_kbps:g} are needed"
        return Verdict("kbps", info.bitrate_kbps, gate.min_kbps, text)
    fps = float(info.fps)
    if fps < gate.min_fps:
        return Verdict("fps", fps, gate.min_fps, f"has {fps:.3f} frames/s, at least {gate.min_fps:g} are needed")
    return None

"""The gate of paper Table 3: what a file must have, judged from its header and packets. First, because it is cheap.

Beyond the table, our choice: interlaced and high-dynamic-range video and animated pictures are turned away, each under
its own name. None can be trained on as it is (combs, a washed-out curve, a sticker), and none is silently changed.
"""

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
    """The first demand that a file fails, or None. Pictures are judged by their short side, and must not move."""
    if info.kind == "video" and info.seconds < gate.min_seconds:
        text = f"lasts {info.seconds:.2f} s, at least {gate.min_seconds:g} s are needed"
        return Verdict("seconds", info.seconds, gate.min_seconds, text)
    side = min(info.width, info.height)
    if side < gate.min_side:
        text = f"is {info.width}x{info.height}: the short side has {side} px, at least {gate.min_side} are needed"
        return Verdict("side", float(side), float(gate.min_side), text)
    return _judge_video(info, gate) if info.kind == "video" else _judge_picture(info)


def _judge_video(info: MediaInfo, gate: Gate) -> Verdict | None:
    if info.bitrate_kbps < gate.min_kbps:
        text = f"has {info.bitrate_kbps:.0f} kbit/s of video, at least {gate.min_kbps:g} are needed"
        return Verdict("kbps", info.bitrate_kbps, gate.min_kbps, text)
    fps = float(info.fps)
    if fps < gate.min_fps:
        return Verdict("fps", fps, gate.min_fps, f"has {fps:.3f} frames/s, at least {gate.min_fps:g} are needed")
    if info.interlaced and not gate.interlaced:
        return Verdict("interlaced", 1.0, 0.0, "is interlaced: each frame holds two moments; deinterlace it first")
    if info.transfer != "sdr" and not gate.hdr:
        text = f"has high dynamic range ({info.transfer.upper()}), which 8 bits do not hold; map its tones first"
        return Verdict("hdr", 1.0, 0.0, text)
    return None


def _judge_picture(info: MediaInfo) -> Verdict | None:
    if (info.frames or 1) > 1:
        text = f"is an animated {info.codec.upper()} of {info.frames} frames: neither a picture nor a film"
        return Verdict("animated", float(info.frames or 1), 1.0, text)
    return None

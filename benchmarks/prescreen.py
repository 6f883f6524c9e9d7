"""What the look at the key frames costs against the full pass, and whether it turns away what that would keep.

Measures the claim: looking at the key frames first costs a small share of the full pass and loses no clip. Both sides go
over the same sources, one after the other: `screen`, and the survey without it. Without --folder the sources are the
videos of the sample corpus, good and spoiled, and a slide show, a blank and a titled film, which it should turn away.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks.measuring.options import parser, settle
from benchmarks.measuring.result import Result
from goku_core.collect.render import render_file
from goku_core.collect.request import SampleCorpus
from goku_core.collect.sample import corpus
from goku_core.curate.gate import judge
from goku_core.curate.prescreen import screen
from goku_core.curate.request import Request
from goku_core.curate.survey import survey_file
from goku_core.curate.table import EMPTY
from goku_core.curate.tiers import assign
from goku_core.media.faults import MediaError
from goku_core.media.probe import probe

CLAIM = "Prescreen: looking at key frames against the full pass over the same sources; clips lost by it must be 0"
SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v")


def main(arguments: list[str] | None = None) -> Result:
    options = parser("prescreen", __doc__)
    options.add_argument("--folder", type=Path, help="videos to read instead of the sample corpus")
    options = settle(options.parse_args(arguments))
    cv2.setNumThreads(1)
    result = Result("prescreen", CLAIM, options)
    with tempfile.TemporaryDirectory() as scratch:
        sources = _given(options.folder) if options.folder else _made(Path(scratch), options)
        _measure(result, sources, Path(scratch))
    options.folder = str(options.folder) if options.folder else None
    result.finish()
    return result


def _given(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _made(folder: Path, options: argparse.Namespace) -> list[Path]:
    small = options.small
    sample = SampleCorpus(videos=1 if small else 4 if options.quick else 16, images=0)
    if small:
        sample = sample.model_copy(update={"height": 96, "width": 160, "shot_seconds": (2.5, 2.6)})
    for name, recipe in corpus(sample, 0):
        if not (small and recipe.index > 0):
            render_file(folder / name, recipe, sample, 0)
    height, width = sample.height, sample.width
    for name, kind in (("slides", 0), ("blank", 1), ("titles", 2)):
        _write(folder / f"{name}.mp4", _film(kind, height, width, 6 if small else 12), height, width)
    return _given(folder)


def _write(path: Path, images: Iterator[np.ndarray], height: int, width: int) -> None:
    """With the settings of the wild: ours (`write_video`) leave out what makes stills so cheap."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=24, options={"preset": "veryfast", "crf": "20", "g": "48"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for image in images:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(stream.encode())


def _film(kind: int, height: int, width: int, seconds: int) -> Iterator[np.ndarray]:
    """Pictures that change every two, black with grain, or a moving line of large text."""
    rng = np.random.default_rng(kind)
    coarse = rng.integers(60, 200, (6, 5, 7, 3)).astype(np.uint8)
    grain = rng.normal(0, 25, (height, width, 3))
    slides = [cv2.resize(one, (width, height), interpolation=cv2.INTER_CUBIC) for one in coarse]
    slides = [np.clip(one + grain, 0, 255).astype(np.uint8) for one in slides]
    for index in range(24 * seconds):
        if kind == 0:
            yield slides[index // 48]
        elif kind == 1:
            yield np.clip(16 + rng.normal(0, 2, (height, width, 1)), 0, 255).repeat(3, 2).astype(np.uint8)
        else:
            image = np.full((height, width, 3), 120, np.uint8)
            place = (round(width * (0.05 + 0.0005 * index)), height // 2)
            yield cv2.putText(image, "MEGA SALE", place, 0, width / 280, (0, 0, 0), max(2, width // 90), cv2.LINE_AA)


def _measure(result: Result, sources: list[Path], scratch: Path) -> None:
    request = Request()
    if result.options.small:
        tiers = {name: {"min_side": 96} for name in ("480p", "720p", "1080p")}
        request = Request(gate={"min_side": 16, "min_kbps": 0}, tiers=tiers)
    whole = request.model_copy(update={"prescreen": request.prescreen.model_copy(update={"enabled": False})})
    infos = {path: info for path in sources if (info := _admitted(path, request)) is not None}
    verdicts: dict[Path, str] = {}
    kept: Counter[Path] = Counter()

    def look() -> None:
        for path, info in infos.items():
            found = screen(path, info, request)
            verdicts[path] = found.filter if found else ""

    def full() -> None:
        for path in infos:
            rows = _surveyed(path, whole, scratch)
            kept[path] = sum(row["outcome"] == "kept" and isinstance(assign(row, whole), str) for row in rows)

    length = sum(info.seconds for info in infos.values())
    repeats = result.options.repeats or (1 if result.options.small else 3)
    warmup = 0 if result.options.small else 1
    sides = {"key frames": look, "full pass": full}
    pairs = [("key frames", "full pass")]
    result.measure("all sources", sides, pairs, repeats=repeats, warmup=warmup, per_call={"video_seconds": length})
    found = Counter(name for name in verdicts.values() if name)
    lost = sum(kept[path] for path, name in verdicts.items() if name)
    for row in result.rows:
        row |= {"sources": len(infos), "turned_away": sum(found.values()) if row["side"] == "key frames" else 0}
        row |= {"clips_kept": sum(kept.values()), "clips_lost": lost if row["side"] == "key frames" else 0}
    result.note(f"turned away: {dict(sorted(found.items()))}; {len(sources) - len(infos)} sources end at the gate")


def _admitted(path: Path, request: Request) -> Any:
    try:
        info = probe(path)
    except MediaError:
        return None
    return info if info.kind == "video" and judge(info, request.gate) is None else None


def _surveyed(path: Path, request: Request, scratch: Path) -> list[dict[str, Any]]:
    source = EMPTY | {"media_id": "0" * 64, "uri": path.name, "kind": "video"}
    try:
        return survey_file(path, source, request, scratch / "transcoded")
    except MediaError:
        return []


if __name__ == "__main__":
    main()

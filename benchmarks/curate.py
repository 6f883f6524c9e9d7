"""What curation costs beyond decoding, and against PySceneDetect's own command line, in CPU seconds.

Measures the claims: at 1080p the survey (shots, fades, dissolves, refinement, motion, hash, sharpness, frames for models)
costs at most 35 % more CPU than decoding alone, reported without and with reading text; the whole funnel, reports and
validation included, costs at most 1.2 times what `scenedetect detect-adaptive` alone does on the same files; from nothing
to the first scored clips of a film of some 15 s on two cores at most 5 s and 600 MB (clips of a source are known when the
source has been seen to its end, so a longer film takes what its decoding takes). Counted beside it: decodes per source
second (1.0) and H.264 sources that were encoded again (0). Films are procedural (`measuring/films.py`), repeated to some
minutes: the funnel's validation, reports and start-up (some 15 CPU seconds) are paid once per run, whatever its size.

Seconds in the table are CPU seconds, child processes included; wall_s and peak_mib (of the process tree) stand beside them.
The peer decodes with its default back end (OpenCV) and its default downscaling, one file after the other.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.measuring import cpu
from benchmarks.measuring.cpu import Cost
from benchmarks.measuring.films import Film, repeat
from benchmarks.measuring.options import parser, settle
from benchmarks.measuring.result import Result
from benchmarks.measuring.timing import compare
from goku_core.collect import Request as Collect
from goku_core.collect import run as collect
from goku_core.curate import Request, survey
from goku_core.curate.table import EMPTY
from goku_core.media import decode
from goku_core.media.probe import probe
from goku_core.pipeline.context import Context

CLAIM = "Curation, CPU seconds: the survey against decoding alone, the funnel against PySceneDetect's command line"
ROOT = Path(__file__).resolve().parents[1]
DECODE, SURVEY, READING = "bare decode", "survey without text", "survey"
FUNNEL, PEER, START = "goku funnel", "scenedetect detect-adaptive", "goku, first clip"
PARTS = ("survey", "funnel", "start")
# Height, width, kbit/s: what decoding costs depends on the bits. Encoded as most footage is, by x264's preset medium.
SIZES = {"480p": (480, 854, 1500), "720p": (720, 1280, 2500), "1080p": (1080, 1920, 4500)}


def main(arguments: list[str] | None = None) -> Result:
    options = parser("curate", __doc__)
    options.add_argument("--size", choices=tuple(SIZES), default="1080p")
    options.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what is measured [all]")
    options.add_argument("--films", type=int, default=2, help="films of the funnel [2]")
    options.add_argument("--shots", type=int, default=5, help="shots of a film, 1.6 to 4 s each [5]")
    options.add_argument("--times", type=int, default=10, help="a film is that often one behind the other [10]")
    options.add_argument("--longer", type=int, default=3, help="films of the funnel are that much longer [3]")
    options = settle(options.parse_args(arguments))
    if options.small or options.quick:
        options.size, options.films, options.shots, options.longer = "480p", 1 if options.small else 2, 3, 1
    result = Result("curate", CLAIM, options)
    with tempfile.TemporaryDirectory() as folder:
        films = _films(Path(folder) / "films", options, result)
        workspace = Path(folder) / "workspace"
        if "survey" in options.parts:
            _above_decoding(result, films[0], options)
            _count(result, films[0])
        if "funnel" in options.parts:
            longer = [_longer(film, Path(folder) / "longer" / film.name, options.longer) for film in films]
            _collected(longer[0].parent, workspace)
            _against_peer(result, longer, workspace, options)
        if "start" in options.parts:
            _cold_start(result, films[0].parent.parent / "once.mp4", Path(folder) / "short", options)
    result.finish()
    return result


def _films(folder: Path, options: argparse.Namespace, result: Result) -> list[Path]:
    folder.mkdir(parents=True)
    height, width, kbps = SIZES[options.size]
    films = []
    for number, kind in zip(range(options.films), ("cut", "dissolve", "motion", "fade-black") * 9, strict=False):
        result.say(f"film {number + 1} of {options.films}, {options.size}")
        films.append(folder / f"{number}-{kind}.mp4")
        once = folder.parent / "once.mp4"
        preset = "ultrafast" if options.small else "medium"
        Film(kind, number, options.shots, height, width, preset, kbps).write(once)
        repeat(once, 1 if options.small else options.times, films[-1])
    return films


def _longer(film: Path, target: Path, times: int) -> Path:
    target.parent.mkdir(exist_ok=True)
    repeat(film, times, target)
    return target


def _context(workspace: Path) -> Context:
    return Context(workspace, workspace / "staging", workspace / "scratch")


def _above_decoding(result: Result, film: Path, options: argparse.Namespace) -> None:
    def bare() -> None:
        for _ in decode.frames(film):
            pass

    def without_text() -> None:
        class Blind:
            def coverage(self, *_: Any) -> float:
                return 0.0

        with mock.patch.object(survey, "text_meter", Blind):
            _survey(film)

    sides = {DECODE: bare, SURVEY: without_text, READING: lambda: _survey(film)}
    seconds = probe(film).seconds
    _measure(
        result,
        f"{options.size}, one film of {seconds:.0f} s",
        {name: (lambda call=call: cpu.of_call(call)) for name, call in sides.items()},
        [(SURVEY, DECODE), (READING, DECODE)],
        options.repeats or (1 if options.small else 5),
        warmup=0 if options.small else 1,
    )
    own = {row["side"]: row["median_s"] for row in result.rows}
    for row in result.rows:
        row["above_decode_percent"] = 100 * (row["median_s"] / own[DECODE] - 1)


def _survey(film: Path) -> list[dict[str, Any]]:
    source = EMPTY | {"media_id": "0" * 64, "uri": film.name, "kind": "video"}
    return survey.survey_file(film, source, Request(), film.parent)


def _against_peer(result: Result, films: list[Path], workspace: Path, options: argparse.Namespace) -> None:
    def peer() -> Cost:
        costs = [
            cpu.of_command([sys.executable, "-m", "scenedetect", "-q", "-i", str(film), "detect-adaptive"], workspace)
            for film in films
        ]
        return Cost(
            sum(cost.cpu for cost in costs), sum(cost.wall for cost in costs), max(cost.peak_mib or 0 for cost in costs)
        )

    repeats = options.repeats or (1 if options.small else 3)
    case = f"{options.size}, {len(films)} films of {sum(probe(film).seconds for film in films):.0f} s together"
    _measure(result, case, {FUNNEL: lambda: _curation(workspace), PEER: peer}, [(FUNNEL, PEER)], repeats, warmup=0)


def _cold_start(result: Result, film: Path, workspace: Path, options: argparse.Namespace) -> None:
    (workspace / "films").mkdir(parents=True)
    film.rename(workspace / "films" / film.name)
    case = f"cold start, {options.size}, a film of {probe(workspace / 'films' / film.name).seconds:.0f} s"
    _collected(workspace / "films", workspace)
    repeats = options.repeats or (1 if options.small else 3)
    _measure(result, case, {START: lambda: _curation(workspace, "--first")}, [], repeats, warmup=0)


def _collected(films: Path, workspace: Path) -> None:
    collect(Collect(source=str(films)), _context(workspace))
    (workspace / "staging/data").rename(workspace / "data")


def _curation(workspace: Path, *more: str) -> Cost:
    for folder in ("staging", "scratch"):
        shutil.rmtree(workspace / folder, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.measuring.curation", str(workspace), *more]
    return cpu.of_command(command, workspace, os.environ | {"PYTHONPATH": str(ROOT)})


def _measure(
    result: Result,
    case: str,
    sides: dict[str, Callable[[], Cost]],
    pairs: list[tuple[str, str]],
    repeats: int,
    warmup: int = 1,
) -> None:
    timings, costs = cpu.alternate(sides, repeats, lambda what: result.say(f"{case}: {what}"), warmup)
    for side, timing in timings.items():
        row: dict[str, Any] = {"case": case, "side": side, "median_s": timing.median, "seconds": timing.seconds}
        row["wall_s"] = statistics.median(cost.wall for cost in costs[side])
        peaks = [cost.peak_mib for cost in costs[side] if cost.peak_mib is not None]
        result.rows.append(row | ({"peak_mib": max(peaks)} if peaks else {}))
    result.ratios += [{"case": case} | asdict(compare(timings, side, against)) for side, against in pairs]


def _count(result: Result, film: Path) -> None:
    """Frames that come out of the decoder during a survey, over the frames that the film has; copies that were written."""
    genuine, decoded = decode._decode, 0

    def counting(*arguments: Any) -> Any:
        nonlocal decoded
        for frame in genuine(*arguments):
            decoded += 1
            yield frame

    with mock.patch.object(decode, "_decode", counting), mock.patch.object(survey, "Transcoder") as copies:
        rows = _survey(film)
    frames = sum(1 for _ in decode.frames(film))
    result.note(f"decodes per source second: {decoded / frames:.3f} ({decoded} of {frames} frames, {len(rows)} rows)")
    result.note(f"H.264 sources encoded again: {copies.call_count}")


if __name__ == "__main__":
    main()

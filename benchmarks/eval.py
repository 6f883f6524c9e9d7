"""Judging clips: what it costs beside the judges themselves, and what decoding once for all dimensions saves.

Measures two claims. Overhead: at most 10 % of the wall time of a run is not spent in judges. It is measured with the
weight-free judges and a ViT-B/16 over every frame (random weights: a forward costs the same, whatever they say), over a
whole run of the pool with the start of its process, and without that start. Decoding: frames are decoded once per clip for
all dimensions; the peer is what VBench's own harness does, one decode per dimension, with the same judges over the same
files in the same process. Decodes are counted on both sides.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from benchmarks.measuring import vision
from benchmarks.measuring.options import parser, settle
from benchmarks.measuring.result import Result
from goku_core.evaluate import ground_truth, manifest, suite
from goku_core.evaluate.judges.judge import Bench, asked_of, judge_named
from goku_core.evaluate.judging import media, operator
from goku_core.evaluate.judging.run import Judging, judge_folder
from goku_core.evaluate.manifest import Drawing, Sample
from goku_core.media.encode import write_image, write_video

CLAIM = "Judging clips: decoded once for all dimensions; at most 10 % of a run outside the judges"
WEIGHT_FREE = ("contour", "direction", "flicker", "embedded", "first_frame")
FPS = 8.0


def main(arguments: list[str] | None = None) -> Result:
    options = parser("eval", __doc__)
    options.add_argument("--clips", type=int, help="[16; with --quick 4]")
    options = options.parse_args(arguments)
    options.threads = options.threads or 1  # as the pool's children have
    options = settle(options)
    small = options.small
    options.clips = options.clips or (2 if small else 4 if options.quick else 16)
    size, frames = ((64, 112), 5) if small else ((480, 864), 17 if options.quick else 33)
    result = Result("eval", CLAIM, options)
    network = "benchmarks.measuring.vision:" + ("small" if small else "base")
    with tempfile.TemporaryDirectory() as scratch:
        result.say(f"writing {options.clips} clips of {frames} frames, {size[1]}x{size[0]}")
        folder = Path(scratch) / "evaluation"
        samples = evaluation(folder, options.clips, size, frames)
        decoding(result, folder, samples, f"{frames} frames, {size[1]}x{size[0]}, {len(WEIGHT_FREE)} dimensions")
        overhead(result, folder, (*WEIGHT_FREE, network))
    result.note(
        "seconds of a judge are those of its call, with its own scaling of frames; its weights are random or none"
    )
    result.finish()
    return result


def evaluation(folder: Path, clips: int, size: tuple[int, int], frames: int) -> list[Sample]:
    """An evaluation of true clips, as MP4, with the pictures that they continue."""
    for place in (media.SAMPLES, media.GIVEN):
        (folder / place).mkdir(parents=True)
    drawing = Drawing(height=size[0], width=size[1], frames=frames, fps=FPS)
    samples = [
        replace(s, prompt=replace(s.prompt, dimensions=(*s.prompt.dimensions, vision.DIMENSION)))
        for s in suite.clip_samples("i2v", clips, 1, 0, drawing)
    ]
    manifest.write(folder / "manifest.parquet", samples)
    for sample in samples:
        clip = ground_truth.true_clip(sample, size, frames, FPS, 0)
        write_video(folder / f"samples/{sample.sample_id}.mp4", iter(clip), FPS)
        write_image(folder / f"given/{sample.sample_id}.png", clip[0])
    return samples


def decoding(result: Result, folder: Path, samples: list[Sample], case: str) -> None:
    """The operator itself, in this process: one pass with all judges, and a pass for each judge."""
    judges = {name: judge_named(name, Bench()) for name in WEIGHT_FREE}
    named = [{"judge": judge.fingerprint, "name": name, "mode": "corrected"} for name, judge in judges.items()]
    settings = {"judges": named, "weights": "weights", "device": "cpu", "batch": 16}
    decodes: dict[str, int] = {}

    def look(side: str, fingerprints: list[str]) -> None:
        for sample in samples:
            path = folder / f"samples/{sample.sample_id}.mp4"
            row = manifest.as_row(sample) | {"file": str(path), "digest": media.sha256(path), "wanted": fingerprints}
            said = operator.look(pa.RecordBatch.from_pylist([row], schema=operator.ASKED), settings).to_pylist()
            failed = [line["message"] for line in said if line["error_class"]]
            if failed:
                raise SystemExit(f"a judge failed: {failed[0]}")
            decodes[side] += sum(line["decodes"] for line in said)

    def once() -> None:
        decodes["goku"] = 0
        look("goku", [judge.fingerprint for judge in judges.values()])

    def per_dimension() -> None:
        decodes["a decode per dimension"] = 0
        for judge in judges.values():
            assert all(asked_of(judge, sample) for sample in samples)
            look("a decode per dimension", [judge.fingerprint])

    sides = {"goku": once, "a decode per dimension": per_dimension}
    repeats = result.options.repeats or (2 if result.options.small or result.options.quick else 5)
    result.measure(
        case, sides, [("goku", "a decode per dimension")], repeats=repeats, per_call={"clips": float(len(samples))}
    )
    for row in result.rows:
        row |= {"decodes": decodes[row["side"]], "clips": len(samples)}


def overhead(result: Result, folder: Path, judges: tuple[str, ...]) -> None:
    """A run through the pool with one worker, as `goku evaluate judge` makes it."""
    started = time.perf_counter()
    how = Judging(judges=judges, device=result.options.device, workers=1, timeout_seconds=3600.0)
    report = judge_folder(folder, how)
    wall = time.perf_counter() - started
    if report.unjudged:
        raise SystemExit(f"a judge failed: {report.unjudged[0].message}")
    inside = sum(report.judge_seconds.values())
    case = f"a run, {len(judges)} dimensions, ViT-B/16 among them" if not result.options.small else "a run, tiny ViT"
    said: dict[str, Any] = {"judges_s": inside, "decode_s": report.decode_seconds, "decodes": report.decodes}
    said |= {"clips": result.options.clips}
    _row(result, case, "goku, with the start of processes", wall, inside, said)
    # What a longer run pays: the decoder, and nothing that happens once.
    _row(result, case, "goku, judges and decoder", inside + report.decode_seconds, inside, said)


def _row(result: Result, case: str, side: str, wall: float, inside: float, said: dict[str, Any]) -> None:
    times = {"median_s": wall, "seconds": [wall]}
    result.rows.append({"case": case, "side": side} | times | said | {"overhead_percent": 100 * (1 - inside / wall)})


if __name__ == "__main__":
    main()

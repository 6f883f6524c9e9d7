"""Result files of VBench, VBench-I2V and VBench-2.0 (`vbench/__init__.py`, `VBench-2.0/vbench2/__init__.py` at 45e79ec):
NAME_eval_results.json, {dimension: [mean, [{video_path, video_results, ...}, ...]]}.

The mean of a dimension is over frames or over clips, depending on the dimension, on the number of GPUs it was made on, and
in one case on a defect (appearance_style on several GPUs is that of last frames). The file does not say which. So the ways in
which its entries can be averaged are tried, and the records are those of the way that gives the file's own mean.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from pathlib import Path, PurePosixPath
from typing import Any

from goku_core.evaluate.benchmarks import vbench2
from goku_core.evaluate.benchmarks.vbench import PER_PROMPT, STATIC
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.records import Record
from goku_core.evaluate.results.importing import EQUAL, Imported, fingerprint, record
from goku_core.pipeline.errors import GokuError

PATTERN = "*eval_results.json"
NAME_LENGTH = {"vbench2": 180}
"""benchmark -> characters of a prompt that its file names hold."""
REFUSED = -1
"""video_results of a clip that a judge of VBench-2.0 could not judge."""


@dataclass(frozen=True)
class _Way:
    """A way to average the entries: score and weight of each."""

    name: str
    scores: tuple[float, ...]
    counts: tuple[int, ...]

    @property
    def mean(self) -> float:
        weight = sum(self.counts)
        return fsum(s * n for s, n in zip(self.scores, self.counts, strict=True)) / weight if weight else math.nan


def read(benchmark: str, file: Path, samples: Sequence[Sample]) -> Imported:
    """Records of the file's clips; raises GokuError for a mean that is not a number ("done" on an empty folder)."""
    judge = fingerprint(benchmark, file)
    records: list[Record] = []
    unmatched: list[str] = []
    says: dict[str, float] = {}
    doubts: list[str] = []
    for dimension, mean, entries in _dimensions(file):
        divisor = 100 if dimension == "imaging_quality" else 1
        if math.isnan(mean) or not entries:
            raise GokuError(f"{file}: {dimension} is {mean} of {len(entries)} clips: nothing was judged.")
        says[dimension] = mean
        way = _way(benchmark, dimension, entries, divisor, mean)
        if abs(way.mean - mean) > EQUAL:
            doubts.append(
                f"{dimension}: the file says {mean:.6f}, its entries give {way.mean:.6f} ({way.name}). "
                "A mean over frames whose numbers the file does not hold cannot be made again."
            )
        elif way.name == LAST_FRAMES:
            doubts.append(
                f"{dimension}: the file was made on several GPUs and scores only the last frame of each clip."
            )
        names = _names(benchmark, dimension, samples)
        found: dict[str, Record] = {}
        for entry, score, count in zip(entries, way.scores, way.counts, strict=True):
            sample = names.get(_stem(entry, dimension))
            if sample is None:
                unmatched.append(f"{dimension}: {entry['video_path']}")
                continue
            said = entry["video_results"]
            verdict = bool(said) if isinstance(said, bool) else None
            reason = "" if count else "the official judge could not judge it"
            found[sample.sample_id] = record(sample, dimension, judge, score, count, verdict, reason, _seen(entry))
        asking = sorted((s for s in samples if dimension in s.prompt.dimensions), key=lambda s: s.sample_id)
        if dimension == "temporal_flickering":
            found |= _static(found, asking, judge)
        if dimension == "color":
            left = [s for s in asking if s.sample_id not in found]
            reason = "not in the file: no frame names a colour, or the clip is missing"
            found |= {s.sample_id: record(s, dimension, judge, 0.0, 0, None, reason) for s in left}
            if left:
                doubts.append(
                    f"color: {len(left)} clips are not in the file, which leaves out clips that name no colour."
                )
        records += found.values()
    return Imported(tuple(records), tuple(unmatched), says, tuple(doubts))


LAST_FRAMES = "over the last frames of the clips"


def _way(benchmark: str, dimension: str, entries: Sequence[Mapping[str, Any]], divisor: float, mean: float) -> _Way:
    """The way of averaging that gives the file's mean; where none does, the official one of a single GPU."""
    raw = [float(e["video_results"]) for e in entries]
    refused = [benchmark == "vbench2" and value == REFUSED for value in raw]
    scores = tuple(0.0 if no else value / divisor for value, no in zip(raw, refused, strict=True))
    ways = []
    frames = [_frames(e) for e in entries]
    if all(frames):
        ways.append(_Way("over frames", scores, tuple(n or 0 for n in frames)))
    ways.append(_Way("over clips", scores, tuple(0 if no else 1 for no in refused)))
    if all("cur_sim" in e for e in entries):
        ways.append(_Way(LAST_FRAMES, tuple(float(e["cur_sim"]) for e in entries), (1,) * len(entries)))
    if dimension == "Motion_Order_Understanding" and mean == 0 and sum(refused) > vbench2.REFUSED * len(entries):
        return _Way("0, since most have no answer", (0.0,) * len(entries), ways[-1].counts)
    return next((way for way in ways if abs(way.mean - mean) <= EQUAL), ways[0])


def _frames(entry: Mapping[str, Any]) -> int | None:
    """Frames that an entry's result is the mean of, where it says so."""
    for name in ("cnt_per_video", "frame_count"):
        if name in entry:
            return int(entry[name])
    return len(entry["frame_results"]) if "frame_results" in entry else None


def _static(found: Mapping[str, Record], asking: Sequence[Sample], judge: str) -> dict[str, Record]:
    """The static filter's verdicts, where more clips are planned than the official code keeps; the others hold nothing."""
    counts: dict[str, int] = {}
    for sample in asking:
        counts[sample.prompt.prompt_id] = counts.get(sample.prompt.prompt_id, 0) + 1
    said: dict[str, Record] = {}
    for sample in asking:
        if counts[sample.prompt.prompt_id] <= PER_PROMPT:
            continue
        kept = sample.sample_id in found
        said[f"{sample.sample_id}/{STATIC}"] = record(sample, STATIC, judge, float(kept), 1, kept)
        if not kept:
            reason = "not among the five that the official static filter kept"
            said[sample.sample_id] = record(sample, "temporal_flickering", judge, 0.0, 0, None, reason)
    return said


def _names(benchmark: str, dimension: str, samples: Sequence[Sample]) -> dict[str, Sample | None]:
    """File name without its ending -> the sample; None where two samples of the dimension share it.

    VBench-2.0 judges diversity on all clips of a prompt: its entry is the prompt's, and belongs to the first sample.
    """
    names: dict[str, Sample | None] = {}
    for sample in samples:
        if dimension not in sample.prompt.dimensions:
            continue
        prompt = sample.prompt.text[: NAME_LENGTH.get(benchmark)]
        if dimension in vbench2.ONCE:
            key = prompt if not sample.index else None
        else:
            key = f"{prompt}-{sample.index}"
        if key is not None:
            names[key] = None if key in names else sample
    return names


def _stem(entry: Mapping[str, Any], dimension: str) -> str:
    place = entry["video_path"]
    name = PurePosixPath(str(place[0] if isinstance(place, list) else place).replace("\\", "/")).name
    stem = name.rsplit(".", 1)[0] if name.lower().endswith((".mp4", ".gif")) else name
    return stem.rsplit("-", 1)[0] if dimension in vbench2.ONCE else stem


def _seen(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in ("video_path", "video_results")}


def _dimensions(file: Path) -> Iterator[tuple[str, float, list[dict[str, Any]]]]:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise GokuError(f"{file}: not JSON ({error}).") from error
    if not isinstance(said, dict):
        raise GokuError(f"{file}: not a result file of VBench: {{dimension: [mean, [clips]]}} was expected.")
    for dimension, result in said.items():
        try:
            mean, entries = result
            yield dimension, float(mean), [{**entry, "video_results": _number(entry)} for entry in entries]
        except (TypeError, ValueError, KeyError) as error:
            raise GokuError(
                f"{file}: {dimension} is not [mean, [{{video_path, video_results}}, ...]] ({error!r})."
            ) from error


def _number(entry: Mapping[str, Any]) -> bool | float:
    value, _ = entry["video_results"], entry["video_path"]
    return value if isinstance(value, bool) else float(value)

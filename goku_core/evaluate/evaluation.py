"""The stage body: manifest, judge check, samples, records, summary. Killed anywhere, it goes on where it was."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from goku_core.evaluate import ground_truth, records, suite
from goku_core.evaluate.gallery import write_clips, write_sheets, write_singles
from goku_core.evaluate.judges.detector import Judge, judge_named, usable
from goku_core.evaluate.motion import direction_verdict, follow, psnr, temporal_flicker
from goku_core.evaluate.page import figures
from goku_core.evaluate.page.build import write_line_page
from goku_core.evaluate.records import Record, RecordStore, evidence
from goku_core.evaluate.request import Request
from goku_core.evaluate.sampling import Sampler, draw_all
from goku_core.evaluate.suite import Sample
from goku_core.evaluate.summary import summarize
from goku_core.evaluate.verdict import judge_image
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError

REPORT = "reports/evaluation"
IMAGE_DIMENSIONS = ("geneval",)
CLIP_DIMENSIONS = {
    "motion": ("direction", "subject", "flicker"),
    "i2v": ("direction", "subject", "flicker", "first_frame_psnr"),
}
CLIP_BATCH = 4
TRUTH_PER_PROMPT = 2


class Report(BaseModel):
    """What the evaluation found, in numbers. Scores 0..1."""

    overall: float
    interval: tuple[float, float]
    chance: float
    tasks: dict[str, float]
    clips: dict[str, dict[str, float]]
    judge: float = Field(description="share of ground-truth renders that the judge gets right")
    pictures: int
    clip_count: int
    sampling_seconds: float = Field(description="wall time of drawing, s (what an earlier attempt drew is not in it)")
    seconds: float = Field(description="wall time, s")


def evaluate(request: Request, context: Context) -> Report:
    """Runs the whole stage. Raises GokuError where a model is missing or the judge is not good enough."""
    started = time.monotonic()
    samplers = {name: _sampler(context, name) for name in request.models()}
    pictures = samplers[request.image_model]
    judge = judge_named(request.judge)
    prompts = suite.image_prompts(request.prompts_per_task, context.seed, request.photo_prefix)
    stills = suite.image_samples(prompts, request.prompts_per_task, request.images_per_prompt, context.seed)
    clips = _clip_samples(request, context.seed)
    truth = suite.image_samples(prompts, request.prompts_per_task, TRUTH_PER_PROMPT, context.seed)
    check = ground_truth.check_judge(judge, prompts, truth, pictures.size, context.seed)
    if motion := [s for group in clips.values() for s in group]:
        mover = samplers[request.models()[-1]]
        share = ground_truth.direction_share(judge, motion, mover.size, request.frames, mover.fps, context.seed)
        check = ground_truth.JudgeCheck(check.tasks, check.softened, share, check.chance)
    ground_truth.require(check, judge, request.judge_minimum)
    context.say(f"evaluate: the judge gets {check.overall:.3f} of {len(truth)} ground-truth renders right")

    drawing = time.monotonic()
    settings = {"steps": request.steps, "guidance": request.guidance}
    store = RecordStore(context.scratch / "records")
    images = draw_all(
        stills,
        lambda group: pictures.images([s.prompt.text for s in group], [s.seed for s in group], **settings),
        context.scratch / "samples",
        request.batch,
        context,
        "pictures",
    )
    moving = {
        benchmark: _draw_clips(benchmark, group, request, samplers, context, settings)
        for benchmark, group in clips.items()
    }
    drawn_in = time.monotonic() - drawing

    known = {row.key for row in store.rows()}
    store.append([r for r in _judge_images(judge, stills, images) if r.key not in known])
    for benchmark, group in clips.items():
        size = samplers[_phase(request, benchmark)].size
        rows = _judge_clips(judge, benchmark, group, moving[benchmark], size, context.seed)
        store.append([r for r in rows if r.key not in known])
    rows = store.rows()
    expected = [(s.sample_id, d) for s in stills for d in IMAGE_DIMENSIONS]
    expected += [(s.sample_id, d) for b, group in clips.items() for s in group for d in CLIP_DIMENSIONS[b]]
    records.require_complete(rows, expected)

    folder = context.output(REPORT)
    folder.mkdir(parents=True, exist_ok=True)
    records.write(folder / "records.parquet", rows)
    suite.write_metadata(folder / "metadata.jsonl", prompts)
    summary = summarize(rows, check, judge, request, context.seed) | {
        "models": {name: _sha256(context.input(f"models/{name}/model.safetensors")) for name in request.models()},
        "vae": _sha256(context.input("models/vae/model.safetensors")),
        "size": list(pictures.size),
        "sheets": write_sheets(folder, prompts, stills, images),
        "singles": write_singles(folder, stills, images),
        "clip_files": write_clips(folder, clips, moving, samplers[request.models()[-1]].fps),
    }
    text = json.dumps(summary, indent=1, sort_keys=True) + "\n"
    (folder / "summary.json").write_text(text, encoding="utf-8")
    write_line_page(folder)
    return _report(summary, context, drawn_in, time.monotonic() - started)


def _sampler(context: Context, phase: str) -> Sampler:
    folder = context.input(f"models/{phase}")
    if not (folder / "model.safetensors").is_file():
        raise GokuError(f"{folder / 'model.safetensors'} is missing: `goku run train@{phase}` makes it.")
    from goku_core.generate import Generator

    return Generator.from_model(folder, vae=context.input("models/vae"))


def _clip_samples(request: Request, seed: int) -> dict[str, list[Sample]]:
    groups = {}
    if request.video_model and request.video.prompts:
        groups["motion"] = suite.clip_samples("motion", request.video.prompts, request.video.per_prompt, seed)
    if request.image_to_video_model and request.image_to_video.prompts:
        asked = request.image_to_video
        groups["i2v"] = suite.clip_samples("i2v", asked.prompts, asked.per_prompt, seed)
    return groups


def _phase(request: Request, benchmark: str) -> str:
    phase = request.image_to_video_model if benchmark == "i2v" else request.video_model
    assert phase is not None  # the benchmark is in the manifest only if it is named
    return phase


def _draw_clips(
    benchmark: str,
    group: Sequence[Sample],
    request: Request,
    samplers: dict[str, Sampler],
    context: Context,
    settings: dict[str, Any],
) -> dict[str, np.ndarray]:
    sampler = samplers[_phase(request, benchmark)]

    def draw(some: list[Sample]) -> np.ndarray:
        given = {}
        if benchmark == "i2v":
            firsts = [ground_truth.true_picture(s, sampler.size, context.seed) for s in some]
            given["first_frames"] = np.stack(firsts)
        return sampler.clips(
            [s.prompt.text for s in some], [s.seed for s in some], frames=request.frames, **settings, **given
        )

    return draw_all(group, draw, context.scratch / "samples", CLIP_BATCH, context, f"{benchmark} clips")


def _judge_images(judge: Judge, samples: Sequence[Sample], images: dict[str, np.ndarray]) -> list[Record]:
    rows = []
    for sample in samples:
        seen = judge.detect(images[sample.sample_id][None])[0]
        verdict = judge_image(usable(seen, judge, sample.prompt.task), sample.prompt.metadata)
        saw = evidence(detections=[d.evidence() for d in seen])
        rows.append(_row(judge, sample, "geneval", float(verdict.correct), verdict.correct, verdict.reason, saw))
    return rows


def _judge_clips(
    judge: Judge,
    benchmark: str,
    samples: Sequence[Sample],
    clips: dict[str, np.ndarray],
    size: tuple[int, int],
    seed: int,
) -> list[Record]:
    rows = []
    for sample in samples:
        clip, asked = clips[sample.sample_id], sample.prompt.metadata
        clause = asked["include"][0]
        path = follow(clip, judge, clause["class"], clause.get("color"))
        right, reason = direction_verdict(path, asked["motion"])
        saw = evidence(centres=np.round(path.centres, 3).tolist(), frames=path.frames.tolist())
        rows.append(_row(judge, sample, "direction", float(right), right, reason, saw))
        seen = judge.detect(clip[len(clip) // 2][None])[0]
        subject = judge_image(usable(seen, judge, sample.prompt.task), asked)
        saw = evidence(detections=[d.evidence() for d in seen])
        rows.append(_row(judge, sample, "subject", float(subject.correct), subject.correct, subject.reason, saw))
        rows.append(_row(judge, sample, "flicker", round(temporal_flicker(clip), 9), None, "", evidence()))
        if benchmark == "i2v":
            decibel = psnr(clip[0], ground_truth.true_picture(sample, size, seed))
            rows.append(_row(judge, sample, "first_frame_psnr", round(decibel, 6), None, "", evidence()))
    return rows


def _row(
    judge: Judge, sample: Sample, dimension: str, score: float, verdict: bool | None, reason: str, saw: str
) -> Record:
    prompt = sample.prompt
    benchmark = prompt.prompt_id.rsplit("-", 1)[0]
    task = benchmark if dimension != "geneval" else prompt.task
    return Record(
        sample.sample_id,
        benchmark,
        dimension,
        task,
        prompt.text,
        sample.seed,
        judge.fingerprint,
        "",
        score,
        1,
        verdict,
        reason,
        saw,
    )


def _report(summary: dict[str, Any], context: Context, drawn_in: float, seconds: float) -> Report:
    overall, tasks = summary["overall"], summary["tasks"]
    clips = {
        benchmark: {name: value["score"] for name, value in dimensions.items() if isinstance(value, dict)}
        for benchmark, dimensions in summary["clips"].items()
    }
    context.tracker.log_metrics(figures.metrics(summary))
    context.tracker.set_tags(figures.tags(summary))
    low, high = overall["interval"]
    context.say(
        f"evaluate: overall {overall['score']:.3f} "
        f"(95 % interval {low:.3f} to {high:.3f}, chance {overall['chance']:.3f})"
    )
    return Report(
        overall=overall["score"],
        interval=(low, high),
        chance=overall["chance"],
        tasks={task: value["score"] for task, value in tasks.items()},
        clips=clips,
        judge=summary["judge"]["ground_truth"]["overall"],
        pictures=summary["counts"]["pictures"],
        clip_count=summary["counts"]["clips"],
        sampling_seconds=drawn_in,
        seconds=seconds,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

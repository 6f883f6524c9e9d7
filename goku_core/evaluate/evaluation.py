"""The stage body: manifest, judge check, samples, records, summary. Killed anywhere, it goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from goku_core.evaluate import ground_truth, manifest, records, suite
from goku_core.evaluate.gallery import write_clips, write_sheets, write_singles
from goku_core.evaluate.judges.contour import ContourJudge
from goku_core.evaluate.judges.judge import Bench, judge_named
from goku_core.evaluate.judging import media
from goku_core.evaluate.judging.run import STAMP, Judged, Judging, judge_folder
from goku_core.evaluate.manifest import Drawing, Prompt, Sample
from goku_core.evaluate.page import figures
from goku_core.evaluate.page.build import write_line_page
from goku_core.evaluate.records import RecordStore
from goku_core.evaluate.request import Request
from goku_core.evaluate.sampling import Sampler, draw_all
from goku_core.evaluate.summary import summarize
from goku_core.media.encode import write_image
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError

REPORT = "reports/evaluation"
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
    notes: list[str] = Field(description="what the judges could not make sense of")
    judging_seconds: float = Field(description="wall time of judging, s")
    sampling_seconds: float = Field(description="wall time of drawing, s (what an earlier attempt drew is not in it)")
    seconds: float = Field(description="wall time, s")


@dataclass(frozen=True)
class Asked:
    """What the line asks of its models. clips: by benchmark ("motion", "i2v")."""

    prompts: list[Prompt]
    stills: list[Sample]
    clips: dict[str, list[Sample]]

    @property
    def samples(self) -> list[Sample]:
        return [*self.stills, *(s for group in self.clips.values() for s in group)]


def evaluate(request: Request, context: Context) -> Report:
    """Runs the whole stage. Raises GokuError where a model is missing or the judge is not good enough."""
    started = time.monotonic()
    samplers = {name: _sampler(context, name) for name in request.models()}
    weights = {name: media.sha256(context.input(f"models/{name}/model.safetensors")) for name in request.models()}
    asked = plan(request, samplers, weights, context.seed)
    judge = judge_named(request.judge, Bench())
    assert isinstance(judge, ContourJudge)  # the one that the parameters allow: it detects things, too
    check = _ground_truth(judge, asked, request, samplers, context)

    folder = context.scratch / "evaluation"  # an evaluation as `goku evaluate` knows it
    folder.mkdir(parents=True, exist_ok=True)
    manifest.write(folder / "manifest.parquet", asked.samples)
    drawing = time.monotonic()
    drawn = draw(asked, request, samplers, folder, context)
    drawn_in = time.monotonic() - drawing
    judged = judge_folder(folder, Judging(device="cpu", workers=context.cores), context.say)
    _refuse(judged)
    rows = RecordStore(folder / "records").rows()
    records.require_complete(rows, [(s.sample_id, d) for s in asked.samples for d in s.prompt.dimensions])

    output = context.output(REPORT)
    output.mkdir(parents=True, exist_ok=True)
    records.write(output / "records.parquet", rows)
    manifest.write(output / "manifest.parquet", asked.samples)
    suite.write_metadata(output / "metadata.jsonl", asked.prompts)
    (output / STAMP).write_bytes((folder / STAMP).read_bytes())
    summary = summarize(rows, check, judge, request, context.seed) | {
        "models": weights,
        "vae": media.sha256(context.input("models/vae/model.safetensors")),
        "size": list(samplers[request.image_model].size),
        "sheets": write_sheets(output, asked.prompts, asked.stills, drawn),
        "singles": write_singles(output, asked.stills, drawn),
        "clip_files": write_clips(output, asked.clips, drawn, samplers[request.models()[-1]].fps),
    }
    text = json.dumps(summary, indent=1, sort_keys=True) + "\n"
    (output / "summary.json").write_text(text, encoding="utf-8")
    write_line_page(output)
    return _report(summary, judged, context, drawn_in, time.monotonic() - started)


def plan(request: Request, samplers: dict[str, Sampler], weights: dict[str, str], seed: int) -> Asked:
    """All samples with prompts and seeds, before anything is drawn. weights: SHA-256 by training phase."""
    settings = {"steps": request.steps, "guidance": request.guidance}

    def drawing(phase: str, **clip: Any) -> Drawing:
        height, width = samplers[phase].size
        return Drawing(weights[phase], height=height, width=width, **settings, **clip)

    prompts = suite.image_prompts(request.prompts_per_task, seed, request.photo_prefix)
    stills = suite.image_samples(
        prompts, request.prompts_per_task, request.images_per_prompt, seed, drawing(request.image_model)
    )
    clips = {}
    for benchmark, phase, wanted in (
        ("motion", request.video_model, request.video),
        ("i2v", request.image_to_video_model, request.image_to_video),
    ):
        if phase and wanted.prompts:
            how = drawing(phase, frames=request.frames, fps=float(samplers[phase].fps))
            clips[benchmark] = suite.clip_samples(benchmark, wanted.prompts, wanted.per_prompt, seed, how)
    clips |= {b: [_continuing(s, seed) for s in group] for b, group in clips.items() if b == "i2v"}
    return Asked(prompts, stills, clips)


def _continuing(sample: Sample, seed: int) -> Sample:
    """The sample with the digest of the picture that it is to continue in its metadata."""
    digest = media.pixels_digest(_given(sample, seed))
    return replace(
        sample, prompt=replace(sample.prompt, metadata=dict(sample.prompt.metadata) | {media.FIRST_FRAME: digest})
    )


def _given(sample: Sample, seed: int) -> np.ndarray:
    """What a clip is to continue, at the size at which it is drawn: a true picture of its prompt."""
    assert sample.drawing.height and sample.drawing.width  # `plan` sets them
    return ground_truth.true_picture(sample, (sample.drawing.height, sample.drawing.width), seed)


def _ground_truth(
    judge: ContourJudge, asked: Asked, request: Request, samplers: dict[str, Sampler], context: Context
) -> ground_truth.JudgeCheck:
    """How good the judge is on renders of this very suite. Raises GokuError where that is not enough."""
    truth = suite.image_samples(asked.prompts, request.prompts_per_task, TRUTH_PER_PROMPT, context.seed)
    size = samplers[request.image_model].size
    check = ground_truth.check_judge(judge, asked.prompts, truth, size, context.seed)
    if motion := [s for group in asked.clips.values() for s in group]:
        mover = samplers[request.models()[-1]]
        share = ground_truth.direction_share(judge, motion, mover.size, request.frames, mover.fps, context.seed)
        check = ground_truth.JudgeCheck(check.tasks, check.softened, share, check.chance)
    ground_truth.require(check, judge, request.judge_minimum)
    context.say(f"evaluate: the judge gets {check.overall:.3f} of {len(truth)} ground-truth renders right")
    return check


def draw(
    asked: Asked, request: Request, samplers: dict[str, Sampler], folder: Path, context: Context
) -> dict[str, np.ndarray]:
    """All samples as uint8 by sample id, drawn into folder/samples where they are not there yet."""
    settings = {"steps": request.steps, "guidance": request.guidance}
    pictures = samplers[request.image_model]
    drawn = draw_all(
        asked.stills,
        lambda group: pictures.images([s.asked for s in group], [s.seed for s in group], **settings),
        folder / media.SAMPLES,
        request.batch,
        context,
        "pictures",
    )
    for benchmark, group in asked.clips.items():
        phase = request.image_to_video_model if benchmark == "i2v" else request.video_model
        assert phase is not None  # the benchmark is planned only if it is named
        clips = _Clips(samplers[phase], request, benchmark == "i2v", folder, context.seed)
        drawn |= draw_all(group, clips.draw, folder / media.SAMPLES, CLIP_BATCH, context, f"{benchmark} clips")
    return drawn


@dataclass(frozen=True)
class _Clips:
    sampler: Sampler
    request: Request
    continuing: bool
    folder: Path
    seed: int

    def draw(self, group: Sequence[Sample]) -> np.ndarray:
        """Clips of a group of samples; the pictures that they continue are kept in folder/given."""
        given = {}
        if self.continuing:
            firsts = [_given(s, self.seed) for s in group]
            (self.folder / media.GIVEN).mkdir(exist_ok=True)
            for sample, picture in zip(group, firsts, strict=True):
                write_image(self.folder / media.GIVEN / f"{sample.sample_id}.png", picture)
            given["first_frames"] = np.stack(firsts)
        prompts, seeds = [s.asked for s in group], [s.seed for s in group]
        settings = {"steps": self.request.steps, "guidance": self.request.guidance}
        return self.sampler.clips(prompts, seeds, frames=self.request.frames, **settings, **given)


def _refuse(judged: Judged) -> None:
    """GokuError with the reason where a sample of the line has no record: `require_complete` would only say that."""
    if judged.unjudged:
        first = judged.unjudged[0]
        raise GokuError(
            f"evaluate: {len(judged.unjudged)} samples could not be judged, for example {first.sample_id} by "
            f"{first.judge}: {first.message}. No score is made from incomplete records."
        )


def _sampler(context: Context, phase: str) -> Sampler:
    folder = context.input(f"models/{phase}")
    if not (folder / "model.safetensors").is_file():
        raise GokuError(f"{folder / 'model.safetensors'} is missing: `goku run train@{phase}` makes it.")
    from goku_core.generate import Generator

    return Generator.from_model(folder, vae=context.input("models/vae"))


def _report(summary: dict[str, Any], judged: Judged, context: Context, drawn_in: float, seconds: float) -> Report:
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
        notes=judged.notes,
        sampling_seconds=drawn_in,
        judging_seconds=judged.seconds,
        seconds=seconds,
    )

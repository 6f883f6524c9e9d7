"""A workspace as a finished line leaves it, in miniature: made with the platform's own writers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from goku_core.evaluate import ground_truth, light, records, suite
from goku_core.evaluate.gallery import write_clips, write_sheets, write_singles
from goku_core.evaluate.judges.contour import ContourJudge
from goku_core.evaluate.judges.judge import Bench, Seen, asked_of, judge_named
from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.records import Record
from goku_core.evaluate.request import Request
from goku_core.evaluate.summary import summarize
from goku_core.media.encode import write_image, write_video
from goku_core.pipeline.commit import Workspace
from goku_core.scenes.draw import draw
from goku_core.scenes.scene import sample_scene

SIZE = (64, 112)
PHASES = ("text_semantic", "joint_low", "finetune_t2i", "finetune_t2v")


def picture(seed, task="colors", size=SIZE):
    return draw(sample_scene(np.random.default_rng(seed), task), *size)


def moving(seed, size=SIZE, frames=9):
    scene = sample_scene(np.random.default_rng(seed), "motion")
    return [draw(scene, *size, time=i / 8) for i in range(frames)]


def finished_line(root: Path, curation: bool = True) -> Path:
    if curation:
        collected_and_curated(root)
    trained(root)
    evaluated(root)
    told = {"version": 3, "decision": "promoted", "alias": "champion", "digest": "ab" * 32, "score": 0.7}
    told["reason"] = "score 0.7150, champion version 2 has 0.6900; at most 0.0500 below is allowed"
    save(root / "reports/promotion.json", told)
    commit(root)
    return root


def collected_and_curated(root: Path) -> None:
    (root / "data").mkdir(parents=True, exist_ok=True)
    rows = [
        {"kind": "video", "outcome": "kept", "filter": None, "bytes": 9, "uri": f"data/raw/{i}.mp4", "message": None}
        for i in range(5)
    ]
    rows.append(rows[0] | {"outcome": "failed", "filter": "empty", "message": "zero bytes"})
    pq.write_table(pa.Table.from_pylist(rows), root / "data/raw.parquet")
    folder = root / "reports/curation"
    examples = []
    for i, (outcome, name) in enumerate([("kept", None)] * 3 + [("rejected", "motion_low"), ("rejected", "fps")]):
        file = f"examples/{i}.jpg"
        (folder / "examples").mkdir(parents=True, exist_ok=True)
        write_image(folder / file, picture(i, size=(144, 256)))
        examples.append({"file": file, "outcome": outcome, "filter": name, "message": "15 < 24", "caption": "a star"})
    (folder / "clips").mkdir(parents=True)
    write_video(folder / "clips/kept-0.mp4", moving(4, (144, 256)), 8)
    examples.append(examples[0] | {"file": "clips/kept-0.mp4"})
    why = [
        {"outcome": "rejected", "filter": "fps", "count": 2, "example": "data/raw/slow.mp4 15 fps < 23.976"},
        {"outcome": "failed", "filter": "truncated", "count": 1, "example": "data/raw/cut.mp4 ends in a frame"},
    ]
    total = {"in": 12, "sources": 5, "kept": 9, "rejected": 2, "failed": 1}
    save(folder / "funnel.json", {"total": total, "why": why, "examples": examples, "left_out": {"nsfw": "weights"}})
    save(folder / "validation.json", {"success": True, "results": [{"success": True}] * 7})


def trained(root: Path) -> None:
    report = root / "models/vae/report"
    report.mkdir(parents=True)
    (root / "models/vae/model.safetensors").write_bytes(b"vae")
    strip = np.concatenate([picture(i) for i in range(8)], axis=1)
    write_image(report / "originals.png", strip)
    write_image(report / "reconstructions.png", ground_truth.soften(strip, np.random.default_rng(0)))
    write_video(report / "clips.mp4", moving(1), 8)
    save(report / "report.json", {"psnr": 33.1, "psnr_images": 34.2, "psnr_clips": 31.9, "psnr_components": 28.0})
    log(report / "metrics.jsonl", 30, 0.2)
    for n, phase in enumerate(PHASES):
        folder = root / "models" / phase
        (folder / "samples").mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(phase.encode())
        log(folder / "metrics.jsonl", 60, 1.0 / (n + 1))
        shown = []
        for i, prompt in enumerate(["a red circle", "three green stars", "a star & a <b>square</b>"]):
            write_image(folder / f"samples/{i}.png", picture(10 * n + i))
            shown.append({"file": f"samples/{i}.png", "prompt": prompt, "seed": i, "kind": "image"})
        write_video(folder / "samples/3.mp4", moving(n), 8)
        shown.append({"file": "samples/3.mp4", "prompt": "a triangle moving right", "seed": 3, "kind": "clip"})
        save(folder / "samples/samples.json", shown)


def evaluated(root: Path) -> None:
    """Evidence of a painter that draws every third picture of another prompt."""
    folder = root / "reports/evaluation"
    folder.mkdir(parents=True)
    request, judge = Request(prompts_per_task=6, images_per_prompt=4, bootstrap=200), ContourJudge()
    prompts = suite.image_prompts(6, seed=0)
    samples = suite.image_samples(prompts, 6, 4, seed=0)
    images = {s.sample_id: ground_truth.true_picture(samples[(i * 7) % 50 if i % 3 == 0 else i], SIZE, 0)
              for i, s in enumerate(samples)}  # fmt: skip
    clips = {"motion": suite.clip_samples("motion", 4, 1, seed=0), "i2v": suite.clip_samples("i2v", 2, 1, seed=0)}
    made = {s.sample_id: ground_truth.true_clip(s, SIZE, 9, 8.0, 0) for group in clips.values() for s in group}
    rows = [row for s in samples for row in judged(Seen(s, images[s.sample_id][None], 0.0, "00"))]
    for s in [*clips["motion"], *clips["i2v"]]:
        rows += judged(Seen(s, made[s.sample_id], 8.0, "00", ground_truth.true_picture(s, SIZE, 0)))
    records.write(folder / "records.parquet", rows)
    check = ground_truth.check_judge(judge, prompts, samples[::4], SIZE, 0)
    summary = summarize(records.merged(rows), check, judge, request, 0) | {
        "models": {"finetune_t2i": "00"},
        "size": list(SIZE),
        "sheets": write_sheets(folder, prompts, samples, images),
        "singles": write_singles(folder, samples, images),
        "clip_files": write_clips(folder, clips, made, 8.0),
    }
    save(folder / "summary.json", summary)


def judged(seen: Seen) -> list[Record]:
    """Records of all weight-free judges that have something to say about a sample."""
    rows = []
    for judge in [judge_named(name, Bench()) for name in light.JUDGES]:
        if asked_of(judge, seen.sample):
            rows += [record(seen.sample, answer, judge.fingerprint) for answer in judge.judge([seen])]
    return rows


def record(sample: Sample, answer, judge: str) -> Record:
    said = {"score": answer.score, "count": answer.count, "verdict": answer.verdict, "reason": answer.reason}
    return Record(
        sample_id=sample.sample_id,
        benchmark=sample.benchmark,
        dimension=answer.dimension,
        task=sample.task,
        prompt=sample.prompt.text,
        seed=sample.seed,
        judge=judge,
        media="00",
        evidence=answer.evidence_json(),
        **said,
    )


def commit(root: Path) -> None:
    """Commit records of all outputs that are there, as the executor writes them."""
    line = [
        ("collect", ["data/raw.parquet"], []),
        ("curate", ["reports/curation"], ["data/raw.parquet"]),
        ("vae", ["models/vae"], ["reports/curation"]),
        *[(f"train@{phase}", [f"models/{phase}"], ["models/vae"]) for phase in PHASES],
        ("evaluate", ["reports/evaluation"], ["models/finetune_t2i", "models/vae"]),
        ("promote", ["reports/promotion.json"], ["reports/evaluation"]),
    ]
    with Workspace(root) as place:
        for n, (cell, outputs, inputs) in enumerate(line):
            trees = {path: place.digests.tree(root / path) for path in outputs}
            if None in trees.values():
                continue
            phase = cell.partition("@")[2]
            place.write_record(
                {
                    "cell": cell,
                    "stage": cell.partition("@")[0],
                    "fingerprint": f"{n:02d}" * 32,
                    "seed": 0,
                    "request": {"phases": {phase: {"steps": 60, "resolution": "low", "init_from": "vae"}}},
                    "inputs": {path: {"digest": f"{n}c" * 32, "bytes": 1} for path in inputs},
                    "outputs": {path: tree.as_json() for path, tree in trees.items()},
                    "report": {"samples_per_second": 41.5} if phase else {},
                    "git": {"commit": "c0ffee" * 7, "dirty": False},
                    "driver": "dvc",
                    "seconds": 3.0 + 17 * n,
                    "finished": f"2026-01-02T03:{n:02d}:00+00:00",
                    "lineage": "00",
                }
            )


def log(path: Path, steps: int, level: float) -> None:
    rng = np.random.default_rng(0)
    lines = [{"step": i + 1, "loss": level * float(np.exp(-i / 20) + 0.2 + 0.05 * rng.normal())} for i in range(steps)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def save(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))

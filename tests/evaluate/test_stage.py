"""The whole stage with a perfect, a faulty and a killed painter in place of a trained model."""

import hashlib
import json

import pytest
from scene_painter import ScenePainter

from goku_core.evaluate import Request, evaluation, records
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError

SMALL = Request(
    prompts_per_task=3, images_per_prompt=2, video={"prompts": 4}, image_to_video={"prompts": 2}, bootstrap=200, batch=5
)


def run(folder, painter, monkeypatch, request=SMALL, scratch="scratch"):
    for phase in ("vae", *request.models()):
        place = folder / "models" / phase
        place.mkdir(parents=True, exist_ok=True)
        (place / "model.safetensors").write_bytes(phase.encode())
    monkeypatch.setattr(evaluation, "_sampler", lambda context, phase: painter)
    return evaluation.evaluate(request, Context(folder, folder / "out", folder / scratch))


def digests(folder):
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted((folder / "out").rglob("*"))
        if p.is_file()
    }


def test_a_perfect_painter_is_right_everywhere(tmp_path, monkeypatch):
    report = run(tmp_path, ScenePainter(), monkeypatch)
    assert report.overall == 1.0 and report.chance < 0.1
    assert report.clips["motion"]["direction"] == report.clips["i2v"]["direction"] == 1.0
    assert report.clips["i2v"]["first_frame_psnr"] == 99.0
    folder = tmp_path / "out/reports/evaluation"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["overall"]["interval"][0] <= 1.0 == summary["overall"]["score"]
    assert set(summary["models"]) == set(SMALL.models())
    assert len(records.read(folder / "records.parquet")) == summary["counts"]["records"]
    assert all((folder / s["file"]).is_file() for s in summary["sheets"].values())
    assert all((folder / s["file"]).is_file() for s in summary["singles"] + summary["clip_files"])


def test_a_faulty_painter_is_found_out(tmp_path, monkeypatch):
    report = run(tmp_path, ScenePainter(wrong=2), monkeypatch)
    assert 0.4 < report.overall < 0.65
    low, high = report.interval
    assert low < report.overall < high


def test_killed_and_resumed_equals_unbroken(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "a", ScenePainter(stop_after=17), monkeypatch)
    again = ScenePainter()
    run(tmp_path / "a", again, monkeypatch)
    unbroken = ScenePainter()
    run(tmp_path / "b", unbroken, monkeypatch)
    assert again.drawn == unbroken.drawn - 15  # three whole batches of five were kept
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(GokuError, match=r"goku run train@finetune_t2i"):
        evaluation._sampler(Context(tmp_path, tmp_path, tmp_path), "finetune_t2i")

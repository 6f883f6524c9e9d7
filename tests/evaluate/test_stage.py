"""The whole stage with a perfect, a faulty and a killed painter in place of a trained model."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from scene_painter import ScenePainter

from goku_core.evaluate import Request, evaluation, manifest, records
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
    assert 0.9 < report.clips["motion"]["subject_consistency"] < 1.0 > report.clips["motion"]["flicker"] > 0.9
    folder = tmp_path / "out/reports/evaluation"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["overall"]["interval"][0] <= 1.0 == summary["overall"]["score"]
    assert set(summary["models"]) == set(SMALL.models())
    rows = records.read(folder / "records.parquet")
    assert len(rows) == summary["counts"]["records"]
    planned = manifest.read(folder / "manifest.parquet")
    assert {(r.sample_id, r.dimension) for r in rows} == {
        (s.sample_id, d) for s in planned for d in s.prompt.dimensions
    }
    assert {s.drawing.model for s in planned} == set(summary["models"].values())
    motion = summary["clips"]["motion"]
    assert motion["direction"]["chance"] == 0.25 and motion["subject"]["chance"] == pytest.approx(1 / 24, abs=1e-6)
    assert all(
        low <= motion[d]["score"] <= high for d in motion if d != "count" for low, high in [motion[d]["interval"]]
    )
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


KILLED = """
import sys, time
from pathlib import Path
from scene_painter import ScenePainter
from goku_core.evaluate import Request, evaluation
from goku_core.pipeline.context import Context

class Slow(ScenePainter):
    def images(self, *given, **settings):
        time.sleep(0.1)
        return super().images(*given, **settings)

folder = Path(sys.argv[1])
evaluation._sampler = lambda context, phase: Slow()
evaluation.evaluate(Request.model_validate_json(sys.argv[2]), Context(folder, folder / "out", folder / "scratch", cores=2))
"""


def kill_when(folder, pattern, many):
    """Runs the stage in a process of its own and kills it with -9 once so many files are there."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", KILLED, str(folder), SMALL.model_dump_json()]
    child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(folder.glob(pattern))) < many and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL and not (folder / "out/reports/evaluation/summary.json").is_file()


@pytest.mark.slow  # three runs of the stage: 15 s
def test_killed_with_9_while_drawing_and_while_judging_equals_unbroken(tmp_path, monkeypatch):
    whole, killed = tmp_path / "a", tmp_path / "b"
    run(whole, ScenePainter(), monkeypatch)
    for phase in ("vae", *SMALL.models()):
        (killed / "models" / phase).mkdir(parents=True)
        (killed / f"models/{phase}/model.safetensors").write_bytes(phase.encode())
    kill_when(killed, "scratch/evaluation/samples/geneval-*.npy", 7)
    kill_when(killed, "scratch/evaluation/records/unfinished/*.part", 1)
    again = ScenePainter()
    run(killed, again, monkeypatch)
    assert again.drawn == 0
    assert digests(killed) == digests(whole)


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(GokuError, match=r"goku run train@finetune_t2i"):
        evaluation._sampler(Context(tmp_path, tmp_path, tmp_path), "finetune_t2i")

"""Judging a folder: decoded once, the same bytes whatever the workers and after a kill, nothing silently mixed or left out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import judged_folder
import numpy as np
import pytest
from judged_folder import DIMENSIONS, evaluation_folder

from goku_core.evaluate import manifest, records
from goku_core.evaluate.judging import operator, run, sight
from goku_core.evaluate.judging.run import Judging, judge_folder
from goku_core.evaluate.records import RecordStore
from goku_core.media import decode
from goku_core.pipeline.errors import GokuError

ALL = tuple(f"odd_judges:{name}" for name in DIMENSIONS)


def judged(folder, *names, **how):
    return judge_folder(folder, Judging(judges=tuple(f"odd_judges:{n}" for n in names) or ALL, device="cpu", **how))


def parts(folder):
    return [path.read_bytes() for path in sorted((folder / "records").glob("part-*.parquet"))]


def scores(folder):
    return {(r.sample_id, r.dimension): r.score for r in RecordStore(folder / "records").rows()}


def test_the_number_of_workers_does_not_show_in_a_byte(tmp_path):
    folder = evaluation_folder(tmp_path)
    found = {}
    for workers in (1, 2, 4):
        report = judged(folder, workers=workers, batch=2)
        assert (report.new, report.decodes, report.unjudged) == (40, 10, [])
        found[workers] = [*parts(folder), (folder / "judging.json").read_bytes()]
        shutil.rmtree(folder / "records")
        (folder / "judging.json").unlink()
    assert found[1] == found[2] == found[4] and len(found[1]) == 2


def test_four_dimensions_one_decode(tmp_path, monkeypatch):
    """Counted at the decoder itself, in this process; and the scores are those of the pixels."""
    folder = evaluation_folder(tmp_path, pictures=2, clips=2)
    calls = []
    for name in ("frames", "read_image"):
        real = getattr(decode, name)
        monkeypatch.setattr(decode, name, lambda *a, real=real, **k: calls.append(a[0]) or real(*a, **k))
    monkeypatch.setattr(run, "run_operator", _in_this_process)
    report = judged(folder)
    assert len(calls) == report.decodes == 4 and report.new == 16
    rows = {(r.sample_id, r.dimension): r for r in RecordStore(folder / "records").rows()}
    monkeypatch.undo()
    for sample in manifest.read(folder / "manifest.parquet"):
        (file,) = (folder / "samples").glob(f"{sample.sample_id}.*")
        pixels = decode.read_image(file) if file.suffix == ".png" else np.stack([f.rgb() for f in decode.frames(file)])
        for dimension in DIMENSIONS:
            row = rows[sample.sample_id, dimension]
            assert row.score == pytest.approx(pixels.mean() / 255, abs=1e-12)
            assert row.media == hashlib.sha256(file.read_bytes()).hexdigest() and row.judge == dimension


def _in_this_process(operation, table, settings, **how):
    from goku_core.pipeline.pool import PoolResult
    from goku_core.pipeline.pool.result import one_batch

    answer = getattr(operator, operation.partition(":")[2])(one_batch(table), settings)
    return PoolResult(table.from_batches([answer]), [])


def test_killed_with_9_and_repeated_is_bit_equal(tmp_path):
    whole, killed = (evaluation_folder(tmp_path / name, pictures=24, clips=2) for name in ("whole", "killed"))
    judged(whole, "slow", batch=2)
    program = (
        "from pathlib import Path; from goku_core.evaluate.judging.run import *;"
        f"judge_folder(Path({str(killed)!r}), Judging(judges=('odd_judges:slow',), device='cpu', batch=2))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    child = subprocess.Popen([sys.executable, "-c", program], env=environment, stderr=subprocess.DEVNULL)
    kept, deadline = killed / "records/unfinished", time.monotonic() + 60
    while len(list(kept.glob("*.part"))) < 3 and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    done = len(list(kept.glob("*.part")))
    assert done >= 3 and not parts(killed)
    report = judged(killed, "slow", batch=2, workers=2)
    assert parts(killed) == parts(whole) and report.new == 26
    assert (killed / "judging.json").read_bytes() == (whole / "judging.json").read_bytes()
    assert not kept.exists()


def test_what_is_judged_is_not_judged_again_and_a_changed_file_is(tmp_path):
    folder = evaluation_folder(tmp_path, pictures=5, clips=1)
    samples = manifest.read(folder / "manifest.parquet")
    judged(folder, batch=2)
    before, first_part = scores(folder), parts(folder)
    again = judged(folder, batch=2)
    assert (again.new, again.kept, again.decodes) == (0, 24, 0) and parts(folder) == first_part

    judged_folder.draw(folder, samples[3], seed=99)
    changed = judged(folder, "first", batch=2)
    # Its group of two is looked at; only what is missing is recorded. The other judges' records of the old file are history too.
    assert (changed.new, changed.superseded, changed.decodes) == (1, 4, 2)
    now = scores(folder)
    assert {key for key in before if before[key] != now.get(key)} == {(samples[3].sample_id, d) for d in DIMENSIONS}
    assert now[samples[3].sample_id, "first"] != before[samples[3].sample_id, "first"]
    asked = [(s.sample_id, d) for s in samples for d in DIMENSIONS]
    with pytest.raises(GokuError, match="3 of 24 records are missing"):
        records.require_complete(RecordStore(folder / "records").rows(), asked)
    assert judged(folder, batch=2).new == 3
    assert parts(folder)[0] == first_part[0], "history is not rewritten"

    judged_folder.draw(folder, samples[3], seed=samples[3].seed)  # and back
    assert judged(folder, batch=2).superseded == 4 and scores(folder) == before
    assert json.loads((folder / "judging.json").read_text())["superseded"] == 8


def test_a_judge_that_fails_on_a_sample_stops_nobody(tmp_path):
    folder = evaluation_folder(tmp_path, pictures=5, clips=0)
    report = judged(folder, "first", "raises", batch=4)
    (bad,) = report.unjudged
    assert (bad.sample_id, bad.judge, bad.error_class) == ("odd-00002-0", "mean-second", "judge")
    assert bad.message == "RuntimeError: cannot look at odd-00002-0"
    found = {(r.sample_id, r.dimension) for r in RecordStore(folder / "records").rows()}
    assert found == {(f"odd-{i:05d}-0", d) for i in range(5) for d in ("first", "second")} - {("odd-00002-0", "second")}
    assert json.loads((folder / "judging.json").read_text())["unjudged"] == [vars(bad)]


def test_a_score_that_is_none_and_a_file_that_does_not_decode_have_no_record(tmp_path):
    folder = evaluation_folder(tmp_path, pictures=2, clips=1)
    (folder / "samples/odd-00001-0.png").write_bytes(b"\x89PNG\r\n\x1a\n and no picture")
    report = judged(folder, "first", "nan")
    assert {(u.sample_id, u.judge) for u in report.unjudged} == {
        ("odd-00000-0", "mean-second"),
        ("odd-00001-0", "decoder"),
        ("odd-00002-0", "mean-second"),
    }
    assert any("is nan, which is no number" in u.message for u in report.unjudged)
    assert set(scores(folder)) == {("odd-00000-0", "first"), ("odd-00002-0", "first")}


def test_missing_weights_are_named_and_nobody_speaks_in_that_judges_place(tmp_path):
    folder = evaluation_folder(tmp_path, pictures=2, clips=0)
    report = judged(folder, "first", "needy")
    assert report.left_out == {"odd_judges:needy": "weights/none; get it: nowhere"} and report.new == 2
    assert report.unanswered == ["odd/fourth", "odd/second"]
    assert json.loads((folder / "judging.json").read_text())["left_out"] == report.left_out
    with pytest.raises(GokuError, match="knows odd/first: no sample here asks for that"):
        judged(evaluation_folder(tmp_path / "other", 1, 0, ("second",)), "first")
    with pytest.raises(GokuError, match=r"there is no judge 'nobody'\. Known: contour, direction"):
        judge_folder(folder, Judging(judges=("nobody",)))


def test_a_judge_that_fails_its_check_scores_nothing(tmp_path):
    folder = evaluation_folder(tmp_path, pictures=1, clips=0)
    with pytest.raises(GokuError, match="mean-first: sees no cow where there is one"):
        judged(folder, "unfit")
    assert not parts(folder)


def test_both_modes_are_two_judges_where_they_differ(tmp_path):
    folder = evaluation_folder(tmp_path, pictures=1, clips=0, dimensions=("first", "second"))
    assert judged(folder, "by_mode", "second", mode="both").new == 3
    rows = {row.judge: row.score for row in RecordStore(folder / "records").rows()}
    assert (rows["first-official"], rows["first-corrected"]) == (0.25, 0.75) and "second" in rows
    told = json.loads((folder / "judging.json").read_text())["judges"]
    assert {name: told[name]["modes"] for name in told} == {
        "first-official": ["official"],
        "first-corrected": ["corrected"],
        "second": ["corrected"],  # it knows no modes, and speaks once
    }


def test_a_judge_that_sees_nothing_stops_the_run_unless_the_pictures_are_empty(tmp_path):
    folder = evaluation_folder(tmp_path, pictures=12, clips=0)
    with pytest.raises(GokuError, match=r"finds nothing in 12 of its first 12 samples \(48x32\).*--may-be-empty"):
        judged(folder, "blind")
    assert not parts(folder)
    report = judged(folder, "blind", may_be_empty=True)
    assert report.new == 12 and "they may be empty" in report.notes[0]
    shutil.rmtree(folder / "records")
    report = judged(folder, "sighted")  # sees known things at 48x32: the pictures are empty, which is a finding
    assert report.new == 12 and "so these show none" in report.notes[0]


def line(sample, detections, judge="j"):
    said = {"sample_id": sample, "judge": judge, "dimension": "d", "decodes": 0, "height": None, "width": None}
    return said | {"evidence": json.dumps({"detections": detections})}


def seen(sample):
    return line(sample, []) | {"dimension": "", "decodes": 1, "height": 4, "width": 6}


def test_who_is_looked_into():
    def found(empty, full):
        names = [f"{i:03d}" for i in range(empty + full)]
        lines = [seen(n) for n in names] + [line(n, [] if i < empty else [1]) for i, n in enumerate(names)]
        return [(c.empty, c.looked) for c in sight.collapses(lines)]

    assert found(9, 0) == [], "few samples prove nothing"
    assert found(5, 5) == [] and found(6, 4) == [(6, 10)]
    assert found(30, 90) == [(30, 50)], "the first fifty tell, not the mean of all"
    assert sight.saw_nothing('{"detections":[[],[]]}') and not sight.saw_nothing('{"detections":[[],[1]]}')
    assert sight.saw_nothing('{"centres":[]}') is None


def test_a_sample_that_is_not_what_the_manifest_says(tmp_path):
    folder = evaluation_folder(tmp_path, pictures=1, clips=2)
    np.save(folder / "samples/odd-00000-0.npy", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(GokuError, match="are one sample"):
        judged(folder, "first")
    (folder / "samples/odd-00000-0.npy").unlink()
    (folder / "samples/odd-00001-0.mp4").unlink()
    (folder / "samples/odd-00002-0.mp4").unlink()
    np.save(folder / "samples/odd-00002-0.npy", np.zeros((3, 4, 4, 3), np.float32))
    report = judged(folder, "first")
    assert (report.undrawn, report.new) == (1, 1)
    assert "float32" in report.unjudged[0].message and report.unjudged[0].judge == "decoder"


def test_the_picture_to_continue_is_the_planned_one(tmp_path):
    from dataclasses import replace

    from goku_core.evaluate import suite
    from goku_core.evaluate.judging import media
    from goku_core.media.encode import write_image

    folder = tmp_path
    for place in ("samples", "given"):
        (folder / place).mkdir()
    rng = np.random.default_rng(0)
    clip = rng.integers(0, 255, (3, 16, 24, 3), dtype=np.uint8)
    (sample,) = suite.clip_samples("i2v", 1, 1, 0)
    metadata = dict(sample.prompt.metadata) | {media.FIRST_FRAME: media.pixels_digest(clip[0])}
    sample = replace(sample, prompt=replace(sample.prompt, metadata=metadata), drawing=manifest.Drawing(fps=8.0))
    place = folder / f"samples/{sample.sample_id}.npy"
    np.save(place, clip)
    write_image(folder / f"given/{sample.sample_id}.png", clip[0])
    looked = media.look_at(sample, place, media.sha256(place))
    assert np.array_equal(looked.given, clip[0]) and np.array_equal(looked.frames, clip) and looked.fps == 8.0
    write_image(folder / f"given/{sample.sample_id}.png", clip[1])
    with pytest.raises(GokuError, match="is not the picture that was planned"):
        media.look_at(sample, place, media.sha256(place))
    with pytest.raises(GokuError, match="changed while it was being judged"):
        media.look_at(replace(sample, prompt=replace(sample.prompt, metadata={})), place, "0" * 64)


def test_the_stamp_names_what_records_depend_on(tmp_path):
    folder = evaluation_folder(tmp_path, pictures=1, clips=0)
    judged(folder, "first")
    told = json.loads((folder / "judging.json").read_text())
    (environment,) = told["environments"].values()
    assert environment["device"] == "cpu" and environment["av"] and environment["torch"]
    assert environment["ffmpeg"]["libavcodec"]
    assert told["judges"]["first"]["environments"] == list(told["environments"])


def test_the_static_filter_is_asked_where_more_clips_are_drawn_than_count(tmp_path):
    """VBench draws 25 clips of a temporal_flickering prompt; which five count is for the filter to say, so its lack is named."""
    folder = tmp_path / "evaluation"
    (folder / "samples").mkdir(parents=True)
    prompts = [manifest.Prompt(f"vbench-{i:05d}", f"p{i}", "", ("temporal_flickering",)) for i in range(2)]
    many = {"vbench-00000": 5, "vbench-00001": 6}
    samples = manifest.plan("vbench", "video", prompts, many, 0, manifest.Drawing(fps=8.0))
    manifest.write(folder / "manifest.parquet", samples)
    for number, sample in enumerate(samples):
        np.save(folder / f"samples/{sample.sample_id}.npy", np.full((2, 8, 8, 3), number, np.uint8))
    report = judge_folder(folder, Judging(weights=tmp_path / "none", device="cpu"))
    assert list(report.left_out) == ["static_filter"] and report.new == 11
    assert set(scores(folder).values()) == {1.0}
    alone = samples[:5]
    manifest.write(folder / "manifest.parquet", alone)
    assert judge_folder(folder, Judging(weights=tmp_path / "none", device="cpu")).left_out == {}

"""Samples of a plan: groups that the plan fixes, shards and killed runs that end with the bytes of one unbroken run."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_painter import draw, tiny_painter

from goku_core.evaluate import manifest, planning, sampling
from goku_core.evaluate.manifest import Drawing, Prompt
from goku_core.media.decode import frames, read_image
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError

TINY = Path(__file__).parents[1] / "workspaces/tiny_painter.py"
WORDS = ("a red circle", "two blue stars", "a green square above an orange star", "a star", "a purple circle")
BATCH = 4


def prompts():
    return [Prompt(f"geneval-{k:05d}", text, "colors", ("geneval",), {}) for k, text in enumerate(WORDS)]


def make_plan(folder, media="image", drawing=Drawing(steps=2), per_prompt=3):
    samples = planning.planned("geneval", media, prompts(), per_prompt, 7, drawing)
    assert planning.settle(folder, samples)
    return samples


def digests(folder):
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (folder / "samples").iterdir()}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    make_plan(folder)
    assert draw(folder, BATCH) == 15
    return folder


def test_pictures_are_what_the_model_drew_without_loss(unbroken):
    samples = manifest.read(unbroken / "manifest.parquet")
    group = samples[4:8]
    drawn = tiny_painter().images([s.asked for s in group], [s.seed for s in group], steps=2)
    for sample, pixels in zip(group, drawn, strict=True):
        assert np.array_equal(read_image(sampling.place(unbroken, sample)), pixels)
    assert len(set(digests(unbroken).values())) == 15 and len({s.seed for s in samples}) == 15


@pytest.mark.parametrize("shards", [2, 4])
def test_any_number_of_shards_gives_the_same_bytes(shards, unbroken, tmp_path):
    make_plan(tmp_path)
    written = [draw(tmp_path, BATCH, f"{k}/{shards}") for k in range(shards, 0, -1)]
    assert sum(written) == 15 and all(written)
    assert digests(tmp_path) == digests(unbroken)


def test_a_group_never_depends_on_what_is_missing(unbroken, tmp_path):
    """Single samples are taken away, in the middle of groups: they come back with their bytes, and nothing else is touched."""
    shutil.copytree(unbroken, tmp_path / "w")
    lost = ["geneval-00000-1.png", "geneval-00002-0.png", "geneval-00004-2.png"]
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "w/samples").iterdir()}
    for name in lost:
        (tmp_path / "w/samples" / name).unlink()
    assert draw(tmp_path / "w", BATCH) == 3
    assert digests(tmp_path / "w") == digests(unbroken)
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "w/samples").iterdir()}
    assert {name for name in after if after[name] != before[name]} == set(lost)
    assert draw(tmp_path / "w", BATCH) == 0


def test_the_model_is_given_whole_groups_however_much_is_there(tmp_path):
    """Every call has the words of a group of the plan, in its order."""
    samples = make_plan(tmp_path)

    class Painter:
        fps, size, calls = 8.0, (32, 48), []

        def images(self, words, seeds, **settings):
            self.calls.append((words, seeds))
            return np.zeros((len(words), 32, 48, 3), np.uint8) + np.uint8(len(self.calls))

    (tmp_path / "samples").mkdir()
    sampling.write_image(sampling.place(tmp_path, samples[5]), np.full((32, 48, 3), 200, np.uint8))
    painter = Painter()
    assert sampling.draw_manifest(tmp_path, samples, painter, BATCH) == 14
    assert [len(words) for words, _ in painter.calls] == [4, 4, 4, 3]
    assert [seed for _, seeds in painter.calls for seed in seeds] == [s.seed for s in samples]
    assert read_image(sampling.place(tmp_path, samples[5])).max() == 200  # what was there stays


def test_killed_and_resumed_equals_unbroken(unbroken, tmp_path):
    make_plan(tmp_path)
    child = subprocess.Popen([sys.executable, TINY, tmp_path, str(BATCH), "1/1", "0.3"], cwd=Path.cwd())
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "samples").glob("*.png"))) < 6:
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    there = len(digests(tmp_path))
    assert 6 <= there < 15
    assert draw(tmp_path, BATCH) == 15 - there
    assert digests(tmp_path) == digests(unbroken)
    assert not list(tmp_path.glob(".drafts*"))


def test_clips_have_their_length_and_rate_and_repeat_to_the_byte(tmp_path):
    samples = make_plan(tmp_path / "a", "video", Drawing(steps=1, frames=9, fps=12.0), per_prompt=1)
    make_plan(tmp_path / "b", "video", Drawing(steps=1, frames=9, fps=12.0), per_prompt=1)
    for part in ("1/2", "2/2"):
        draw(tmp_path / "a", 2, part)
    draw(tmp_path / "b", 2)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    place = sampling.place(tmp_path / "a", samples[0])
    shown = list(frames(place))
    assert [round(frame.seconds * 12, 6) for frame in shown] == list(range(9))
    made = tiny_painter().clips([samples[0].asked], [samples[0].seed], frames=9, steps=1)
    # The model's output is noise in every pixel (deviation 68), the worst there is for a codec; brightness survives it.
    for frame, pixels in zip(shown, made[0], strict=True):
        brightness = cv2.cvtColor(pixels, cv2.COLOR_RGB2YUV_I420)[:32]
        assert abs(frame.grey().astype(int) - brightness).mean() < 4


def test_all_shards_must_agree_on_model_and_batch(tmp_path):
    assert sampling.settled(tmp_path, None, "a" * 64) == sampling.Run("a" * 64, sampling.BATCH)
    assert sampling.settled(tmp_path, sampling.Run("a" * 64, sampling.BATCH), "a" * 64).batch == sampling.BATCH
    with pytest.raises(GokuError, match=rf"begun with --batch {sampling.BATCH}, not 3"):
        sampling.settled(tmp_path, sampling.Run("a" * 64, 3), "a" * 64)
    with pytest.raises(GokuError, match="begun with model aaaaaaaaaaaa, not bbbbbbbbbbbb"):
        sampling.settled(tmp_path, None, "b" * 64)
    for wrong in ("0/4", "5/4", "1", "1/0", "a/b"):
        with pytest.raises(GokuError, match="--shard"):
            sampling.Shard.of_text(wrong)


def test_a_plan_is_bound_to_one_model_and_never_changed(tmp_path):
    samples = make_plan(tmp_path)
    assert not planning.settle(tmp_path, samples)
    bound = planning.bind(tmp_path, samples, "c" * 64)
    assert manifest.read(tmp_path / "manifest.parquet") == bound and bound[0].drawing.model == "c" * 64
    assert not planning.settle(tmp_path, samples)  # planned without a model, as before
    assert planning.bind(tmp_path, bound, "c" * 64) == bound
    with pytest.raises(GokuError, match="planned for model cccccccccccc, and dddddddddddd"):
        planning.bind(tmp_path, bound, "d" * 64)
    with pytest.raises(GokuError, match=r"holds another plan: seed of geneval-00000-0"):
        planning.settle(tmp_path, planning.planned("geneval", "image", prompts(), 3, 8, Drawing(steps=2)))


def test_arrays_of_the_stage_are_drawn_in_the_same_groups(tmp_path):
    samples = make_plan(tmp_path)
    context = Context(tmp_path, tmp_path / "out", tmp_path / "scratch")
    calls = []

    def paint(group):
        calls.append([s.sample_id for s in group])
        return np.stack([np.full((2, 2, 3), s.seed % 251, np.uint8) for s in group])

    first = sampling.draw_all(samples, paint, tmp_path / "arrays", BATCH, context, "pictures")
    whole = list(calls)
    (tmp_path / "arrays" / f"{samples[6].sample_id}.npy").unlink()
    calls.clear()
    again = sampling.draw_all(samples, paint, tmp_path / "arrays", BATCH, context, "pictures")
    assert calls == [whole[1]] and len(whole[1]) == BATCH
    assert all(np.array_equal(first[key], again[key]) for key in first)
    with pytest.raises(GokuError, match="gave 1 samples of uint8 for 4 prompts"):
        sampling.draw_all(samples, lambda group: paint(group)[:1], tmp_path / "other", BATCH, context, "pictures")

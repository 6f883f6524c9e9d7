"""The whole stage with ranks as processes of their own: started, followed, and their result taken over."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from latent_workspace import make_workspace, request
from safetensors.torch import load_file

from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.train.checkpoint import Checkpointing
from goku_core.train.events import RankContext, followed
from goku_core.train.parallel.request import Parallel
from goku_core.train.report import Report
from goku_core.train.stage import run

TWO = Parallel(ranks_per_node=2, precision="float64", device="cpu")
ONE = TWO.model_copy(update={"ranks_per_node": 1})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("line"))


def train(
    workspace: Path, place: Path, parallel: Parallel, every: int = 1000, **changes: object
) -> tuple[Report, Context]:
    (place / "scratch").mkdir(parents=True, exist_ok=True)
    context = Context(workspace, place / "out", place / "scratch", seed=5, cores=2)
    asked = request("second", init_from="vae", **changes)
    asked = asked.model_copy(
        update={"parallel": parallel, "optimizer": "adamw", "checkpoint": Checkpointing(every=every)}
    )
    return run(asked, context), context


def test_two_launched_ranks_end_as_one_process(workspace: Path, tmp_path: Path) -> None:
    (alone, one), (spread, two) = (train(workspace, tmp_path / p, k) for p, k in (("one", ONE), ("two", TWO)))
    assert spread.loss == pytest.approx(alone.loss, rel=1e-6)
    assert (spread.steps, spread.images, spread.clips, spread.tokens) == (6, alone.images, alone.clips, alone.tokens)
    assert spread.parameters == alone.parameters
    for file in ("model.safetensors", "training.safetensors"):
        ours, theirs = (load_file(tmp_path / place / "out/models/second" / file) for place in ("two", "one"))
        assert all((ours[key] - theirs[key]).abs().max() < 1e-10 for key in theirs)
    files = {file.relative_to(tmp_path / "two/out") for file in (tmp_path / "two/out").rglob("*.*")}
    assert files == {file.relative_to(tmp_path / "one/out") for file in (tmp_path / "one/out").rglob("*.*")}
    logged = [[step for step, _ in run.tracker.metrics if step is not None] for run in (one, two)]
    assert logged == [[2, 4, 6], [2, 4, 6]]


@pytest.mark.parametrize(
    ("before", "after"), [(ONE, TWO), pytest.param(TWO, ONE, marks=pytest.mark.slow)], ids=["1 to 2", "2 to 1"]
)
def test_a_run_goes_on_with_another_number_of_ranks(
    workspace: Path, tmp_path: Path, before: Parallel, after: Parallel
) -> None:
    """Through the whole stage: begun by one arrangement, gone on from its checkpoint by another, ends as if unbroken."""
    unbroken, _ = train(workspace, tmp_path / "unbroken", ONE, every=2)
    train(workspace, tmp_path / "moved", before, every=2, steps=4)
    shutil.rmtree(tmp_path / "moved/out")
    report, _ = train(workspace, tmp_path / "moved", after, every=2)
    assert (report.resumed_from, report.steps) == (2, 6)
    assert report.loss == pytest.approx(unbroken.loss, rel=1e-6)
    assert (report.images, report.clips, report.tokens) == (unbroken.images, unbroken.clips, unbroken.tokens)
    for file in ("model.safetensors", "training.safetensors"):
        ours, theirs = (load_file(tmp_path / place / "out/models/second" / file) for place in ("moved", "unbroken"))
        assert all((ours[key] - theirs[key]).abs().max() < 1e-10 for key in theirs)


@pytest.mark.slow
def test_what_a_rank_says_is_told(workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(GokuError, match=r"diverged: the (loss|gradient norm) is (nan|inf)"):
        train(workspace, tmp_path, TWO, learning_rate=1e30, steps=40)


def test_events_reach_the_context_once_and_in_order(tmp_path: Path) -> None:
    """A rank that starts again from a checkpoint moves the bar back, not on."""
    events, told = tmp_path / "events.jsonl", []
    folders = (tmp_path, tmp_path, tmp_path)

    class Screen(Context):
        def say(self, message: str) -> None:
            told.append(message)

    screen = Screen(*folders)
    RankContext(events, *folders).say("of an attempt before")
    with followed(events, screen):
        rank = RankContext(events, *folders)
        for first in (0, 3):
            with rank.progress("train", 5, "steps") as bar:
                bar.advance(first)
                rank.say(f"from {first}")
                rank.tracker.log_metrics({"loss": 0.5}, step=first + 1)
                bar.advance(1, loss=0.5)
    assert told == ["from 0", "from 3"]
    assert screen.tracker.metrics == [(1, {"loss": 0.5}), (4, {"loss": 0.5})]
    last = [json.loads(line) for line in events.read_text().splitlines()][-1]
    assert last == {"event": "progress", "done": 4.0, "notes": {"loss": 0.5}}


def test_other_ranks_are_silent(tmp_path: Path) -> None:
    quiet = RankContext(None, tmp_path, tmp_path, tmp_path)
    quiet.say("nothing")
    quiet.tracker.log_metrics({"loss": 1.0}, step=1)
    with quiet.progress("train", 3) as bar:
        bar.advance(2)
    assert not list(tmp_path.iterdir()) and dataclasses.is_dataclass(quiet)

"""A run that ends at any moment of any step, again and again, ends as the unbroken one, bit for bit.

The moments are drawn: one of the phases of a step, anywhere in the run. The end is an exception that nobody expects; `kill -9`
of whole processes is in test_kill_training.py and test_launcher.py.
"""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from latent_workspace import make_workspace, train

from goku_core.train.health.heart import Heart

FILES = ("model.safetensors", "training.safetensors", "metrics.jsonl")
MOMENTS = 12 * 4  # steps of the phase, and phases of a step that are told to the heart in every one


class Gone(BaseException):
    """The process is no more."""


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    workspace = make_workspace(tmp_path_factory.mktemp("line"))
    place = tmp_path_factory.mktemp("unbroken")
    train(workspace, "first", place)
    return workspace, outputs(place)


def outputs(place: Path) -> dict[str, bytes]:
    return {name: (place / "out/models/first" / name).read_bytes() for name in FILES}


@contextmanager
def gone_after(moments: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In the block, the given number of phases begins; the next one never does."""
    genuine, begun = Heart.phase, 0

    def phase(self: Heart, name: str):  # type: ignore[no-untyped-def]
        nonlocal begun
        begun += 1
        if begun > moments:
            raise Gone(name)
        return genuine(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Heart, "phase", phase)
        yield


def again(workspace: Path, place: Path) -> None:
    """As the pipeline does it: outputs begin anew, scratch stays."""
    for thread in threading.enumerate():  # a process that is gone writes no more
        if thread.name.startswith("checkpoint "):
            thread.join(30)
    shutil.rmtree(place / "out", ignore_errors=True)
    train(workspace, "first", place)


@pytest.mark.parametrize("draw", range(8))
def test_gone_at_drawn_moments(line, draw: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, expected = line
    draws, ends = random.Random(draw), 0
    for _ in range(3):
        with gone_after(draws.randrange(MOMENTS), monkeypatch):
            try:
                again(workspace, tmp_path)
            except Gone:
                ends += 1
            else:
                break
    assert ends, "no run was ended: draw earlier moments"
    again(workspace, tmp_path)
    assert outputs(tmp_path) == expected

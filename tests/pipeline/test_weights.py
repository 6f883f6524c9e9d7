"""Pretrained weights are inputs: other content under the same path is other work, the same content is not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tiny_line
from pydantic import BaseModel, Field
from tiny_line import bodies, new_workspace

from goku_core.config import load_params
from goku_core.pipeline import line
from goku_core.pipeline.executor import execute
from goku_core.pipeline.line import Cell
from goku_core.pipeline.plan import plan


class Scorer(BaseModel):
    weights: str = ""


class Request(tiny_line.Request):
    weights: str = "weights/net"
    scorers: dict[str, Scorer] = Field({"one": Scorer(weights="weights/one.onnx"), "off": Scorer()})


CELL = Cell("split", "split", Request(output="data/parts", folder=True), ("source.txt",), ("data/parts",),
            room="tiny_line")  # fmt: skip


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = new_workspace(tmp_path / "w")
    (folder / "weights/net").mkdir(parents=True)
    (folder / "weights/net/model.safetensors").write_bytes(b"first")
    (folder / "weights/one.onnx").write_bytes(b"scorer")
    return folder


def test_weights_are_found_however_deep() -> None:
    assert CELL.weights == ("weights/net", "weights/one.onnx")


def test_new_content_under_the_same_path_is_new_work(workspace: Path) -> None:
    first = execute(CELL, workspace)
    assert set(first.record.value["inputs"]) == {"source.txt", "weights/net", "weights/one.onnx"}
    (workspace / "weights/net/model.safetensors").write_bytes(b"other")
    (entry,) = plan([CELL], workspace)
    assert entry.state == "run" and entry.why == ("input weights/net: changed",)
    assert execute(CELL, workspace).status == "ran"
    (workspace / "weights/one.onnx").write_bytes(b"better scorer")
    assert execute(CELL, workspace).status == "ran"
    (workspace / "weights/one.onnx").write_bytes(b"scorer")
    (workspace / "weights/net/model.safetensors").write_bytes(b"first")
    assert execute(CELL, workspace).fingerprint == first.fingerprint
    assert len(bodies(workspace)) == 3


def test_the_same_content_copied_again_and_notes_of_a_downloader_are_not(workspace: Path) -> None:
    execute(CELL, workspace)
    os.utime(workspace / "weights/net/model.safetensors")
    (workspace / "weights/net/.cache").mkdir()
    (workspace / "weights/net/.cache/download.lock").write_text("now")
    assert execute(CELL, workspace).status == "already-done"
    assert [e.state for e in plan([CELL], workspace)] == ["done"]


def test_a_name_of_a_hub_is_no_folder(workspace: Path) -> None:
    cell = Cell("split", "split", Request(output="data/parts", folder=True, weights="google/flan-t5-xl", scorers={}),
                ("source.txt",), ("data/parts",), room="tiny_line")  # fmt: skip
    assert set(execute(cell, workspace).record.value["inputs"]) == {"source.txt"}


def test_weights_that_nothing_uses_do_not_count() -> None:
    params = load_params(Path(line.__file__).resolve().parents[2] / "params.yaml")
    assert params.vae.perceptual.weights and params.precompute.text.weights  # named, and switched off
    by_name = {cell.name: cell.weights for cell in line.cells(params)}
    assert by_name["vae"] == by_name["precompute"] == ()
    params.precompute.text.kind = "t5"
    params.vae.perceptual.weight = 1.0
    by_name = {cell.name: cell.weights for cell in line.cells(params)}
    assert by_name["vae"] == ("weights/resnet-50",) and by_name["precompute"] == ("google/flan-t5-xl",)

"""Checkpoints of one process: exact, readable by others, staged at the call, and clear about what does not fit."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
import torch
from checkpoint_states import digests, everything, make_state
from safetensors.torch import load_file, save_file

from goku_core.pipeline.errors import GokuError
from goku_core.train.checkpoint import Checkpoint, Checkpoints, State
from goku_core.train.checkpoint.files import Block, arrange

POSITION = {"step": 7, "images": 3, "skipped": [2, 5], "log": [{"step": 6, "loss": 0.25}]}


def saved(folder: Path, state: State, step: int = 7, **options: object) -> Checkpoints:
    checkpoints = Checkpoints(folder, **options)
    checkpoints.save(step, state, POSITION | {"step": step})
    checkpoints.wait()
    return checkpoints


@pytest.mark.parametrize("asynchronous", [True, False])
def test_another_process_gets_every_bit_back(tmp_path: Path, asynchronous: bool) -> None:
    state = make_state(1)
    saved(tmp_path, state, asynchronous=asynchronous)
    other = make_state(2, steps=0)  # other values, and optimizers that have not made a step
    checkpoints = Checkpoints(tmp_path)
    found = checkpoints.newest()
    assert found == Checkpoint(tmp_path / "step-00000007", 7)
    assert checkpoints.load(found, other) == POSITION
    assert digests(everything(other)) == digests(everything(state))
    # And the next step is the same one, which it is only if the optimizers took the moments up.
    for one in (state, other):
        torch.manual_seed(3)
        for parameter in one.model.parameters():
            parameter.grad = torch.randn_like(parameter)
        for optimizer in one.optimizers.values():
            optimizer.step()
    assert digests(everything(other)) == digests(everything(state))


def test_any_reader_of_safetensors_finds_every_tensor_by_its_name(tmp_path: Path) -> None:
    state = make_state(1)
    saved(tmp_path, state)
    folder = tmp_path / "step-00000007"
    read = {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}
    assert digests(read) == digests(everything(state))
    assert {
        "model.blocks.0.wide.weight",
        "ema.embed.bias",
        "adamw.blocks.1.gate.exp_avg",
        "adamw.embed.bias.step",
    } <= set(read)
    assert not [path for path in folder.iterdir() if path.suffix not in (".safetensors", ".json")]


def test_what_happens_after_the_call_is_not_in_the_checkpoint(tmp_path: Path) -> None:
    state = make_state(1)
    before = digests(everything(state))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state, POSITION)
    with torch.no_grad():
        for tensor in everything(state).values():
            tensor.zero_()
    found = checkpoints.newest()  # waits
    checkpoints.load(found, state)
    assert digests(everything(state)) == before


def test_the_call_returns_while_the_disk_is_still_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    let_go, plain = threading.Event(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: let_go.wait(20) and plain(descriptor))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make_state(1), POSITION)  # would stand still here if it waited
    assert not (tmp_path / "step-00000001").exists()
    let_go.set()
    checkpoints.wait()
    assert (tmp_path / "step-00000001/complete.json").exists()


def test_an_error_behind_the_training_comes_up_at_the_next_call_and_then_it_goes_on(tmp_path: Path) -> None:
    folder, state = tmp_path / "checkpoints", make_state(1)
    folder.write_text("a file is in the way")
    checkpoints = Checkpoints(folder)
    checkpoints.save(1, state, POSITION)
    with pytest.raises(GokuError, match="was not written"):
        checkpoints.save(2, state, POSITION)
    folder.unlink()
    checkpoints.save(3, state, POSITION)
    assert checkpoints.newest() == Checkpoint(folder / "step-00000003", 3)


def test_retention_keeps_the_newest_and_the_milestones(tmp_path: Path) -> None:
    state, checkpoints = make_state(1), Checkpoints(tmp_path, keep=2, keep_every=4)
    for step in range(1, 12):
        checkpoints.save(step, state, POSITION)
    checkpoints.wait()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{n:08d}" for n in (4, 8, 10, 11)]
    # A run that went back: what it had reached on its former course is not newer than where it is now.
    checkpoints.save(9, state, POSITION)
    assert checkpoints.newest() == Checkpoint(tmp_path / "step-00000009", 9)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{n:08d}" for n in (4, 8, 9)]


def test_only_what_is_whole_counts(tmp_path: Path) -> None:
    state, told = make_state(1), []
    checkpoints = Checkpoints(tmp_path, keep=9, say=told.append)
    for step in range(1, 6):
        checkpoints.save(step, state, POSITION | {"step": step})
    checkpoints.wait()
    folder = {step: tmp_path / f"step-{step:08d}" for step in range(1, 6)}
    flipped = bytearray((folder[5] / "adamw-00000-00.safetensors").read_bytes())
    flipped[-1] ^= 1
    (folder[5] / "adamw-00000-00.safetensors").write_bytes(flipped)
    (folder[4] / "index.json").unlink()
    (folder[3] / "complete.json").write_text('{"model.safetensors": "0123"}')  # as an earlier release wrote it
    assert checkpoints.newest() == Checkpoint(folder[2], 2)
    assert "adamw-00000-00.safetensors" in told[0] and "index.json" in told[1] and "complete.json" in told[2]
    assert Checkpoints(tmp_path / "nothing").newest() is None


def test_a_kill_before_the_name_loses_nothing_and_one_before_the_marker_leaves_nothing(tmp_path: Path) -> None:
    state = make_state(1)
    checkpoints = saved(tmp_path, state, step=1)
    checkpoints.save(2, state, POSITION)
    checkpoints.wait()
    (tmp_path / "step-00000002").rename(tmp_path / ".step-00000002")  # its marker was written, its name was not
    assert checkpoints.newest() == Checkpoint(tmp_path / "step-00000002", 2)
    (tmp_path / "step-00000002").rename(tmp_path / ".step-00000003")
    (tmp_path / ".step-00000003/complete.json").unlink()
    assert checkpoints.newest() == Checkpoint(tmp_path / "step-00000001", 1)
    checkpoints.save(4, state, POSITION)
    checkpoints.wait()
    assert not list(tmp_path.glob(".step-*"))


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, make_state(1))
    found = checkpoints.newest()

    def refusal(state: State) -> str:
        with pytest.raises(GokuError) as caught:
            checkpoints.load(found, state)
        return str(caught.value)

    deeper = make_state(1, depth=3)
    deeper.optimizers = make_state(1).optimizers  # only the networks differ
    assert "no parameter of the model" in refusal(deeper)
    assert "adamw moves other parameters here" in refusal(make_state(1, depth=3))
    wider = refusal(make_state(1, width=50))
    assert (
        "model.embed.weight is 50x50 here and 48x48 there" in wider
        and "ema.embed.bias is 50 here and 48 there" in wider
    )
    plain = make_state(1)
    plain.optimizers = {"adamw": plain.optimizers["adamw"]}
    assert "written with adamw, muon; this run has adamw" in refusal(plain)
    longer = make_state(1)
    longer.model.register_buffer("extra", torch.zeros(2))
    assert "model.extra is new" in refusal(longer)
    doubled = make_state(1)
    doubled.model.rounded = doubled.model.rounded.double()
    assert "model.rounded is torch.float64 here and torch.bfloat16 there" in refusal(doubled)


def test_a_large_section_is_written_in_parts(tmp_path: Path) -> None:
    blocks = [Block(f"model.{n:02d}", torch.float32, (100,), (0,)) for n in range(7)]
    files = arrange(blocks, rank=3, limit=900)
    assert [(file.name, len(file.blocks)) for file in files] == [
        (f"model-00003-{n:02d}.safetensors", count) for n, count in enumerate((2, 2, 2, 1))
    ]


def test_memory_does_not_grow_over_many_saves(tmp_path: Path) -> None:
    """Public report pytorch#170163: every asynchronous save leaves some memory behind, and a long run ends for want of it."""
    state = make_state(1, width=700)  # 8 MB with average and moments
    checkpoints = Checkpoints(tmp_path, keep=1)

    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def several(first: int, count: int) -> None:
        for step in range(first, first + count):
            checkpoints.save(step, state, POSITION)
        checkpoints.wait()

    several(1, 10)
    before = resident()
    several(11, 25)
    assert resident() - before < 12  # one copy left behind per save would be 200 MB


def test_the_file_is_the_one_that_the_library_writes(tmp_path: Path) -> None:
    """Ours is written as it is staged; the library's is the reference, header and all."""
    saved(tmp_path, make_state(1))
    ours = tmp_path / "step-00000007/model-00000-00.safetensors"
    save_file(load_file(ours), tmp_path / "theirs.safetensors", metadata={"format": "pt"})

    def header(path: Path) -> dict[str, object]:
        content = path.read_bytes()
        size = int.from_bytes(content[:8], "little")
        assert size % 8 == 0
        return {
            name: value["shape"] for name, value in json.loads(content[8 : 8 + size]).items() if name != "__metadata__"
        }

    assert header(ours) == header(tmp_path / "theirs.safetensors")
    assert ours.stat().st_size == (tmp_path / "theirs.safetensors").stat().st_size

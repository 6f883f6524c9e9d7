"""A phase ends with the same weights however many ranks share it, and in whatever way."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from arranged_runs import MORE, OF_ONE, SPREAD, STEPS, on_each_rank, run_one
from latent_workspace import make_workspace
from ranks import on_ranks
from safetensors.torch import load_file

EXACT = [name for name in SPREAD if "muon" not in name and "bfloat16" not in name]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All arrangements, each in a folder of its name."""
    folder = tmp_path_factory.mktemp("arrangements")
    workspace = make_workspace(folder / "line")
    for name, arrangement in OF_ONE.items():
        run_one(arrangement, workspace, folder / name)
        if dist.is_initialized():
            dist.destroy_process_group()
    on_ranks(on_each_rank, 4, folder, workspace, list(SPREAD))
    return folder


def weights(runs: Path, name: str, file: str) -> dict[str, torch.Tensor]:
    return load_file(runs / name / "out/models/second" / f"{file}.safetensors")


def position(runs: Path, name: str) -> dict[str, Any]:
    return json.loads((runs / name / "trained.json").read_text())


def worst(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    assert ours.keys() == theirs.keys()
    return max(((ours[key] - theirs[key]).abs().max() / (1e-3 + theirs[key].abs().max())).item() for key in ours)


def seen(runs: Path, name: str) -> dict[str, list[str]]:
    """Samples of each step over all groups."""
    found: dict[str, list[str]] = {}
    for file in (runs / name).glob("seen-*.json"):
        for step, samples in json.loads(file.read_text())["samples"].items():
            found.setdefault(step, []).extend(samples)
    return {step: sorted(samples) for step, samples in found.items()}


@pytest.mark.parametrize("name", ["small packs", *EXACT])
def test_weights_average_and_losses_are_those_of_one_rank(runs: Path, name: str) -> None:
    assert_equal_to_one_rank(runs, name)


@pytest.mark.slow
def test_more_arrangements_end_as_one_rank(runs: Path) -> None:
    on_ranks(on_each_rank, 4, runs, runs / "line", list(MORE))
    for name in MORE:
        assert_equal_to_one_rank(runs, name)
        assert seen(runs, name) == seen(runs, "one rank")


def assert_equal_to_one_rank(runs: Path, name: str) -> None:
    for file in ("training", "model"):
        assert worst(weights(runs, name, file), weights(runs, "one rank", file)) < 1e-10, file
    ours, theirs = position(runs, name), position(runs, "one rank")
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=1e-6) and len(ours["losses"]) == STEPS
    for mine, other in zip(ours["log"], theirs["log"], strict=True):
        assert mine["gradient_norm"] == pytest.approx(other["gradient_norm"], abs=2e-6)
        assert all(mine[key] == other[key] for key in ("step", "images", "clips", "tokens", "learning_rate"))


def test_the_phase_moved_the_weights(runs: Path) -> None:
    """Equal to 1e-10 says something only where steps were taken, clipped and unclipped, and differ from one another."""
    raw, averaged = weights(runs, "one rank", "training"), weights(runs, "one rank", "model")
    assert worst(raw, averaged) > 1e-2
    log = position(runs, "one rank")["log"]
    assert len({entry["loss"] for entry in log}) == STEPS
    assert max(entry["gradient_norm"] for entry in log) > 0.5
    assert all(entry["images"] and entry["clips"] for entry in log)


@pytest.mark.parametrize("name", ["small packs", *SPREAD])
def test_samples_noise_and_times_are_the_same_to_the_bit(runs: Path, name: str) -> None:
    assert seen(runs, name) == seen(runs, "one rank")
    assert len(seen(runs, name)) == STEPS


def test_packs_of_the_arrangements_differ(runs: Path) -> None:
    """Accumulation has several packs; groups have other numbers of packs and of tokens."""

    def packs(name: str, rank: int) -> list[list[int]]:
        return list(json.loads((runs / name / f"seen-{rank}.json").read_text())["packs"].values())

    assert all(len(step) == 1 for step in packs("one rank", 0))
    assert all(len(step) > 2 and max(step) <= 20 for step in packs("small packs", 0))
    first, second = (packs("two shards, small packs, selective", rank) for rank in (0, 1))
    assert [len(step) for step in first] != [len(step) for step in second]
    assert [sum(step) for step in first] != [sum(step) for step in second]


def test_muon_orthogonalises_whole_matrices(runs: Path) -> None:
    """Its arithmetic is bfloat16, in which the last digit of a sum may turn a value by 2^-8: close, not equal."""
    for file in ("training", "model"):
        ours, theirs = (weights(runs, name, file) for name in ("muon, two shards", "muon"))
        assert worst(ours, theirs) < 0.02, file
        assert worst(ours, weights(runs, "one rank", file)) > 0.1


def test_half_precision_keeps_whole_weights(runs: Path) -> None:
    """bfloat16 is the arithmetic's type, not the weights': updates smaller than its last digit add up."""
    for name in ("bfloat16, one rank", "bfloat16, two shards"):
        found = weights(runs, name, "training")
        assert all(value.dtype == torch.float32 for value in found.values())
        assert any((value != value.bfloat16().float()).any() for value in found.values())
        for mine, other in zip(position(runs, name)["log"], position(runs, "one rank")["log"], strict=True):
            assert mine["loss"] == pytest.approx(other["loss"], rel=0.02)

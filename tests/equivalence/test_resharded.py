"""What one arrangement of ranks wrote, every other one reads, to the bit: moments and averages too. And what ranks owe each other.

Four gloo processes run once (checkpoint_ranks.py); parts of them form the smaller arrangements.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch.multiprocessing as mp
from checkpoint_ranks import MESHES, members, run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("meshes")


@pytest.fixture(scope="module")
def told(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the four ranks found."""
    results = tmp_path_factory.mktemp("results")
    mp.spawn(run, (folder, results), nprocs=4)
    return [json.loads((results / f"{rank}.json").read_text()) for rank in range(4)]


@pytest.mark.parametrize("target", MESHES)
@pytest.mark.parametrize("source", MESHES)
def test_any_ranks_read_what_any_others_wrote(told: list[dict[str, Any]], source: str, target: str) -> None:
    expected = told[0]["saved"][source]
    assert {"adamw.embed.bias.exp_avg_sq", "muon.blocks.0.wide.weight.momentum_buffer", "ema.rounded"} <= set(expected)
    for rank in members(target):
        assert told[rank]["loaded"][f"{source} -> {target}"] == [{"written by": source}, expected]


def test_each_file_is_verified_once_whatever_the_number_of_ranks(told: list[dict[str, Any]], folder: Path) -> None:
    for source in MESHES:
        (checkpoint,) = (folder / source).glob("step-*")
        files = sorted(path.name for path in checkpoint.iterdir() if path.name != "complete.json")
        for target in MESHES:
            assert sorted(n for one in told for n in one["read"].get(f"{source} -> {target}", ())) == files


@pytest.mark.parametrize("source", MESHES)
def test_nothing_is_written_twice_and_the_ranks_share_the_writing(
    told: list[dict[str, Any]], folder: Path, source: str
) -> None:
    (checkpoint,) = (folder / source).glob("step-*")
    index = json.loads((checkpoint / "index.json").read_text())["tensors"]
    assert set(index) == set(told[0]["saved"][source])

    def size(one: dict[str, Any], shape: list[int]) -> int:
        values = 1
        for length in shape:
            values *= length
        return values * {"F32": 4, "BF16": 2}[one["dtype"]]

    by_rank = dict.fromkeys((f"{rank:05d}" for rank in range(len(members(source)))), 0)
    for one in index.values():
        assert sum(size(one, piece["shape"]) for piece in one["pieces"]) == size(one, one["shape"])
        for piece in one["pieces"]:
            by_rank[piece["file"].split("-")[1]] += size(one, piece["shape"])
    assert max(by_rank.values()) < 1.5 * sum(by_rank.values()) / len(by_rank)


def test_a_full_disk_on_one_rank_is_everybody_s_error_and_costs_no_checkpoint(told: list[dict[str, Any]]) -> None:
    for one in told:
        message, newest, there, after = one["full disk"]
        assert "rank 2" in message and "File too large" in message
        assert (newest, there, after) == (1, ["step-00000001"], 3)


def test_what_one_rank_cannot_read_nobody_goes_on_with(told: list[dict[str, Any]]) -> None:
    assert all("index.json" in one["misfit"] for one in told)

"""What balance decides reaches training: a sample is walked as often per epoch as the index says."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from latent_workspace import make_workspace, request

from goku_core.models.text import WordEncoder
from goku_core.packing import rows_of_step
from goku_core.shards import ShardReader
from goku_core.train.data import Packer


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("repeats")) / "data/latents/low"


def packer(folder: Path, repeats: list[int]) -> Packer:
    path = folder / "index.parquet"
    table = pq.read_table(path).drop_columns(["repeats"])
    pq.write_table(table.append_column("repeats", pa.array(repeats, pa.int32())), path)
    asked = request("first")
    return Packer(ShardReader(folder), asked.phases["first"], asked, WordEncoder(16, 16), seed=5)


def walked(packer: Packer, samples: int) -> Counter:
    """Index rows of the first `samples` pictures of the walk."""
    rows: list[int] = []
    step = 0
    while len(rows) < samples:
        rows += rows_of_step(packer.lengths, packer.mix, 4, packer.seed, step).tolist()  # one picture a step
        step += 1
    return Counter(rows)


def test_an_epoch_repeats_what_balance_repeats(folder: Path) -> None:
    ones = [1] * 24
    pictures = [row for row in range(24) if row % 3]
    repeats = list(ones)
    repeats[pictures[0]], repeats[pictures[1]], repeats[pictures[2]] = 4, 2, 0
    found = walked(packer(folder, repeats), sum(repeats[row] for row in pictures))
    assert found == {row: repeats[row] for row in pictures if repeats[row]}


def test_packs_are_the_same_to_the_bit_where_nothing_repeats(folder: Path) -> None:
    ones, plain = packer(folder, [1] * 24), packer(folder, [1] * 24)
    plain.mix = replace(plain.mix, repeats=())  # as if there were no such thing
    for step in (0, 3, 17):
        before, after = plain.packs(step)[0], ones.packs(step)[0]
        assert np.array_equal(before.noised.numpy(), after.noised.numpy())
        assert np.array_equal(before.text.numpy(), after.text.numpy())

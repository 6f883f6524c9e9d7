"""Faults of loaders that users of other systems reported in public: each could not happen here without one of these failing."""

from __future__ import annotations

from pathlib import Path

import pytest
from many_shards import packer, write_latents

from goku_core.train.data import Loader, Packer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_latents(tmp_path_factory.mktemp("data"))


def shown(made: Packer, step: int, groups: int = 1) -> list[str]:
    return sorted(name for group in range(groups) for pack in made.packs(step, group, groups) for name in pack.ids)


def test_a_run_goes_on_at_another_number_of_ranks(folder: Path) -> None:
    """pytorch/torchtitan#811, #816: a loader whose position belongs to a number of ranks; a lost node loses the position."""
    unbroken = [shown(packer(folder), step) for step in range(6)]
    before = [shown(packer(folder), step, groups=4) for step in range(3)]
    after = [shown(packer(folder), step, groups=3) for step in range(3, 6)]
    assert before + after == unbroken


def test_nothing_is_trained_on_padding(folder: Path) -> None:
    """hao-ai-lab/FastVideo#168: a mask of padding that nobody used. Here there is none: tokens of a pack are those of its samples,
    and each sample weighs the same, however long it is."""
    made = packer(folder, pack_tokens=48)
    lengths = dict(zip(made.reader.index["sample_id"].tolist(), made.lengths.tolist(), strict=True))
    packs = made.packs(0)
    samples = sum(len(pack.ids) for pack in packs)
    for pack in packs:
        assert pack.cu_seqlens.diff().tolist() == [lengths[name] for name in pack.ids]
        assert len(pack.data) == len(pack.noised) == len(pack.weight) == sum(lengths[name] for name in pack.ids)
        for begin, end in zip(pack.cu_seqlens[:-1].tolist(), pack.cu_seqlens[1:].tolist(), strict=True):
            assert float(pack.weight[begin:end].sum()) == pytest.approx(1 / samples)


def test_a_changed_limit_of_packs_loses_no_position(folder: Path) -> None:
    """hpcaitech/Open-Sora#635, #676: resume breaks on the state of buckets, and crashes when their settings change. Here a
    step needs no state, and how much a pack holds may change in the middle of a run."""
    loader = Loader(packer(folder, pack_tokens=24), ahead=1)
    first = [sorted(name for pack in loader.step(step) for name in pack.ids) for step in range(3)]
    loader.close()
    loader = Loader(packer(folder, pack_tokens=64), ahead=1)
    then = [sorted(name for pack in loader.step(step) for name in pack.ids) for step in range(3, 6)]
    loader.close()
    assert first + then == [shown(packer(folder), step) for step in range(6)]

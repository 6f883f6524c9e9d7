"""What a sample becomes depends on (seed, sample, step) alone: not on threads, prefetch, groups or packs."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from many_shards import asked, packer, write_latents
from torch import Tensor

from goku_core.pipeline.errors import GokuError
from goku_core.train.data import Loader, Pack

STEPS = 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_latents(tmp_path_factory.mktemp("data"))


def pack_bytes(packs: Iterable[Pack]) -> list[dict[str, object]]:
    """Everything in a pack, tensors as their bytes."""
    return [
        {
            field.name: value.numpy().tobytes() if isinstance(value := getattr(pack, field.name), Tensor) else value
            for field in fields(pack)
        }
        for pack in packs
    ]


def sample_bytes(packs: Iterable[Pack]) -> Iterator[tuple[str, bytes]]:
    """Each sample of the packs: its id, and the bytes of all that was made of it, its weight in the loss too."""
    for pack in packs:
        bounds, texts = pack.cu_seqlens.tolist(), pack.text_cu_seqlens.tolist()
        per_token = [pack.noised, pack.data, pack.noise, pack.coords, pack.weight]
        per_token += [pack.condition] if pack.condition is not None else []
        for place, name in enumerate(pack.ids):
            own = [tensor[bounds[place] : bounds[place + 1]] for tensor in per_token]
            own += [pack.time[place], pack.text[texts[place] : texts[place + 1]]]
            yield name, b"".join(tensor.contiguous().numpy().tobytes() for tensor in own)


def test_threads_and_prefetch_change_no_byte(folder: Path) -> None:
    plain = packer(folder, cache_megabytes=0, pack_tokens=64)
    wanted = {step: pack_bytes(plain.packs(step)) for step in range(STEPS + 3)}
    for ahead, threads in ((0, 1), (0, 3), (1, 1), (3, 2), (2, 7)):
        loader = Loader(packer(folder, cache_megabytes=threads % 2, pack_tokens=64), ahead=ahead, threads=threads)
        try:
            # In order; with steps left out, as after a spike; and back again, as after a rewind.
            for step in (*range(STEPS), 6, 7, 2, 3):
                assert pack_bytes(loader.step(step)) == wanted[step], (ahead, threads, step)
        finally:
            loader.close()


@pytest.mark.parametrize("phase", ["second", "i2v"])
def test_groups_and_packs_change_no_byte_of_a_sample(folder: Path, phase: str) -> None:
    whole = packer(folder, phase=phase)
    for step in range(STEPS):
        together = sorted(sample_bytes(whole.packs(step)))
        assert len(together) > 10
        for groups, most, rounds in ((2, None, "free"), (3, 24, "free"), (4, 32, "equal"), (40, 24, "equal")):
            own = packer(folder, phase=phase, pack_tokens=most, rounds=rounds)
            packs = [own.packs(step, group, groups) for group in range(groups)]
            assert sorted(sample_bytes(pack for some in packs for pack in some)) == together
            weight = sum(float(pack.weight.sum()) for some in packs for pack in some)
            assert weight == pytest.approx(1), "the loss of a step is its mean over samples"
            if most is not None:
                assert max(len(pack.data) for some in packs for pack in some) <= most
            if rounds == "equal":
                assert len({len(some) for some in packs}) == 1


def test_samples_without_a_group_leave_a_pack_without_weight(folder: Path) -> None:
    """It goes through the network like any other, and moves nothing."""
    own = packer(folder, rounds="equal", pack_tokens=24, phase="i2v", tokens=48)
    packs = [pack for group in range(40) for pack in own.packs(0, group, 40)]
    empty = [pack for pack in packs if not pack.ids]
    assert empty and len(empty) + len([pack for pack in packs if pack.ids]) == 40
    for pack in empty:
        assert len(pack.data) == 1 and not pack.weight.any() and pack.counts == (0, 0)
        assert pack.condition is not None and pack.data.shape == pack.condition.shape
        assert pack.text_cu_seqlens.tolist() == [0, len(pack.text)]
        assert pack.data.shape[1] == packs[0].data.shape[1]


def test_what_goes_wrong_ahead_is_told_when_it_is_wanted(folder: Path) -> None:
    made = packer(folder)
    plain, loader = made.packs, Loader(made, ahead=2)

    def broken_at_two(step: int, *rest: object) -> list[Pack]:
        if step == 2:
            raise GokuError("no step two")
        return plain(step, *rest)

    made.packs = broken_at_two
    assert len(loader.step(0)) and len(loader.step(1))
    with pytest.raises(GokuError, match="no step two"):
        loader.step(2)
    assert len(loader.step(3))
    loader.close()


def test_no_more_than_asked_for_is_made_ahead(folder: Path) -> None:
    made = packer(folder)
    plain, started, loader = made.packs, [], Loader(made, ahead=2, threads=2)
    made.packs = lambda step, *rest: started.append(step) or plain(step, *rest)
    loader.step(0)
    loader.step(1)
    loader.close()
    assert started[:2] == [0, 1] and set(started) <= {0, 1, 2, 3} and len(set(started)) == len(started)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("packs", "samples"))]


def test_memory_for_samples_has_a_bound(folder: Path) -> None:
    own = packer(folder, cache_megabytes=1)
    for step in range(20):
        own.packs(step)
    kept = sum(tensor.nbytes for stored in own._kept.values() for tensor in stored[1:])
    assert 0 < kept <= 1 << 20 and kept + own._room == 1 << 20
    none = packer(folder, cache_megabytes=0)
    none.packs(0)
    assert not none._kept


def test_a_sample_that_no_pack_holds_is_named_before_training(folder: Path) -> None:
    with pytest.raises(GokuError, match=r'1 samples at resolution "low".*: 10 has 20, pack_tokens is 19\. Raise'):
        packer(folder, pack_tokens=19)
    assert packer(folder, pack_tokens=20)


def test_the_cost_is_the_measured_one_or_that_of_the_network() -> None:
    from goku_core.train.data.packer import cost_of
    from goku_core.train.data_request import Cost

    plain = asked()  # width 32, ffn 64
    assert cost_of(plain) == (12 * 32**2 + 4 * 32 * 64, 4 * 32)
    assert cost_of(plain.model_copy(update={"cost": Cost(linear=2e-6, quadratic=3e-11)})) == (2e-6, 3e-11)
    with pytest.raises(ValueError, match="no sample would cost anything"):
        Cost(linear=0.0, quadratic=0.0)


def test_the_wrong_source_is_named() -> None:
    with pytest.raises(ValueError, match="s3://bucket/prefix, or null"):
        asked(data={"source": "/somewhere"})


def test_tensors_are_what_they_were_from_any_place(folder: Path) -> None:
    """Read by position and memory-mapped: the same samples."""
    from goku_core.shards import ShardReader

    one, two = packer(folder).packs(3), packer(folder, reader=ShardReader(folder)).packs(3)
    assert pack_bytes(one) == pack_bytes(two) and torch.isfinite(one[0].noised).all()

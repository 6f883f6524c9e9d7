"""What the benchmarks of packing and loading rest on: every side deals out, and reads, the same samples."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from itertools import islice

import numpy as np
import pytest
import torch

from benchmarks import loader, packing
from benchmarks.measuring import layouts
from benchmarks.measuring.lengths import Buckets, data_set, padded_share, round_robin, token_balanced

SHAPES = [(4, 2, 4, 6) if number % 4 == 3 else (4, 1, 4, 6) for number in range(70)]


def test_the_data_set_is_what_it_is_said_to_be() -> None:
    data = data_set(20_000)
    pictures, clips = data.mix.rows
    assert len(clips) / 20_000 == pytest.approx(0.2, abs=0.01)
    assert set(data.lengths[pictures].tolist()) == {256, 576, 1620, 3600}
    # 2 s of 288x512 and almost 10 s of 720p: 12 and 60 latent frames.
    assert data.lengths[clips].min() == 12 * 576 and 59 * 3600 <= data.lengths.max() <= 61 * 3600
    assert (data.lengths[clips] % 576 == 0).mean() == pytest.approx(0.6, abs=0.05)


def test_every_way_of_dealing_gives_every_sample_to_one_group() -> None:
    size = np.random.default_rng(0).integers(1, 500, 301)
    for dealt in (round_robin(size, 7), token_balanced(size, 7)):
        assert len(dealt) == 7 and sorted(np.concatenate([pack for own in dealt for pack in own])) == sorted(size)
    tokens = [int(own[0].sum()) for own in token_balanced(size, 7)]
    assert max(tokens) - min(tokens) <= size.max()


def test_buckets_show_samples_as_often_as_there_are() -> None:
    lengths = np.repeat([10, 40, 1000], [700, 250, 50])
    buckets, rng = Buckets(lengths, 100.0), np.random.default_rng(0)
    seen: Counter[int] = Counter()
    for _ in range(2000):
        for (pack,) in buckets.step(8, rng):
            assert len(set(pack.tolist())) == 1 and len(pack) == max(1, 100 // pack[0])
            seen[int(pack[0])] += len(pack)
    total = sum(seen.values())
    assert [seen[n] / total for n in (10, 40, 1000)] == pytest.approx([0.7, 0.25, 0.05], abs=0.02)
    assert padded_share([[np.array([10, 10])], [np.array([5, 10])]]) == pytest.approx(1 - 35 / 40)


def test_ours_is_compared_with_every_other_way(tmp_path) -> None:
    result = packing.main(["--device", "cpu", "--small", "--out", str(tmp_path)])
    sides = {row["side"]: row for row in result.rows}
    others = {"equal tokens", "naive", "buckets, by tokens", "buckets, by cost"}
    assert set(sides) == {"goku, free", "goku, equal", *others}
    assert {ratio["against"] for ratio in result.ratios} == others
    for name in others:
        (ratio,) = [one for one in result.ratios if one["against"] == name]
        assert ratio["repeats"] == 4 and 0 < ratio["low"] <= ratio["ratio"] <= ratio["high"]
    assert sides["goku, free"]["imbalance_percent"] <= sides["naive"]["imbalance_percent"]
    assert 0 <= sides["goku, free"]["padding_percent"] < 5 < sides["naive"]["padding_percent"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("layouts")
    layouts.write(folder, SHAPES, (3, 8))
    return folder


def content(samples) -> list[bytes]:
    return [latent.numpy().tobytes() + text.numpy().tobytes() for latent, text in samples]


def test_every_layout_gives_the_same_samples_once(written) -> None:
    """A side that reads less, or something else, would look fast."""
    plain = content(layouts.shards(written))
    assert len(set(plain)) == len(SHAPES)
    sides = [layouts.memory_map(written), layouts.shards(written, threads=3, checked=False)]
    if layouts.installed():
        sides += [layouts.webdataset(written), layouts.webdataset(written, workers=2)]
    for side in sides:
        latents = list(side)
        assert all(tensor.dtype == torch.float32 for sample in latents for tensor in sample)
        assert sorted(content(latents)) == sorted(plain) and content(latents) != sorted(plain)


def test_the_middle_of_an_epoch_is_where_the_first_half_ends(written) -> None:
    for begin in (1, 35, 64, 65):
        assert content(layouts.shards(written, begin)) == content(layouts.shards(written))[begin:]
        assert content(layouts.memory_map(written, begin)) == content(layouts.memory_map(written))[begin:]
    if layouts.installed():
        assert len(content(layouts.webdataset(written, 35))) == len(SHAPES) - 35


def test_packs_of_an_epoch_hold_as_many_samples(written) -> None:
    names = list(loader.packs(written))
    assert len(names) == len(SHAPES) and len(set(names[:64])) == 64
    with closing(loader.packs(written, 64)) as later:
        assert list(islice(later, 3)) == names[64:67]

"""The plan is a pure function of (index, seed, step)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goku_core.packing import Mix, philox, plan, uniform
from goku_core.packing.plan import samples_per_step

IMAGES, CLIPS = tuple(range(60)), tuple(range(60, 80))
LENGTHS = np.array([28] * 60 + [140] * 20)
MIX = Mix((IMAGES, CLIPS), (0.75, 0.25))
GOLDEN_NOISE = [-0.9418007731437683, -0.037931766360998154]


def test_an_epoch_shows_every_sample_once() -> None:
    mix = Mix((IMAGES,), (1.0,))
    seen = np.concatenate([plan(LENGTHS, mix, 28 * 10, seed=3, step=s)[0] for s in range(6)])
    assert sorted(seen) == list(IMAGES)
    again = np.concatenate([plan(LENGTHS, mix, 28 * 10, seed=3, step=s)[0] for s in range(6, 12)])
    assert sorted(again) == list(IMAGES)
    assert list(again) != list(seen)


def test_mix_and_budget() -> None:
    assert samples_per_step(LENGTHS, MIX, 1120) == [15, 5]
    rows = plan(LENGTHS, MIX, 1120, seed=0, step=4)[0]
    assert LENGTHS[rows].sum() == 15 * 28 + 5 * 140
    assert list(LENGTHS[rows]) == sorted(LENGTHS[rows])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), step=st.integers(0, 10_000), ranks=st.sampled_from([1, 2, 4, 8]))
def test_ranks_share_the_same_samples(seed: int, step: int, ranks: int) -> None:
    together = np.sort(plan(LENGTHS, MIX, 1120 * 8, seed, step)[0])
    dealt = plan(LENGTHS, MIX, 1120 * 8 // ranks, seed, step, ranks)
    assert len(dealt) == ranks
    assert np.array_equal(np.sort(np.concatenate(dealt)), together)


def test_cost_balances_ranks() -> None:
    lengths = np.array([16] * 400 + [1024] * 8)
    mix = Mix((tuple(range(400)), tuple(range(400, 408))), (50.0, 1.0))
    packs = plan(lengths, mix, 3650, seed=0, step=0, ranks=4, cost=(1.0, 0.01))
    price = [float((lengths[p] + 0.01 * lengths[p].astype(float) ** 2).sum()) for p in packs]
    assert max(price) / np.mean(price) < 1.05


def test_a_wanted_kind_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        Mix((IMAGES, ()), (1.0, 0.5))


def test_draws_do_not_depend_on_order() -> None:
    """Golden values: a change of the draws would silently change every run."""
    assert uniform(1, "time", "abc", 7) == uniform(1, "time", "abc", 7)
    assert len({uniform(s, p, k, n) for s in (0, 1) for p in "ab" for k in "xy" for n in (0, 1)}) == 16
    assert philox(0, "noise", "clip", 3).standard_normal(2, dtype="f4") == pytest.approx(GOLDEN_NOISE, abs=1e-7)

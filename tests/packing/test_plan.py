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
GOLDEN_PLAN = [5, 7, 21, 23, 29, 51, 52, 56, 75, 78]


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


def test_a_plan_without_repeats_is_the_same_to_the_bit() -> None:
    """Golden rows from before there were repeats; and all of them 1 is as if there were none."""
    ones = Mix(MIX.rows, MIX.shares, ((1,) * 60, (1,) * 20))
    for step in (0, 5, 1000):
        for ranks in (1, 4):
            before, after = (plan(LENGTHS, mix, 560, 7, step, ranks, (1.0, 0.01)) for mix in (MIX, ones))
            assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert plan(LENGTHS, ones, 560, 7, 1000)[0].tolist() == GOLDEN_PLAN


def test_an_epoch_shows_a_sample_as_often_as_it_repeats() -> None:
    repeats = (0, 2, 3) + (1,) * 55 + (4, 1)
    size = sum(repeats)
    mix = Mix((IMAGES,), (1.0,), (repeats,))
    for epoch in range(3):
        rows = np.concatenate(
            [plan(LENGTHS, mix, 28, seed=3, step=s)[0] for s in range(epoch * size, (epoch + 1) * size)]
        )
        assert np.bincount(rows, minlength=60).tolist() == list(repeats)


def test_copies_of_a_sample_lie_apart() -> None:
    """Once in each n-th of an epoch: chance alone would put two of them into one step far more often."""
    mix = Mix((IMAGES,), (1.0,), ((4,) * 60,))
    steps = [plan(LENGTHS, mix, 28 * 12, seed=3, step=s)[0] for s in range(200)]
    met = sum(len(rows) - len(set(rows.tolist())) for rows in steps)
    thrown = np.random.default_rng(0)
    chance = sum(12 - len(set(thrown.choice(np.repeat(np.arange(60), 4), 12, replace=False))) for _ in range(200))
    assert met < chance / 4, (met, chance)


def test_repeats_weigh_in_the_budget_of_tokens() -> None:
    """Long samples that come more often leave room for fewer samples a step."""
    lengths = np.array([100, 10])
    assert samples_per_step(lengths, Mix(((0, 1),), (1.0,)), 550) == [10]
    assert samples_per_step(lengths, Mix(((0, 1),), (1.0,), ((9, 1),)), 910) == [10]


def test_repeats_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 rows need as many repeats"):
        Mix(((0, 1),), (1.0,), ((1,),))
    with pytest.raises(ValueError, match="no samples"):
        Mix(((0, 1),), (1.0,), ((0, 0),))

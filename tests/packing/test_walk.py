"""Which samples a step shows: a pure function of (index, seed, step), whoever computes it."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goku_core.packing import Mix, philox, plan, rows_of_step, uniform
from goku_core.packing.walk import samples_per_step

IMAGES, CLIPS = tuple(range(60)), tuple(range(60, 80))
LENGTHS = np.array([28] * 60 + [140] * 20)
MIX = Mix((IMAGES, CLIPS), (0.75, 0.25))
GOLDEN_NOISE = [-0.9418007731437683, -0.037931766360998154]
GOLDEN_PLAN = [5, 7, 21, 23, 29, 51, 52, 56, 75, 78]
# Of 40 steps of uneven lengths and repeats, as the planner made them when there was one pack a step.
GOLDEN_WALK = "2567351cc11fbc6bdbe38f3d40df0a02641e07f5c7f3c384de303b2210e68dcb"


def all_rows(*args: object, **kwargs: object) -> np.ndarray:
    """Everything a step shows."""
    return np.concatenate([rows for own in plan(*args, **kwargs) for rows in own])


def test_an_epoch_shows_every_sample_once() -> None:
    mix = Mix((IMAGES,), (1.0,))
    seen = np.concatenate([all_rows(LENGTHS, mix, 28 * 10, seed=3, step=s) for s in range(6)])
    assert sorted(seen) == list(IMAGES)
    again = np.concatenate([all_rows(LENGTHS, mix, 28 * 10, seed=3, step=s) for s in range(6, 12)])
    assert sorted(again) == list(IMAGES)
    assert list(again) != list(seen)


def test_mix_and_budget() -> None:
    assert samples_per_step(LENGTHS, MIX, 1120) == [15, 5]
    ((rows,),) = plan(LENGTHS, MIX, 1120, seed=0, step=4)
    assert LENGTHS[rows].sum() == 15 * 28 + 5 * 140
    assert list(LENGTHS[rows]) == sorted(LENGTHS[rows])


def test_the_mean_length_is_that_of_the_lengths_given() -> None:
    """It is kept per array of lengths: another array, another mean."""
    long = LENGTHS * 2
    assert samples_per_step(LENGTHS, MIX, 1120) == [15, 5]
    assert samples_per_step(long, MIX, 2240) == [15, 5] and samples_per_step(long, MIX, 1120) == [8, 2]
    assert samples_per_step(LENGTHS, MIX, 1120) == [15, 5]


def test_a_wanted_kind_without_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        Mix((IMAGES, ()), (1.0, 0.5))


def test_draws_do_not_depend_on_order() -> None:
    """Golden values: a change of the draws would silently change every run."""
    assert uniform(1, "time", "abc", 7) == uniform(1, "time", "abc", 7)
    assert len({uniform(s, p, k, n) for s in (0, 1) for p in "ab" for k in "xy" for n in (0, 1)}) == 16
    assert philox(0, "noise", "clip", 3).standard_normal(2, dtype="f4") == pytest.approx(GOLDEN_NOISE, abs=1e-7)


def test_the_walk_is_the_one_it_always_was() -> None:
    """Golden: another walk would silently change every run, and break those that are resumed."""
    lengths = np.random.default_rng(1).integers(16, 900, 500)
    repeats = np.random.default_rng(2).integers(0, 4, 500)
    mix = Mix((range(400), range(400, 500)), (0.9, 0.1), (repeats[:400], repeats[400:]))
    digest = hashlib.sha256()
    for step in (*range(39), 100_000):
        digest.update(all_rows(lengths, mix, 9000, 11, step).astype("<i8").tobytes())
    assert digest.hexdigest() == GOLDEN_WALK


def test_a_plan_without_repeats_is_the_same_to_the_bit() -> None:
    """Golden rows from before there were repeats; and all of them 1 is as if there were none."""
    ones = Mix(MIX.rows, MIX.shares, ((1,) * 60, (1,) * 20))
    for step in (0, 5, 1000):
        before, after = (rows_of_step(LENGTHS, mix, 560, 7, step) for mix in (MIX, ones))
        assert np.array_equal(before, after)
    assert all_rows(LENGTHS, ones, 560, 7, 1000).tolist() == GOLDEN_PLAN


def test_an_epoch_shows_a_sample_as_often_as_it_repeats() -> None:
    repeats = (0, 2, 3) + (1,) * 55 + (4, 1)
    size = sum(repeats)
    mix = Mix((IMAGES,), (1.0,), (repeats,))
    for epoch in range(3):
        rows = np.concatenate(
            [all_rows(LENGTHS, mix, 28, seed=3, step=s) for s in range(epoch * size, (epoch + 1) * size)]
        )
        assert np.bincount(rows, minlength=60).tolist() == list(repeats)


@settings(max_examples=30, deadline=None)
@given(
    repeats=st.lists(st.integers(0, 3), min_size=4, max_size=30).filter(any),
    count=st.integers(1, 90),
    seed=st.integers(0, 99),
)
def test_whole_epochs_are_complete_whatever_a_step_takes(repeats: list[int], count: int, seed: int) -> None:
    """Steps longer than an epoch, or laid across its end, lose nothing and show nothing twice."""
    mix = Mix((range(len(repeats)),), (1.0,), (repeats,))
    lengths = np.full(len(repeats), 10)
    walked = np.concatenate([rows_of_step(lengths, mix, 10 * count, seed, step) for step in range(3)])
    epochs = [walked[begin : begin + sum(repeats)] for begin in range(0, len(walked) - sum(repeats) + 1, sum(repeats))]
    assert all(np.bincount(epoch, minlength=len(repeats)).tolist() == repeats for epoch in epochs)


def test_copies_of_a_sample_lie_apart() -> None:
    """Once in each n-th of an epoch: chance alone would put two of them into one step far more often."""
    mix = Mix((IMAGES,), (1.0,), ((4,) * 60,))
    steps = [all_rows(LENGTHS, mix, 28 * 12, seed=3, step=s) for s in range(200)]
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

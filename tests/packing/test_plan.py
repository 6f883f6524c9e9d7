"""Who computes what: every sample once, no pack too large, no group waiting long for another."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goku_core.packing import Mix, Packs, arrange, balance, plan

COST = (1.0, 1 / 12544)  # the 2b network by its FLOP, in units of a token's matrix products


class Step(NamedTuple):
    lengths: np.ndarray
    rows: np.ndarray
    groups: int
    cost: tuple[float, float]
    most: int

    def shared(self, rounds: str, most: int | None) -> Packs:
        return arrange(self.lengths, self.rows, self.groups, self.cost, most, rounds)


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """A few hundred samples of an index, some twice, their lengths drawn from a few or from many values."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    most = draw(st.sampled_from([64, 1000, 4096]))
    values = rng.integers(1, most + 1, draw(st.sampled_from([1, 3, 400])))
    skew = draw(st.sampled_from([1.0, 8.0]))  # above 1 most samples are short
    index = draw(st.integers(1, 600))
    lengths = np.maximum(1, values[rng.integers(0, len(values), index)] * rng.random(index) ** (skew - 1)).astype(
        np.int64
    )
    rows = rng.integers(0, index, draw(st.integers(1, 900)))
    cost = draw(st.sampled_from([(1.0, 0.0), (1.0, 0.01), (0.0, 1.0), (3e-9, 1.7e-13)]))
    return Step(lengths, rows, draw(st.sampled_from([1, 2, 3, 8, 32])), cost, most)


def every_row(packs: Packs) -> list[int]:
    return sorted(np.concatenate([rows for own in packs for rows in own]).tolist())


def loads(packs: Packs, step: Step) -> np.ndarray:
    """Cost of each group, by plain arithmetic."""
    a, b = step.cost
    return np.array([sum(a * n + b * n * n for rows in own for n in step.lengths[rows].tolist()) for own in packs])


@settings(max_examples=150, deadline=None)
@given(step=steps(), rounds=st.sampled_from(["free", "equal"]), limited=st.booleans())
def test_every_sample_once_and_no_pack_above_its_limit(step: Step, rounds: str, limited: bool) -> None:
    packs = step.shared(rounds, step.most if limited else None)
    assert len(packs) == step.groups
    assert every_row(packs) == sorted(step.rows.tolist())
    assert all(own for own in packs), (
        "a group has a pack, if an empty one, so that it takes part in what ranks exchange"
    )
    if limited:
        assert max(int(step.lengths[rows].sum()) for own in packs for rows in own) <= step.most
    else:
        assert all(len(own) == 1 for own in packs)
    if rounds == "equal":
        assert len({len(own) for own in packs}) == 1
    for own in packs:
        for rows in own:
            order = list(zip(step.lengths[rows].tolist(), rows.tolist(), strict=True))
            assert order == sorted(order)


@settings(max_examples=80, deadline=None)
@given(step=steps())
def test_no_group_is_more_than_a_sample_above_the_mean(step: Step) -> None:
    packs = step.shared("free", step.most)
    load = loads(packs, step)
    a, b = step.cost
    dearest = max(a * n + b * n * n for n in step.lengths[step.rows].tolist())
    assert load.max() <= (load.mean() + dearest) * (1 + 1e-6)


@settings(max_examples=80, deadline=None)
@given(step=steps())
def test_few_packs(step: Step) -> None:
    """Two packs of a group always hold more than one could."""
    for own in step.shared("free", step.most):
        held = [int(step.lengths[rows].sum()) for rows in own]
        assert all(one + other > step.most for one, other in itertools.pairwise(held))


@settings(max_examples=60, deadline=None)
@given(step=steps(), shuffle=st.randoms(use_true_random=False))
def test_the_order_in_which_samples_are_named_does_not_matter(step: Step, shuffle) -> None:
    """Ranks that hold the same rows make the same plan."""
    other = step.rows.tolist()
    shuffle.shuffle(other)
    for rounds in ("free", "equal"):
        one = step.shared(rounds, step.most)
        two = step._replace(rows=np.array(other)).shared(rounds, step.most)
        assert [[rows.tolist() for rows in own] for own in one] == [[rows.tolist() for rows in own] for own in two]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), step=st.integers(0, 10_000), groups=st.sampled_from([1, 2, 4, 8]))
def test_the_samples_of_a_step_depend_on_no_arrangement(seed: int, step: int, groups: int) -> None:
    lengths = np.array([28] * 60 + [140] * 20)
    mix = Mix((range(60), range(60, 80)), (0.75, 0.25))
    together = every_row(plan(lengths, mix, 1120 * 8, seed, step))
    for cost, most, rounds in (((1.0, 0.0), None, "free"), ((1.0, 0.3), 300, "free"), ((0.2, 0.1), 400, "equal")):
        assert every_row(plan(lengths, mix, 1120 * 8, seed, step, groups, cost, most, rounds)) == together


def mixed_step(groups: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of pictures from 256 px to 720p and clips of 2 to 10 s up to 720p, 110 samples per group."""
    rng = np.random.default_rng(seed)
    pictures = rng.choice([256, 576, 1620, 3600], groups * 88, p=[0.5, 0.25, 0.15, 0.1])
    frame = rng.choice([576, 1620, 3600], groups * 22, p=[0.6, 0.3, 0.1])
    clips = frame * rng.integers(13, 62, groups * 22)
    lengths = np.concatenate((pictures, clips))
    return lengths, rng.permutation(len(lengths))


@pytest.mark.parametrize("groups", [8, 64, 256])
def test_a_large_step_of_pictures_and_clips_is_balanced(groups: int) -> None:
    lengths, rows = mixed_step(groups)
    packs = arrange(lengths, rows, groups, COST, 262_144)
    found = balance(packs, lengths, COST)
    load = np.array([sum(n + COST[1] * n * n for rows in own for n in lengths[rows].tolist()) for own in packs])
    assert found.imbalance == pytest.approx(load.max() / load.mean() - 1, rel=1e-9)
    assert found.imbalance < 0.01 and found.padding == 0 and found.tokens == lengths.sum()
    by_tokens = balance(arrange(lengths, rows, groups, (1.0, 0.0), 262_144), lengths, COST)
    assert by_tokens.imbalance > found.imbalance, "equal tokens are not equal work"


def test_rounds_are_balanced_where_samples_allow_it() -> None:
    """Pictures and short clips: every round costs all groups about the same."""
    rng = np.random.default_rng(3)
    lengths = np.concatenate((rng.choice([256, 576, 1620], 6000), 576 * rng.integers(3, 14, 600)))
    packs = arrange(lengths, np.arange(6600), 32, COST, 32_768, "equal")
    found = balance(packs, lengths, COST, "equal")
    costs = np.array(
        [[(n + COST[1] * n * n).sum() for n in (lengths[rows].astype(float) for rows in own)] for own in packs]
    )
    assert found.imbalance == pytest.approx(costs.max(axis=0).sum() / costs.mean(axis=0).sum() - 1, rel=1e-9)
    assert found.imbalance < 0.05
    assert found.packs <= 1.5 * lengths.sum() / (32 * 32_768)


def test_dear_samples_meet_dear_ones_in_a_round() -> None:
    """Four long clips and four groups: one round waits for them, not four."""
    lengths = np.array([1000] * 4 + [100] * 40)
    packs = arrange(lengths, np.arange(44), 4, (1.0, 0.01), 1000, "equal")
    longest = [max(int(lengths[own[place]].max(initial=0)) for own in packs) for place in range(len(packs[0]))]
    assert longest.count(1000) == 1
    assert balance(packs, lengths, (1.0, 0.01), "equal").imbalance < 1e-9


def test_fewer_samples_than_groups_leave_empty_packs() -> None:
    lengths = np.array([5, 9])
    for rounds in ("free", "equal"):
        packs = arrange(lengths, np.arange(2), 4, (1.0, 0.0), 10, rounds)
        assert sorted(len(rows) for own in packs for rows in own) == [0, 0, 1, 1]


def test_padding_is_what_alignment_adds() -> None:
    lengths = np.array([100, 30, 28])
    packs = [[np.array([0])], [np.array([1, 2])]]
    assert balance(packs, lengths, (1.0, 0.0), align=64).padding == pytest.approx(1 - 158 / 192)
    assert balance(packs, lengths, (1.0, 0.0)).padding == 0


def test_a_sample_that_no_pack_holds_is_named() -> None:
    lengths = np.array([10, 70, 20])
    for rounds in ("free", "equal"):
        with pytest.raises(ValueError, match=r"row 1 has 70 tokens, a pack holds pack_tokens = 64\. Raise pack_tokens"):
            arrange(lengths, np.arange(3), 2, (1.0, 0.0), 64, rounds)


def test_a_cost_below_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="neither part may be below 0"):
        arrange(np.array([10]), np.arange(1), 2, (1.0, -0.1))

"""Inception Score, precision and recall, KID: against loops over the definitions."""

from __future__ import annotations

import numpy as np
import pytest

from goku_core.evaluate.frechet.inception_score import class_probabilities, inception_score
from goku_core.evaluate.frechet.kernel import kernel_distance, squared_discrepancy
from goku_core.evaluate.frechet.manifold import precision_recall
from goku_core.pipeline.errors import GokuError


def odds(count: int, classes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(classes, 0.2), size=count)


def by_definition(part: np.ndarray) -> float:
    marginal = part.mean(axis=0)
    return float(
        np.exp(np.mean([sum(p * np.log(p / q) for p, q in zip(row, marginal, strict=True) if p) for row in part]))
    )


def test_inception_score_of_known_predictions():
    assert inception_score(np.full((20, 5), 0.2), "adm").mean == pytest.approx(1.0)
    assert inception_score(np.tile(np.eye(8), (30, 1)), "adm").mean == pytest.approx(8.0)  # p log p of 0 is 0, not NaN


def test_adm_splits_every_5000_in_the_order_given():
    rows = odds(12_000, 3, 0)
    found = inception_score(rows, "adm")
    expected = [by_definition(rows[start : start + 5000]) for start in (0, 5000, 10_000)]
    assert found.mean == pytest.approx(np.mean(expected), rel=1e-12)
    assert (found.splits, found.deviation) == (3, pytest.approx(np.std(expected), rel=1e-9))


@pytest.mark.parametrize(("splitting", "seed"), [("torch-fidelity", 2020), ("stylegan-v", 42)])
def test_shuffled_splits_are_those_of_the_official_codes(splitting, seed):
    rows = odds(103, 4, 1)
    shuffled = rows.copy()
    np.random.RandomState(seed).shuffle(shuffled)
    expected = [by_definition(shuffled[i * 103 // 10 : (i + 1) * 103 // 10]) for i in range(10)]
    found = inception_score(rows, splitting)
    assert (found.mean, found.deviation) == (pytest.approx(np.mean(expected)), pytest.approx(np.std(expected)))


def test_what_are_no_probabilities_has_no_score():
    with pytest.raises(GokuError, match="no probabilities"):
        inception_score(np.ones((4, 3)), "adm")
    with pytest.raises(GokuError, match="10 splits"):
        inception_score(np.full((4, 2), 0.5), "stylegan-v")


def test_class_probabilities_are_the_softmax_without_bias():
    rng = np.random.default_rng(2)
    features, weight = rng.normal(size=(6, 9)) * 40, rng.normal(size=(5, 9))
    for row, found in zip(features, class_probabilities(features, weight), strict=True):
        logits = [float(row @ line) for line in weight]
        terms = [np.exp(value - max(logits)) for value in logits]
        np.testing.assert_allclose(found, np.array(terms) / sum(terms), atol=1e-12)


def clouds(seed: int, width: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(60, width)).astype(np.float32), (rng.normal(size=(45, width)) * 0.6 + 0.5).astype(
        np.float32
    )


def looped(reference: np.ndarray, samples: np.ndarray, apart) -> tuple[float, float]:
    """Share of samples within the 3-neighbour ball of a reference, and the other way round; pair by pair."""

    def inside(balls: np.ndarray, points: np.ndarray) -> float:
        reach = [sorted(apart(one, other) for other in balls)[3] for one in balls]
        return float(
            np.mean([any(apart(point, one) <= r for one, r in zip(balls, reach, strict=True)) for point in points])
        )

    return inside(reference, samples), inside(samples, reference)


@pytest.mark.parametrize("seed", range(3))
def test_precision_and_recall_by_definition(seed):
    reference, samples = clouds(seed)

    def apart(a, b):
        return float(((a.astype(np.float64) - b.astype(np.float64)) ** 2).sum())

    found = precision_recall(reference, samples)
    assert (found.precision, found.recall) == looped(reference, samples, apart)
    assert 0 < found.recall < found.precision <= 1  # the narrow cloud lies inside the wide one


def test_a_set_covers_itself_also_where_pictures_are_copies():
    rows = np.repeat(clouds(4, width=64)[0] + 8, 5, axis=0)
    found = precision_recall(rows, rows.copy())
    assert (found.precision, found.recall) == (1.0, 1.0)


def test_official_distances_are_rounded_to_half_precision():
    # Squared lengths near 600: neighbours of half precision are 0.5 apart, so near neighbours fall together.
    rng = np.random.default_rng(5)
    reference, samples = (rng.normal(size=(40, 6)) * 0.08 + 10 for _ in range(2))

    def half(a, b):
        a, b = a.astype(np.float16), b.astype(np.float16)
        one, two = (np.float16((v * v).astype(np.float32).sum()) for v in (a, b))
        product = np.float16((a.astype(np.float32) * b.astype(np.float32)).sum(dtype=np.float32))
        return max(np.float16(np.float16(one - np.float16(2) * product) + two), np.float16(0))

    found = precision_recall(reference, samples, mode="official")
    assert (found.precision, found.recall) == looped(reference, samples, half)
    assert found != precision_recall(reference, samples)


def test_official_distances_that_overflow_are_taken_in_single_precision():
    reference, samples = (rows * 200 for rows in clouds(6))  # squared lengths beyond 65504
    assert precision_recall(reference, samples, mode="official") == precision_recall(reference, samples)


def test_kernel_distance_by_definition():
    first, second = (rows[:12] for rows in clouds(7))

    def kernel(a, b):
        return (float(a.astype(np.float64) @ b) / 5 + 1) ** 3

    pairs = [(i, j) for i in range(12) for j in range(12)]
    within = sum(kernel(s[i], s[j]) for s in (first, second) for i, j in pairs if i != j) / (12 * 11)
    between = sum(kernel(first[i], second[j]) for i, j in pairs) / 144
    assert squared_discrepancy(first, second) == pytest.approx(within - 2 * between, rel=1e-9)


def test_kernel_distance_is_about_zero_for_one_distribution_and_not_for_two():
    rng = np.random.default_rng(8)
    one, same, other = rng.normal(size=(400, 6)), rng.normal(size=(400, 6)), rng.normal(size=(400, 6)) + 1
    near, far = (kernel_distance(one, rows, subsets=20, size=200) for rows in (same, other))
    assert abs(near.mean) < 3 * near.deviation < far.mean
    with pytest.raises(GokuError, match="subsets of 1000"):
        kernel_distance(one, same)

"""Frechet distances, the store of features, and what numbers refuse to be compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from goku_core.evaluate.frechet.flavours import FLAVOURS, Measurement, Setting, difference, flavour_named
from goku_core.evaluate.frechet.members import members, npz_rows
from goku_core.evaluate.frechet.moments import Moments, frechet_distance, moments
from goku_core.evaluate.frechet.reference import holds_pictures, published
from goku_core.evaluate.frechet.store import FeatureStore
from goku_core.pipeline.errors import GokuError


def drawn(count: int, width: int, seed: int, scale: float = 1.0) -> np.ndarray:
    """Correlated features of unequal variances, float32, with the positive mean that pooled ReLU features have."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(width, width)) * np.geomspace(1, 0.05, width)[:, None]
    return np.abs(rng.normal(size=(count, width)) @ mixing * scale + 0.4).astype(np.float32)


def textbook(first: np.ndarray, second: np.ndarray) -> float:
    """The formula of the paper over numpy's own mean and covariance, the trace from the eigenvalues of the product."""
    first, second = first.astype(np.float64), second.astype(np.float64)
    apart = first.mean(axis=0) - second.mean(axis=0)
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(one @ two).real.clip(min=0)).sum()
    return float(apart @ apart + np.trace(one) + np.trace(two) - 2 * roots)


@pytest.mark.parametrize("width", [3, 24, 97])
def test_distance_equals_the_textbook_formula(width):
    first, second = drawn(5 * width, width, 1), drawn(4 * width, width, 2, scale=1.3)
    assert frechet_distance(moments(first), moments(second)) == pytest.approx(textbook(first, second), abs=1e-6)


def test_moments_equal_numpys_beyond_one_chunk():
    rows = drawn(9000, 5, 3)
    found = moments(rows)
    np.testing.assert_allclose(found.mean, rows.astype(np.float64).mean(axis=0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(rows.astype(np.float64), rowvar=False), rtol=0, atol=1e-12)
    assert found.count == 9000


def test_gaussians_with_diagonal_covariances_have_a_closed_form():
    rng = np.random.default_rng(4)
    means, deviations = rng.normal(size=(2, 40)), rng.uniform(0, 2, size=(2, 40))
    expected = ((means[0] - means[1]) ** 2 + (deviations[0] - deviations[1]) ** 2).sum()
    pair = [Moments(m, np.diag(d**2)) for m, d in zip(means, deviations, strict=True)]
    assert frechet_distance(*pair) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("count", "width"), [(400, 64), (40, 300), (2, 50)])
def test_identical_sets_have_distance_zero_also_with_fewer_samples_than_features(count, width):
    rows = drawn(count, width, 5)
    again = rows[np.random.default_rng(0).permutation(count)]
    assert abs(frechet_distance(moments(rows), moments(again))) < 1e-6


def test_singular_covariances_of_two_sets():
    # The 24 eigenvalues other than 0 of C1 C2 are those of the small matrix A B^T B A^T of the centred features A and B;
    # the root of a rounding error in the place of a 0 would be seen in the sixth decimal.
    first, second = drawn(30, 200, 6), drawn(25, 200, 7)
    a, b = (rows.astype(np.float64) - rows.astype(np.float64).mean(axis=0) for rows in (first, second))
    gram = (a @ b.T) @ (a @ b.T).T / (29 * 24)
    roots = np.sqrt(np.linalg.eigvalsh(gram)[-24:]).sum()
    apart = first.astype(np.float64).mean(axis=0) - second.astype(np.float64).mean(axis=0)
    expected = apart @ apart + (a**2).sum() / 29 + (b**2).sum() / 24 - 2 * roots
    assert frechet_distance(moments(first), moments(second)) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.1, 10), st.integers(2, 30))
def test_distance_ignores_rotation_and_grows_with_the_square_of_scale(seed, scale, count):
    first, second = drawn(count, 6, seed).astype(np.float64), drawn(20, 6, seed + 1).astype(np.float64)
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(6, 6)))
    plain = frechet_distance(moments(first), moments(second))
    turned = frechet_distance(moments(first @ turn * scale), moments(second @ turn * scale))
    assert turned == pytest.approx(plain * scale**2, rel=1e-7, abs=1e-9)
    assert frechet_distance(moments(second), moments(first)) == pytest.approx(plain, rel=1e-9, abs=1e-9)


def test_what_is_no_covariance_gives_no_distance():
    broken = Moments(np.zeros(3), np.diag([1.0, 1.0, -0.5]))
    with pytest.raises(GokuError, match="negative"):
        frechet_distance(broken, broken)
    with pytest.raises(GokuError, match="different networks"):
        frechet_distance(broken, Moments(np.zeros(2), np.eye(2)))
    with pytest.raises(GokuError, match="NaN"):
        Moments(np.zeros(1), np.full((1, 1), np.nan))
    with pytest.raises(GokuError, match="two samples"):
        moments(np.zeros((1, 4), np.float32))


def filled(folder, rows: np.ndarray, workers: int, seed: int) -> FeatureStore:
    """The store that so many workers leave, each with a share of the files in an order of its own."""
    order = np.random.default_rng(seed).permutation(len(rows))
    for share in np.array_split(order, workers):
        store = FeatureStore(folder, "network-a")
        for part in np.array_split(share, 3):
            store.append([f"s-{i:04d}" for i in part], [f"digest-{i}" for i in part], {"pool": rows[part]})
    return FeatureStore(folder, "network-a")


def test_workers_and_order_of_files_leave_the_statistics_bit_equal(tmp_path):
    rows = drawn(120, 8, 8)
    wanted = [(f"s-{i:04d}", f"digest-{i}") for i in range(120)]
    found = [
        moments(
            filled(tmp_path / str(n), rows, n, seed=n)
            .read(np.random.default_rng(n).permutation(wanted))
            .vectors["pool"]
        )
        for n in (1, 2, 4)
    ]
    assert {m.digest for m in found} == {moments(rows).digest}


def test_store_says_what_is_missing_and_what_contradicts(tmp_path):
    rows = drawn(4, 3, 9)
    store = filled(tmp_path, rows, 1, seed=0)
    assert store.known() == {(f"s-{i:04d}", f"digest-{i}") for i in range(4)}
    with pytest.raises(GokuError, match="1 of 2 samples are missing, the first is s-0009"):
        store.read([("s-0001", "digest-1"), ("s-0009", "digest-9")])
    with pytest.raises(GokuError, match="s-0001"):
        store.read([("s-0001", "another file of that name")])
    assert FeatureStore(tmp_path, "network-b").known() == set()
    (tmp_path / "part-killed.draft").write_bytes(b"half of a file")
    store.append(["s-0001"], ["digest-1"], {"pool": rows[1:2]})  # said again after a kill: the same, so harmless
    np.testing.assert_array_equal(store.read([("s-0001", "digest-1")]).vectors["pool"], rows[1:2])
    store.append(["s-0001"], ["digest-1"], {"pool": rows[2:3]})
    with pytest.raises(GokuError, match="s-0001 by one network differ"):
        store.read([("s-0001", "digest-1")])
    with pytest.raises(GokuError, match="sample s-0007 hold NaN"):
        store.append(["s-0006", "s-0007"], ["", ""], {"pool": np.array([[0.0], [np.nan]])})


def setting(**other) -> Setting:
    plain = Setting("adm", "inception-1", "corrected", "bilinear", False, "none", 0, 0, 0.0, 5000, "abc", 10_000)
    return replace(plain, **other)


@pytest.mark.parametrize(
    "other",
    [
        {"flavour": "torch-fidelity"},
        {"network": "inception-2"},
        {"mode": "official"},
        {"antialias": True},
        {"frames": 128},
        {"stride": 8},
        {"fps": 8.0},
        {"samples": 4999},
        {"reference": "abd"},
    ],
)
def test_numbers_of_different_settings_refuse_to_be_compared(other):
    with pytest.raises(GokuError, match=next(iter(other))):
        difference(Measurement("fid", 3.0, setting()), Measurement("fid", 2.0, setting(**other)))


def test_numbers_of_one_setting_are_compared_after_a_trip_through_json():
    first = Measurement("fid", 3.0, setting())
    assert difference(Measurement.from_json(first.as_json()), Measurement("fid", 2.0, setting())) == 1.0
    with pytest.raises(GokuError, match="different measures"):
        difference(first, Measurement("sfid", 2.0, setting()))


def test_every_flavour_of_clips_says_frames_and_every_unknown_one_is_refused():
    for flavour in FLAVOURS.values():
        assert (flavour.frames > 0) == (flavour.network != "inception")
        assert flavour_named(flavour.name, flavour.network) is flavour
    with pytest.raises(GokuError, match="stylegan-v, svd"):
        flavour_named("adm", "i3d")


def test_adms_reference_batch_is_read_without_unpickling(tmp_path):
    rng = np.random.default_rng(10)
    stored = {"mu": rng.normal(size=4), "sigma": np.eye(4), "mu_s": np.ones(3), "sigma_s": 2 * np.eye(3)}
    pictures = rng.integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
    np.savez(tmp_path / "reference.npz", arr_0=pictures, **stored)
    np.savez_compressed(tmp_path / "compressed.npz", arr_0=pictures)
    statistics = published(tmp_path / "reference.npz")
    np.testing.assert_array_equal(statistics["pool"].mean, stored["mu"])
    np.testing.assert_array_equal(statistics["spatial"].covariance, stored["sigma_s"])
    assert holds_pictures(tmp_path / "reference.npz")
    assert published(tmp_path / "compressed.npz") == {}
    for name in ("reference.npz", "compressed.npz"):
        np.testing.assert_array_equal(npz_rows(tmp_path / name, 0), pictures)
        assert [m.sample_id for m in members(tmp_path / name, clips=False)] == [f"{i:08d}" for i in range(5)]
    np.savez(tmp_path / "pickled.npz", mu=np.array([{"code": 1}], dtype=object), sigma=np.eye(1))
    with pytest.raises(GokuError, match="plain arrays"):
        published(tmp_path / "pickled.npz")
    (tmp_path / "torn.npz").write_bytes((tmp_path / "reference.npz").read_bytes()[:300])
    with pytest.raises(GokuError, match="cannot be read"):
        published(tmp_path / "torn.npz")

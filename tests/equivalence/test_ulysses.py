"""A pack with its tokens on several ranks gives what it gives on one: values and gradients, in float64 to 1e-10."""

from pathlib import Path

import pytest
import torch
from ranks import on_ranks
from safetensors.torch import load_file
from spread_packs import CASES, Case, network, on_each_rank, pack, results

from goku_core.models.attention.ulysses import shares

NAMES = list(CASES)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("ranks")
    on_ranks(on_each_rank, max(case.ranks for case in CASES.values()), place)
    return place


def by_rank(folder: Path, name: str) -> list[dict[str, torch.Tensor]]:
    number, case = NAMES.index(name), CASES[name]
    return [load_file(folder / f"{number}-{rank}.safetensors") for rank in range(case.ranks)]


def assert_equal(ours: torch.Tensor, theirs: torch.Tensor, what: str) -> None:
    assert ours.shape == theirs.shape, what
    assert (ours - theirs).abs().max() <= 1e-10 * (1 + theirs.abs().max()), what


@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_are_those_of_one_process(folder: Path, name: str) -> None:
    """Gradients of weights are sums over ranks, neither counted twice nor divided by the ranks (VeOmni#338, #1115)."""
    spread, alone = by_rank(folder, name), results(network(CASES[name]), pack(CASES[name]))
    for key in ("velocity", "by input"):
        assert_equal(torch.cat([one[key] for one in spread]), alone[key], key)
    for key in alone.keys() - {"velocity", "by input"}:
        assert_equal(sum(one[key] for one in spread), alone[key], key)


def test_slices_and_heads_are_uneven(folder: Path) -> None:
    """What the cases are for: nothing divides, and some ranks have no heads or no tokens."""
    assert shares(28, 8) == [4, 4, 4, 4, 3, 3, 3, 3] and shares(2, 4) == [1, 1, 0, 0]
    lengths = [len(one["velocity"]) for one in by_rank(folder, "28 heads on 8")]
    assert sum(lengths) == 55 and set(lengths) == {6, 7}
    assert [len(one["velocity"]) for one in by_rank(folder, NAMES[7])] == [1] * 5 + [0] * 3


@pytest.mark.parametrize("mode", ["selective", "full"])
@pytest.mark.parametrize("name", ["28 heads on 8", "4 heads on 3"])
def test_recomputed_equals_stored(folder: Path, name: str, mode: str) -> None:
    """To the bit, also where an exchange is kept or done again (Automodel#2389)."""
    for stored, recomputed in zip(by_rank(folder, name), by_rank(folder, f"{name}, {mode}"), strict=True):
        assert all(torch.equal(stored[key], recomputed[key]) for key in stored)


def test_norms_of_q_and_k_have_their_gradients(folder: Path) -> None:
    """Norm, rotation and exchange must be undone in the opposite order: their weights alone show it (VeOmni#419)."""
    name = "28 heads on 8"
    spread, alone = by_rank(folder, name), results(network(CASES[name]), pack(CASES[name]))
    for norm in ("q_norm", "k_norm"):
        keys = [key for key in alone if f"self_attention.{norm}" in key]
        assert len(keys) == 2
        for key in keys:
            assert alone[key].abs().max() > 1e-3
            assert_equal(sum(one[key] for one in spread), alone[key], key)


def test_every_rank_sees_the_whole_sample() -> None:
    """The comparison can fail: a rank that attended to its own slice alone would give other values."""
    case = Case(3, 2, ((3, 3, 3),))
    whole = pack(case)
    alone = results(network(case), whole)["velocity"]
    from types import SimpleNamespace

    from goku_core.train.parallel.slices import sliced

    half = sliced(whole, SimpleNamespace(first=0, tokens=[14, 13], rank=0))
    assert (results(network(case), half)["velocity"] - alone[:14]).abs().max() > 1e-3

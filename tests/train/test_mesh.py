"""The arrangement of ranks: what the parameters mean, and that a network that does not follow them is refused."""

import json
import re

import pytest
from broken_meshes import CONFIG, on_each_rank
from ranks import on_ranks

from goku_core.models import Goku
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.identity import identity
from goku_core.train.parallel.mesh import alone
from goku_core.train.parallel.prepare import prepare
from goku_core.train.parallel.request import Parallel


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    folder = tmp_path_factory.mktemp("ranks")
    on_ranks(on_each_rank, 2, folder)
    return [json.loads((folder / f"said-{rank}.json").read_text()) for rank in range(2)]


def sizes(**parallel: object) -> tuple[int, int, int]:
    return tuple(Parallel(**parallel).sizes())


def test_the_default_shards_and_never_copies_to_each_rank() -> None:
    """FastVideo#612: a default that replicated took all memory of eight GPUs, and no setting hinted at it."""
    assert sizes() == (1, 1, 1)
    assert sizes(ranks_per_node=8) == (1, 8, 1)
    assert sizes(ranks_per_node=8, sequence=2) == (1, 4, 2)
    assert sizes(ranks_per_node=8, sequence=8) == (1, 1, 8)
    # Over several machines: a copy per machine, sharded within it.
    assert sizes(nodes=16, ranks_per_node=8) == (16, 8, 1)
    assert sizes(nodes=16, ranks_per_node=8, sequence=4) == (16, 2, 4)
    assert sizes(nodes=4, ranks_per_node=8, shard=32) == (1, 32, 1)
    assert sizes(nodes=2, ranks_per_node=8, sequence=16) == (1, 1, 16)


@pytest.mark.parametrize("wrong", [{"ranks_per_node": 8, "sequence": 3}, {"ranks_per_node": 4, "shard": 3}])
def test_ranks_must_fill_the_mesh(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="no multiple of shard"):
        Parallel(**wrong)


def test_only_precision_is_part_of_what_is_trained() -> None:
    assert identity(Parallel(nodes=4, ranks_per_node=8, compile=True, recomputation="full")) == {"precision": "float32"}


def test_memory_of_a_rank_is_said_and_halves_with_two_shards(said: list[dict[str, str]]) -> None:
    shards, copies = said[0]["memory_is_said"].splitlines()
    assert shards.startswith("2 ranks: one copy of the weights, each over 2, 1 on a pack; ")
    assert copies.startswith("2 ranks: 2 copies of the weights, each over 1, 1 on a pack; ")
    sharded, copied = (float(re.search(r"([\d.e-]+) GB", line).group(1)) for line in (shards, copies))
    # Weights, average and two moments are shared out; gathered weights and gradients are whole in both.
    assert sharded / copied == pytest.approx((4 / 2 + 2) / 6, rel=0.02)


def test_a_sound_mesh_is_accepted(said: list[dict[str, str]]) -> None:
    assert [one["healthy"] for one in said] == ["healthy"] * 2


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("never_sharded", "is held plainly by each rank: its gradients would not meet"),
        ("one_block_forgotten", "blocks.1.*is held plainly by each rank"),
        ("other_mesh", "lies as .* not as"),
        ("drifted", "copies of the weights have drifted apart: ranks 1 differ"),
        ("other_seeds", "ranks 1 start from other weights than rank 0"),
    ],
)
def test_a_network_that_is_not_spread_as_asked_is_refused(said: list[dict[str, str]], case: str, message: str) -> None:
    """cosmos-predict2.5#143: sharding over one rank wrapped nothing, ranks trained networks of their own, nobody noticed."""
    for one in said:
        assert re.search(f"GokuError: .*{message}", one[case]), one[case]


def test_gradients_of_copies_meet(said: list[dict[str, str]]) -> None:
    """VeOmni#1115: gradients were never synchronised, and no error said so."""
    assert [one["gradients_meet"] for one in said] == ["met"] * 2


def test_rank_0_shares_its_weights_out(said: list[dict[str, str]]) -> None:
    assert [one["weights_of_the_first"] for one in said] == ["equal"] * 2


def test_other_ranks_never_hold_a_whole_network(said: list[dict[str, str]]) -> None:
    """Half of the network and half of its average make one size of it; what is on its way is one tensor."""
    peak, size = map(int, said[1]["memory_of_the_second"].split(" of "))
    assert size > 80 and peak < 1.6 * size


def test_what_the_compiler_breaks_is_refused_before_any_step() -> None:
    asked = Parallel(compile=True, recomputation="selective", device="cpu")
    with pytest.raises(GokuError, match="Set recomputation to none or full"):
        prepare(Goku(CONFIG), Goku(CONFIG), alone(asked), asked)

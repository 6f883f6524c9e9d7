"""One test, at least, for each silent or painful bug that users of other training systems have reported in public.

The comparisons live where their subject is tested; here is the list, and proof that each of them is there and runs in every
`make test`. What has no better place is tested below.
"""

import ast
from pathlib import Path

import pytest
import torch
from latent_workspace import make_workspace, request

from goku_core.models import Goku, GokuConfig
from goku_core.models.patches import grid_coords
from goku_core.models.recomputation import check_kept, counted, keep_dear
from goku_core.models.text import WordEncoder
from goku_core.shards import ShardReader
from goku_core.train.data import Packer
from goku_core.train.data.pack import weightless
from goku_core.train.parallel.mesh import alone
from goku_core.train.parallel.request import Parallel
from goku_core.train.step import pack_loss

TESTS = Path(__file__).resolve().parents[1]
HERE = "equivalence/test_public_bugs.py"
COMPILED, ULYSSES, RANKS = (f"equivalence/test_{name}.py" for name in ("compiled", "ulysses", "ranks"))
# number: (report, what went wrong there, tests here)
BUGS = {
    1: (
        "NVIDIA-NeMo/Automodel#2389",
        "a counter shared by forward pass and recomputation: gradients silently wrong",
        [
            (COMPILED, "test_recomputed_equals_stored_and_recomputes_what_it_says"),
            (ULYSSES, "test_recomputed_equals_stored"),
            (HERE, "test_what_is_kept_is_decided_by_the_operator_alone"),
        ],
    ),
    2: (
        "NVIDIA-NeMo/Automodel#3157",
        "three mistakes in the backward pass of context parallelism",
        [(ULYSSES, "test_values_and_gradients_are_those_of_one_process")],
    ),
    3: (
        "ByteDance-Seed/VeOmni#1115",
        "gradients of sequence-parallel ranks were never synchronised",
        [
            ("train/test_mesh.py", "test_gradients_of_copies_meet"),
            (RANKS, "test_weights_average_and_losses_are_those_of_one_rank"),
        ],
    ),
    4: (
        "nvidia-cosmos/cosmos-predict2.5#143",
        "a shard size of 1 wrapped nothing: ranks trained networks of their own",
        [("train/test_mesh.py", "test_a_network_that_is_not_spread_as_asked_is_refused")],
    ),
    5: (
        "ByteDance-Seed/VeOmni#419",
        "the backward pass of the norm of k came in the wrong order",
        [(ULYSSES, "test_norms_of_q_and_k_have_their_gradients")],
    ),
    6: (
        "pytorch/torchtitan#1213, #4088",
        "a resumed run was another run",
        [("faults/test_kill_training.py", "test_killed_runs_end_as_the_unbroken_one")],
    ),
    7: (
        "pytorch/torchtitan#811, #816",
        "the loader's position was lost with another number of ranks",
        [(RANKS, "test_samples_noise_and_times_are_the_same_to_the_bit")],
    ),
    8: (
        "hao-ai-lab/FastVideo#168",
        "the mask of padding was never used: the network trained on padding",
        [(HERE, "test_every_token_of_a_pack_is_a_sample_s"), (HERE, "test_a_weightless_pack_trains_nothing")],
    ),
    9: (
        "hao-ai-lab/FastVideo#917, #1040, #1266",
        "samples of different lengths could not be trained together",
        [("equivalence/test_packing.py", "test_gradients_of_a_pack_are_the_sum_of_single_gradients")],
    ),
    10: (
        "pytorch/pytorch#174704",
        "every new length was compiled anew, for hours",
        [(COMPILED, "test_compiled_equals_eager_and_is_compiled_once")],
    ),
    11: (
        "hpcaitech/Open-Sora#635, #676, #637, #815",
        "the state of buckets broke a resumed run, a changed setting ended it without a word",
        [
            ("train/test_position.py", "test_skipped_data_steps_are_never_used_and_nothing_else_is_lost"),
            ("train/test_phases.py", "test_what_is_missing_is_named"),
        ],
    ),
    12: (
        "hao-ai-lab/FastVideo#612",
        "the default mesh copied the weights to every GPU, and nothing said so",
        [
            ("train/test_mesh.py", "test_the_default_shards_and_never_copies_to_each_rank"),
            ("train/test_mesh.py", "test_memory_of_a_rank_is_said_and_halves_with_two_shards"),
        ],
    ),
    13: (
        "meta-pytorch/torchft#329, pytorch/torchtitan#2899",
        "a fault cost a quarter of an hour, and how time-outs nest was nowhere written",
        [("faults/test_launcher.py", "test_a_killed_rank_then_a_hang_then_sigterm")],
    ),
    14: (
        "hao-ai-lab/FastVideo#1718",
        "compiled code had wrong gradients for the modulation",
        [
            (COMPILED, "test_compiled_equals_eager_and_is_compiled_once"),
            (HERE, "test_gradients_of_the_modulation_survive_compilation"),
        ],
    ),
}


@pytest.mark.parametrize("number", BUGS)
def test_each_has_a_test_that_runs(number: int) -> None:
    for file, name in BUGS[number][2]:
        functions = {n.name: n for n in ast.parse((TESTS / file).read_text()).body if isinstance(n, ast.FunctionDef)}
        assert name in functions, f"{file} has no {name}"
        marks = " ".join(ast.unparse(mark) for mark in functions[name].decorator_list)
        assert "slow" not in marks and "skip" not in marks and "xfail" not in marks


CONFIG = GokuConfig(depth=2, width=32, heads=2, ffn=64, latent_channels=2, text_width=8)


def model(**settings: str) -> Goku:
    """Every weight random: at the zero gates of a fresh network most gradients are 0, right or wrong."""
    torch.manual_seed(0)
    network = Goku(CONFIG, **settings)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    return network


def inputs() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    coords = torch.cat([grid_coords((1, 2, 2)), grid_coords((2, 2, 2))])
    bounds = torch.tensor([0, 4, 12], dtype=torch.int32)
    tokens, text = torch.randn(12, 8, generator=generator), torch.randn(5, 8, generator=generator)
    return tokens, coords, bounds, torch.tensor([0.2, 0.7]), text, torch.tensor([0, 2, 5], dtype=torch.int32)


def test_what_is_kept_is_decided_by_the_operator_alone() -> None:
    """Asked twice, or in another order, or while something counts, the policy answers the same."""
    from types import SimpleNamespace

    operators = [torch.ops.aten.mm.default, torch.ops.aten.mul.Tensor, torch.ops.aten.addmm.default]
    context = SimpleNamespace(is_recompute=False)
    first = [keep_dear(context, operator) for operator in operators]
    with counted() as tally:
        again = [keep_dear(context, operator) for operator in (*operators, *reversed(operators))]
    assert again == first + first[::-1] and len({*first}) == 2
    assert tally.seen == {"product": 4, "cheap": 2}


def test_selective_recomputation_is_seen_to_keep_what_it_says() -> None:
    """cosmos found that its list of names matched nothing on Hopper: here the first step of a run counts."""
    network = model(recomputation="selective")
    with counted() as tally:
        network(*inputs()).sum().backward()
    check_kept(tally, CONFIG.depth, text=True)
    with pytest.raises(RuntimeError, match="does not know the kernels"), counted() as nothing:
        model(recomputation="full")(*inputs()).sum().backward()
        check_kept(nothing, CONFIG.depth, text=True)
    tally.seen["attention"] = 1
    with pytest.raises(RuntimeError, match="1 attention"):
        check_kept(tally, CONFIG.depth, text=True)


def test_every_token_of_a_pack_is_a_sample_s(tmp_path: Path) -> None:
    """There is no padding to be masked: tokens, weights and bounds of a pack are those of its samples and no more."""
    asked = request("second", tokens=96)
    reader = ShardReader(make_workspace(tmp_path / "line") / "data/latents/low")
    packer = Packer(reader, asked.phases["second"], asked, WordEncoder(16, 16), seed=5)
    for step in range(5):
        packs = packer.packs(step)
        for pack in packs:
            own = set(map(tuple, torch.cat([reader_tokens(reader, row) for row in range(24)]).tolist()))
            assert all(tuple(token) in own for token in pack.data.tolist())
            assert len(pack.data) == int(pack.cu_seqlens[-1]) and (pack.cu_seqlens.diff() > 0).all()
            assert (pack.weight > 0).all() and len(pack.text) == int(pack.text_cu_seqlens[-1])
        assert sum(pack.weight.sum().item() for pack in packs) == pytest.approx(1, abs=1e-5)


def reader_tokens(reader: ShardReader, row: int) -> torch.Tensor:
    from goku_core.models.patches import to_tokens

    return to_tokens(torch.from_numpy(reader.latent(row)), (1, 2, 2))


def test_a_weightless_pack_trains_nothing() -> None:
    """What a rank computes to keep pace with the others has a loss and gradients of exactly 0."""
    network = model()
    nothing = weightless(CONFIG.token_width, torch.zeros(1, CONFIG.text_width), CONFIG.image_condition)
    loss = pack_loss(network, nothing, alone(Parallel(device="cpu")))
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and p.grad.count_nonzero() == 0 for p in network.parameters())


def test_gradients_of_the_modulation_survive_compilation() -> None:
    torch._dynamo.reset()
    eager, compiled = model(), model()
    compiled.compile_blocks(backend="aot_eager")
    for network in (eager, compiled):
        network(*inputs()).square().sum().backward()
    for mine, other in zip(compiled.blocks, eager.blocks, strict=True):
        for ours, theirs in zip(mine.modulation.parameters(), other.modulation.parameters(), strict=True):
            assert theirs.grad.abs().max() > 1e-3
            assert (ours.grad - theirs.grad).abs().max() <= 1e-5 * (1 + theirs.grad.abs().max())

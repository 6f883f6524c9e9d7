"""What the forecast says of a network against what torch counts, keeps and the paper names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from goku_core.forecast import memory, network
from goku_core.forecast.arrangement import Arrangement
from goku_core.models import CONFIGS, Goku, GokuConfig

# Wide enough that a value per token or head does not count, small enough for milliseconds.
SHAPE = GokuConfig(depth=3, width=128, heads=2, ffn=512, latent_channels=16, text_width=64)
SAMPLES, LENGTH, TEXT = 2, 96, 12


def inputs(config: GokuConfig, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(SAMPLES * LENGTH, config.token_width, generator=generator).to(dtype)
    place = torch.arange(SAMPLES * LENGTH)
    coords = torch.stack([place % LENGTH // 16, place % 4, place % 4], 1)
    return {
        "tokens": tokens,
        "coords": coords,
        "cu_seqlens": torch.arange(SAMPLES + 1, dtype=torch.int32) * LENGTH,
        "time": torch.rand(SAMPLES, generator=generator),
        "text": torch.randn(SAMPLES * TEXT, config.text_width, generator=generator).to(dtype),
        "text_cu_seqlens": torch.arange(SAMPLES + 1, dtype=torch.int32) * TEXT,
    }


def test_parameters_are_those_of_the_paper() -> None:
    """20 d^2 + 4096 d per layer reproduce the names 2B and 8B (text of Flan-T5-XL)."""
    from latent_workspace import request

    for name, layers, width, billions in (("2b", 28, 1792, 2.0), ("8b", 40, 3072, 8.0)):
        counted = network.count(CONFIGS[name], request("first").model_copy(update={"optimizer": "adamw"}), [])
        blocks = layers * (20 * width**2 + 4096 * width)
        assert blocks < counted.total < 1.02 * blocks
        assert counted.total / 1e9 == pytest.approx(billions, rel=0.02)
        assert counted.trained == counted.total and counted.moments == 2 * counted.total


def test_a_frozen_part_and_muon_need_fewer_moments() -> None:
    from latent_workspace import request

    asked = request("first").model_copy(update={"optimizer": "adamw"})
    plain, frozen = network.count(SHAPE, asked, []), network.count(SHAPE, asked, ["blocks.*"])
    assert frozen.total == plain.total and frozen.trained < 0.5 * plain.trained
    muon = network.count(SHAPE, asked.model_copy(update={"optimizer": "muon"}), [])
    assert plain.trained < muon.moments < plain.moments


def test_operations_are_those_that_torch_counts() -> None:
    model = Goku(SHAPE)
    counter = FlopCounterMode(display=False)
    # The counter knows attention as two products, not as the CPU's own kernel.
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        model(**inputs(SHAPE))
    work = network.operations(SHAPE, SAMPLES * LENGTH, SAMPLES * LENGTH**2, TEXT, SAMPLES)
    # The time layers are left out: they see one row per sample.
    assert work.matmul + work.attention == pytest.approx(counter.get_total_flops(), rel=0.03)


def saved_bytes(model: Goku, given: dict[str, torch.Tensor]) -> int:
    """Of all storages that autograd saves in a forward pass, parameters and inputs left out."""
    own = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *given.values())}
    sizes: dict[int, int] = {}
    held: list[torch.Tensor] = []  # else an address could be given to another

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model(**given)
    assert out.requires_grad
    return sum(sizes.values())


@pytest.mark.parametrize("qk_norm", [True, False])
def test_saved_tensors_of_a_block(qk_norm: bool) -> None:
    """Bytes that autograd keeps grow with the depth as the formula says: the difference of two depths is that of whole blocks."""
    totals = {}
    for depth in (1, 3):
        config = replace(SHAPE, depth=depth, qk_norm=qk_norm)
        totals[depth] = saved_bytes(Goku(config).to(torch.bfloat16), inputs(config, torch.bfloat16))
    per_block = (totals[3] - totals[1]) / 2
    config = replace(SHAPE, qk_norm=qk_norm)
    told = network.kept_of_block(config, "none", SAMPLES * LENGTH, SAMPLES * TEXT)
    assert told == pytest.approx(per_block, rel=0.01)


def retained(model: Goku, given: dict[str, torch.Tensor]) -> int:
    """Bytes that are still held behind a forward pass whose backward pass is to come."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        out = model(**given)
    assert record.profiler is not None and record.profiler.kineto_results is not None
    del out
    return sum(event.nbytes() for event in record.profiler.kineto_results.events() if event.name() == "[memory]")


@pytest.mark.parametrize("policy", ["none", "selective", "full"])
def test_memory_held_by_each_policy(policy: network.Recomputation) -> None:
    totals = {}
    for depth in (1, 5):
        config = replace(SHAPE, depth=depth)
        model = Goku(config, recomputation=policy).to(torch.bfloat16)
        given = inputs(config, torch.bfloat16)
        retained(model, given)  # tables of rotary embedding are made once
        totals[depth] = retained(model, given)
    per_block = (totals[5] - totals[1]) / 4
    told = network.kept_of_block(SHAPE, policy, SAMPLES * LENGTH, SAMPLES * TEXT)
    assert told == pytest.approx(per_block, rel=0.03)


def test_memory_of_a_gpu_adds_up() -> None:
    """2b on one GPU: 16 bytes a parameter of float32 state and gradients, and EMA beside."""
    counted = network.Parameters(total=1000, trained=1000, one_moment=0, largest_block=10)
    alone = Arrangement(1, 1, 1, "after_step", "full", None)
    needs = memory.of(SHAPE, counted, alone, pack=0, text_tokens=0)
    assert (needs.weights, needs.average, needs.moments, needs.gradients) == (4000, 4000, 8000, 4000)
    spread = memory.of(SHAPE, counted, Arrangement(16, 4, 2, "after_block", "full", None), pack=0, text_tokens=0)
    assert spread.state == needs.state / 8 and spread.gradients == 500
    once = memory.of(SHAPE, counted, Arrangement(16, 4, 2, "after_step", "full", None), pack=0, text_tokens=0)
    assert once.gradients == 4000 and once.gathered == 2000

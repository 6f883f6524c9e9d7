"""Held-out samples are never trained on, and their loss is a fixed figure of the weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from latent_workspace import make_workspace, request, train

from goku_core.models import Goku, GokuConfig
from goku_core.models.text import WordEncoder
from goku_core.pipeline.errors import GokuError
from goku_core.shards import ShardReader
from goku_core.train.data import Loader, Packer
from goku_core.train.held_out import Validation, held_out
from goku_core.train.parallel.mesh import alone
from goku_core.train.parallel.request import Parallel
from goku_core.train.request import TrainRequest
from goku_core.train.validation import Validator, chosen_rows, split, validation_loss
from goku_core.transport import RectifiedFlow

SHARE = 0.3
MESH = alone(Parallel())


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workspace(tmp_path_factory.mktemp("line"))


def asked(phase: str = "second", **settings: object) -> TrainRequest:
    return request(phase).model_copy(update={"validation": Validation(**{"share": SHARE, **settings})})


def packer_of(workspace: Path, wanted: TrainRequest) -> Packer:
    (phase,) = wanted.phases.values()
    return Packer(ShardReader(workspace / "data/latents/low"), phase, wanted, WordEncoder(16, 16), seed=5)


def test_the_rule_is_of_the_name_alone_and_nested() -> None:
    names = [f"clip-{n}" for n in range(5000)]
    small, large = held_out(names, 0.1), held_out(names, 0.3)
    assert small.mean() == pytest.approx(0.1, abs=0.02) and large.mean() == pytest.approx(0.3, abs=0.03)
    assert not (small & ~large).any()
    assert np.array_equal(held_out(names[::-1], 0.1)[::-1], small)
    assert not held_out(names, 0.0).any()
    # Golden: another rule would let a phase train on what the phase before held out.
    assert [n for n, out in zip(names[:40], held_out(names[:40], 0.1), strict=True) if out] == GOLDEN


GOLDEN = ["clip-3", "clip-5", "clip-8", "clip-33"]


def test_no_held_out_sample_is_ever_trained_on(workspace: Path) -> None:
    packer = packer_of(workspace, asked())
    out = held_out(packer.reader.index["clip_id"], SHARE)
    assert 0 < out.sum() < len(out)
    walked = {int(row) for walk in packer.mix.walks for row in walk.rows}
    assert walked == set(np.flatnonzero(~out))
    assert set(chosen_rows(packer, packer.phase, asked())) <= set(np.flatnonzero(out))
    everything = packer_of(workspace, asked(share=0.0))
    assert {int(row) for walk in everything.mix.walks for row in walk.rows} == set(range(len(out)))


def test_the_loss_is_the_mean_over_samples_one_by_one_and_does_not_depend_on_the_packing(workspace: Path) -> None:
    wanted = asked()
    (phase,) = wanted.phases.values()
    packer = packer_of(workspace, wanted)
    torch.manual_seed(1)
    model = Goku(GokuConfig(depth=1, width=32, heads=2, ffn=64, latent_channels=4, text_width=16))
    torch.nn.init.normal_(model.final.weight, std=0.1)
    whole = Validator(phase, wanted, Loader(packer), MESH)
    cut = Validator(phase.model_copy(update={"pack_tokens": 16}), wanted, Loader(packer), MESH)
    assert len(cut.packs) > len(whole.packs) == 1
    loss = validation_loss(model, whole.packs, MESH)
    assert loss == validation_loss(model, whole.packs, MESH)
    assert loss == pytest.approx(validation_loss(model, cut.packs, MESH), rel=1e-5)
    each = []
    for row in chosen_rows(packer, phase, wanted):
        quiet = packer_of(workspace, wanted.model_copy(update={"text_dropout": 0.0}))
        one = quiet.pack(np.array([row]), -1, 1)
        with torch.no_grad():
            velocity = model(one.noised, one.coords, one.cu_seqlens, one.time, one.text, one.text_cu_seqlens)
        each.append(RectifiedFlow().loss_per_token(velocity, one.noise, one.data).mean().item())
    assert loss == pytest.approx(np.mean(each), rel=1e-5)


def test_validation_in_a_run(workspace: Path, tmp_path: Path) -> None:
    """It is there at its steps, the same in a run that was cut and resumed, and training itself is as without it."""
    settings = {"share": SHARE, "every": 5, "samples": 8}
    (tmp_path / "a/scratch").mkdir(parents=True)
    from goku_core.pipeline.context import Context, SilentTracker
    from goku_core.train.stage import run

    wanted = request("first", steps=12).model_copy(update={"validation": Validation(**settings)})
    tracker = SilentTracker()
    report = run(
        wanted, Context(workspace, tmp_path / "a/out", tmp_path / "a/scratch", seed=5, tracker=tracker, cores=1)
    )
    losses = {step: found["validation_loss"] for step, found in tracker.metrics if "validation_loss" in found}
    assert list(losses) == [5, 10, 12] and losses[12] == report.validation_loss
    assert all(np.isfinite(list(losses.values())))
    plain = train(workspace, "first", tmp_path / "b")
    assert plain.validation_loss is None


def test_nothing_held_out_is_an_error(workspace: Path) -> None:
    wanted = asked(share=1e-9)
    (phase,) = wanted.phases.values()
    with pytest.raises(GokuError, match=r"holds out none of the \d+ pictures"):
        Validator(phase, wanted, Loader(packer_of(workspace, wanted)), MESH)


def test_groups_share_the_samples_in_equal_rounds() -> None:
    lengths = np.array([100, 4, 4, 60, 4, 30, 4, 4])
    rounds = split(np.arange(8), lengths, 64, groups=3)
    assert {len(turn) for turn in rounds} == {3}
    assert sorted(np.concatenate([pack for turn in rounds for pack in turn])) == list(range(8))
    assert all(len(pack) <= 1 or lengths[pack].sum() <= 64 for turn in rounds for pack in turn)

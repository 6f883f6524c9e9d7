"""What a phase freezes stays as it is to the bit, costs no optimizer state, and all else learns."""

import shutil
from pathlib import Path

import pytest
import torch
from latent_workspace import make_workspace, request, train
from safetensors.torch import load_file

from goku_core.models import Goku, GokuConfig
from goku_core.pipeline.errors import GokuError
from goku_core.train.freezing import freeze
from goku_core.train.optimizers import make_optimizers

SMALL = GokuConfig(depth=2, width=32, heads=2, ffn=64, latent_channels=4, text_width=16)


def test_frozen_parameters_do_not_move_and_others_do(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "line")
    train(workspace, "first", tmp_path / "first")
    shutil.copytree(tmp_path / "first/out/models/first", workspace / "models/first")
    before = load_file(workspace / "models/first/training.safetensors")
    train(
        workspace,
        "second",
        tmp_path / "second",
        freeze=["blocks.*.self_attention", "blocks.1.feed_forward.fc?", "embed"],
    )
    after = load_file(tmp_path / "second/out/models/second/training.safetensors")
    parts = ("self_attention.", "blocks.1.feed_forward.", "embed.")
    for name, value in before.items():
        frozen = any(part in name for part in parts[:2]) or name.startswith(parts[2])
        assert torch.equal(value, after[name]) == frozen, name


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_frozen_parameters_have_no_gradient_and_no_optimizer_state(optimizer: str) -> None:
    model = Goku(SMALL)
    frozen = freeze(model, ["blocks.0"])
    assert frozen == [name for name, _ in model.named_parameters() if name.startswith("blocks.0.")] != []
    asked = request("first").model_copy(update={"optimizer": optimizer})
    groups = [group for o in make_optimizers(model, asked).values() for group in o.param_groups]
    held = {id(p) for group in groups for p in group["params"]}
    named = dict(model.named_parameters())
    assert held == {id(p) for name, p in named.items() if not name.startswith("blocks.0.")}
    tokens, text = torch.randn(8, SMALL.token_width), torch.randn(3, 16)
    bounds = torch.tensor([0, 8], dtype=torch.int32), torch.tensor([0, 3], dtype=torch.int32)
    torch.nn.init.normal_(model.final.weight)
    coords = torch.zeros(8, 3, dtype=torch.long)
    model(tokens, coords, bounds[0], torch.tensor([0.3]), text, bounds[1]).square().sum().backward()
    assert {name for name, p in named.items() if p.grad is None} == set(frozen)


def test_a_pattern_that_names_nothing_is_an_error() -> None:
    with pytest.raises(
        GokuError, match=r'"blocks.0.self_atention" names no module.*Did you mean blocks.0.self_attention'
    ):
        freeze(Goku(SMALL), ["blocks.0.self_atention"])
    with pytest.raises(GokuError, match='"embed_condition" names no module'):
        freeze(Goku(SMALL), ["embed_condition"])  # this network has no image condition
    with pytest.raises(GokuError, match="nothing is left to train"):
        freeze(Goku(SMALL), ["*"])

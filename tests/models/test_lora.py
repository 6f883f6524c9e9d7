"""LoRA: starts as nothing, trains alone, travels as safetensors, and merges into the same function."""

import json
from pathlib import Path

import pytest
import torch

from goku_core.models import Goku, GokuConfig
from goku_core.models.lora import add_lora, load_lora, merge_lora, save_lora
from goku_core.models.patches import grid_coords

pytest.importorskip("peft", reason="the extra `lora` is not installed")

CONFIG = GokuConfig(depth=2, width=32, heads=2, ffn=64, latent_channels=2, text_width=8)


def model(seed: int = 0) -> Goku:
    torch.manual_seed(seed)
    network = Goku(CONFIG)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    return network


def velocity(network: Goku) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    coords = grid_coords((1, 3, 4))
    bounds = torch.tensor([0, 12], dtype=torch.int32)
    tokens = torch.randn(12, CONFIG.token_width, generator=generator)
    text = torch.randn(3, CONFIG.text_width, generator=generator)
    return network(tokens, coords, bounds, torch.tensor([0.3]), text, torch.tensor([0, 3], dtype=torch.int32))


def trained(network: Goku) -> None:
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        (velocity(network) - 1).square().mean().backward()
        optimizer.step()


def test_an_adapter_starts_as_nothing_and_trains_alone() -> None:
    network, plain = model(), model()
    add_lora(network, rank=4)
    assert torch.equal(velocity(network), velocity(plain))
    trainable = {n for n, p in network.named_parameters() if p.requires_grad}
    # 2 blocks x 5 projections x (A and B)
    assert len(trainable) == 20 and all("lora_" in name for name in trainable)
    before = {n: p.clone() for n, p in network.named_parameters() if not p.requires_grad}
    trained(network)
    assert all(torch.equal(p, before[n]) for n, p in network.named_parameters() if n in before)
    assert (velocity(network) - velocity(plain)).abs().max() > 1e-3


def test_saved_loaded_and_merged_it_is_the_same_function(tmp_path: Path) -> None:
    network = model()
    add_lora(network, rank=2, alpha=4.0, targets=("self_attention.qkv", "feed_forward.fc1"))
    trained(network)
    save_lora(network, tmp_path / "adapter")
    assert {f.name for f in (tmp_path / "adapter").iterdir()} == {"adapter.safetensors", "adapter.json"}
    loaded = model()
    load_lora(loaded, tmp_path / "adapter")
    assert torch.equal(velocity(loaded), velocity(network))
    merge_lora(loaded)
    assert (velocity(loaded) - velocity(network)).abs().max() < 1e-4
    assert loaded.state_dict().keys() == model().state_dict().keys()


def test_what_does_not_fit_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"LoRA targets modulation: known are self_attention\.qkv"):
        add_lora(model(), rank=4, targets=("modulation",))
    with pytest.raises(ValueError, match="no LoRA adapter"):
        save_lora(model(), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"adapter\.json is missing"):
        load_lora(model(), tmp_path)
    network = model()
    add_lora(network, rank=4)
    save_lora(network, tmp_path)
    described = json.loads((tmp_path / "adapter.json").read_text()) | {"rank": 8}
    (tmp_path / "adapter.json").write_text(json.dumps(described))
    with pytest.raises(ValueError, match="does not fit this model"):
        load_lora(model(), tmp_path)

"""Options that ablations need leave the network as it was by default, and do what they say."""

from dataclasses import replace

import pytest
import torch

from goku_core.models import Goku, GokuConfig

PLAIN = GokuConfig(depth=2, width=32, heads=2, ffn=64, latent_channels=4, text_width=16)


def run(config: GokuConfig, coords: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(0)
    model = Goku(config).double()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and not module.weight.any():
            torch.nn.init.normal_(module.weight, std=0.1)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(6, config.token_width, generator=generator, dtype=torch.float64)
    text = torch.randn(3, 16, generator=generator, dtype=torch.float64)
    bounds = torch.tensor([0, 6], dtype=torch.int32), torch.tensor([0, 3], dtype=torch.int32)
    with torch.no_grad():
        return model(tokens, coords, bounds[0], torch.tensor([0.4], dtype=torch.float64), text, bounds[1])


COORDS = torch.tensor([[t, r, c] for t in range(1) for r in range(2) for c in range(3)])


def test_old_descriptions_and_weights_mean_what_they_meant() -> None:
    old = {k: v for k, v in PLAIN.to_json().items() if k not in ("position", "qk_norm")}
    assert GokuConfig.from_json(old) == PLAIN
    names = set(Goku(PLAIN).state_dict())
    assert "blocks.0.self_attention.q_norm.weight" in names and not any("position" in name for name in names)
    assert set(Goku(replace(PLAIN, position="sinusoidal")).state_dict()) == names
    gone = names - set(Goku(replace(PLAIN, qk_norm=False)).state_dict())
    assert gone == {
        f"blocks.{i}.{kind}_attention.{x}_norm.weight" for i in range(2) for kind in ("self", "cross") for x in "qk"
    }


def test_both_positions_tell_places_apart_and_only_rope_is_blind_to_a_shift() -> None:
    """Rotation depends on differences of places alone within a sample; text has no place, so cross-attention is left out here."""
    without_text = replace(PLAIN, text_width=0, classes=2)

    def velocity(position: str, coords: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        model = Goku(replace(without_text, position=position)).double()
        for module in model.modules():
            if isinstance(module, torch.nn.Linear) and not module.weight.any():
                torch.nn.init.normal_(module.weight, std=0.1)
        tokens = torch.randn(6, PLAIN.token_width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        bounds, time = torch.tensor([0, 6], dtype=torch.int32), torch.tensor([0.4], dtype=torch.float64)
        with torch.no_grad():
            return model(tokens, coords, bounds, time, label=torch.tensor([1]))

    for position in ("rope", "sinusoidal"):
        here, elsewhere = velocity(position, COORDS), velocity(position, COORDS.flip(0))
        assert (here - elsewhere).abs().max() > 1e-4
    rope = velocity("rope", COORDS) - velocity("rope", COORDS + torch.tensor([2, 5, 7]))
    added = velocity("sinusoidal", COORDS) - velocity("sinusoidal", COORDS + torch.tensor([2, 5, 7]))
    assert rope.abs().max() < 1e-5 < 1e-3 < added.abs().max()


def test_the_norm_bounds_what_attention_sees() -> None:
    """Keys and queries a thousand times larger change nothing behind the norm, and everything without it."""

    def change(qk_norm: bool) -> float:
        torch.manual_seed(0)
        model = Goku(replace(PLAIN, qk_norm=qk_norm)).double()
        for module in model.modules():
            if isinstance(module, torch.nn.Linear) and not module.weight.any():
                torch.nn.init.normal_(module.weight, std=0.1)
        generator = torch.Generator().manual_seed(1)
        tokens = torch.randn(6, PLAIN.token_width, generator=generator, dtype=torch.float64)
        text = torch.randn(3, 16, generator=generator, dtype=torch.float64)
        bounds = torch.tensor([0, 6], dtype=torch.int32), torch.tensor([0, 3], dtype=torch.int32)
        given = (tokens, COORDS, bounds[0], torch.tensor([0.4], dtype=torch.float64), text, bounds[1])
        with torch.no_grad():
            before = model(*given)
            for block in model.blocks:
                block.self_attention.qkv.weight[: 2 * PLAIN.width] *= 1000
            return (model(*given) - before).abs().max().item()

    assert 50 * change(True) < change(False)


def test_an_unknown_position_is_refused() -> None:
    with pytest.raises(ValueError, match="rope or sinusoidal"):
        replace(PLAIN, position="learned")
    assert run(PLAIN, COORDS).shape == (6, PLAIN.token_width)

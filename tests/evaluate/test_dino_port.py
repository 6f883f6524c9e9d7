"""DINO: the published names, transformers' own network on the same weights, the stretched positions by sums over taps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny_judges import TINY_DINO, random_dino
from tiny_scorers import formula_pair, formula_tensors

from goku_core.evaluate.networks.dino import Dino, load_dino
from goku_core.pipeline.errors import GokuError


def published(width: int, depth: int, patch: int, grid: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of dino_vitbase16_pretrain.pth: vit_base of facebookresearch/dino without a head."""
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, grid * grid + 1, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    layers = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    layers |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    for block in range(depth):
        for norm in ("norm1", "norm2"):
            shapes |= {f"blocks.{block}.{norm}.{part}": (width,) for part in ("weight", "bias")}
        for layer, shape in layers.items():
            shapes |= {f"blocks.{block}.{layer}.weight": shape, f"blocks.{block}.{layer}.bias": shape[:1]}
    return shapes


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = Dino()
    expected = published(768, 12, 16, 14)
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == expected
    assert sum(np.prod(shape) for shape in expected.values()) == 85_798_656  # ViT-B/16 without its head


def cubic(distance: float) -> float:
    a, d = -0.75, abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


@pytest.mark.parametrize("height, width", [(224, 398), (398, 224), (224, 224 + 16), (100, 64)])
def test_positions_of_other_shapes_look_where_the_tenth_makes_them_look(height, width) -> None:
    """facebookresearch/dino#8: the factors are (n + 0.1)/14, and the patch i looks at (i + 0.5)/factor - 0.5."""
    network = random_dino()
    rows, columns = height // 16, width // 16
    found = network.positions(height, width)
    assert found.shape == (1, 1 + rows * columns, 128) and torch.equal(found[:, 0], network.pos_embed[:, 0])
    square = network.pos_embed[0, 1:].reshape(14, 14, 128).double().numpy()
    for i, j in [(0, 0), (rows - 1, columns - 1), (rows // 2, columns // 3)]:
        y, x = (i + 0.5) * 14 / (rows + 0.1) - 0.5, (j + 0.5) * 14 / (columns + 0.1) - 0.5
        expected = np.zeros(128)
        for r in range(int(np.floor(y)) - 1, int(np.floor(y)) + 3):
            for c in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
                expected += cubic(y - r) * cubic(x - c) * square[min(max(r, 0), 13), min(max(c, 0), 13)]
        assert found[0, 1 + i * columns + j].numpy() == pytest.approx(expected, abs=1e-4)


def test_positions_of_training_pictures_are_untouched() -> None:
    network = random_dino()
    assert network.positions(224, 224) is network.pos_embed


def test_a_square_picture_gives_what_transformers_gives_on_the_same_folder(tmp_path) -> None:
    from transformers import ViTConfig, ViTModel

    torch.manual_seed(1)
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 2}
    theirs = ViTModel(ViTConfig(**sizes, layer_norm_eps=1e-6)).eval()
    for tensor in theirs.parameters():
        torch.nn.init.normal_(tensor, std=0.2)
    theirs.save_pretrained(tmp_path)
    ours = load_dino(tmp_path)
    assert ours.size == TINY_DINO
    pictures = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        expected = theirs(pixel_values=pictures).last_hidden_state[:, 0]
    assert ours(pictures).numpy() == pytest.approx(expected.numpy(), abs=2e-4)


def test_features_are_those_of_the_authors_code() -> None:
    """Made once with facebookresearch/dino's own vision_transformer.py: every 16th number, tensors and picture by formula."""
    network = Dino(TINY_DINO).eval()
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    network.load_state_dict({name: tensor.float() for name, tensor in formula_tensors(shapes).items()})
    picture = torch.nn.functional.interpolate(formula_pair()[0].float(), (224, 398), mode="bilinear")
    with torch.no_grad():
        found = network(picture)[0, ::16]
    expected = [-0.12572, -0.05899, 0.06811, -0.02046, -0.12813, -0.0529, -0.08706, 0.13772]
    assert found.tolist() == pytest.approx(expected, abs=2e-5)


def test_pixels_beyond_the_last_whole_patch_are_not_seen() -> None:
    network = random_dino()
    picture = torch.randn(1, 3, 230, 398)
    assert torch.equal(network(picture), network(picture[..., :224, :384]))
    assert not torch.allclose(network(picture), network(picture.flip(-1)))


def test_the_official_file_is_read_and_another_one_refused(tmp_path) -> None:
    network = random_dino()
    torch.save(network.state_dict(), tmp_path / "dino.pth")
    picture = torch.randn(1, 3, 64, 48)
    assert torch.equal(load_dino(tmp_path / "dino.pth")(picture), network(picture))
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items() if "norm2" not in name}
    for file, held in (("less", tensors), ("other", {"weight": torch.zeros(3)})):
        save_file(held, tmp_path / f"{file}.safetensors")
        with pytest.raises(GokuError, match=f"{file}.safetensors does not hold a vision transformer of DINO"):
            load_dino(tmp_path / f"{file}.safetensors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(GokuError, match=r"no \*\.safetensors"):
        load_dino(tmp_path / "empty")

"""MUSIQ: the published names, patches and places by loops, the whole network with masked filling as its authors have it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny_judges import BLOCK, TINY_MUSIQ, musiq_shapes, random_musiq
from tiny_scorers import formula_pair, formula_tensors
from torch.nn import functional as F

from goku_core.evaluate.networks.musiq import Musiq, hashed_places, load_musiq, multiscale_patches
from goku_core.pipeline.errors import GokuError


def test_names_and_shapes_are_the_published_ones() -> None:
    with torch.device("meta"):
        network = Musiq()
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == musiq_shapes(384, 1152, 14)


def random_network(seed: int = 0) -> Musiq:
    network = Musiq(TINY_MUSIQ).eval().requires_grad_(False)
    network.load_state_dict(random_musiq(seed))
    return network


@pytest.mark.parametrize("height, width", [(64, 112), (288, 512), (200, 70)])
def test_patches_are_cut_row_by_row_from_three_sizes(height, width) -> None:
    """By slices: zeros around the picture, the odd one below and to the right."""
    pictures = torch.rand(2, 3, height, width) * 2 - 1
    patches, places, scales = multiscale_patches(pictures)
    number = 0
    for scale, side in enumerate((224, 384, max(height, width))):
        rows, columns = (round(extent * side / max(height, width)) for extent in (height, width))
        shown = pictures if scale == 2 else F.interpolate(pictures, (rows, columns), mode="bicubic")
        assert tuple(shown.shape[-2:]) == (rows, columns)
        down, right = math.ceil(rows / 32), math.ceil(columns / 32)
        canvas = torch.zeros(2, 3, down * 32, right * 32)
        top, left = (down * 32 - rows) // 2, (right * 32 - columns) // 2
        canvas[..., top : top + rows, left : left + columns] = shown
        for i in range(down):
            for j in range(right):
                expected = canvas[..., 32 * i : 32 * i + 32, 32 * j : 32 * j + 32]
                assert torch.equal(patches[:, number], expected)
                assert (places[number], scales[number]) == (10 * (i * 10 // down) + j * 10 // right, scale)
                number += 1
    assert number == patches.shape[1] == len(places) == len(scales)


def test_places_are_those_of_nearest_interpolation() -> None:
    """As the originals compute them: a row 0..9 stretched to the number of patches. VBench's frames have at most 16."""
    grid = torch.arange(10.0).view(1, 1, 10)
    for rows in range(1, 17):
        for columns in (1, 7, 12, 16):
            down, right = (F.interpolate(grid, count, mode="nearest").view(-1) for count in (rows, columns))
            expected = (down[:, None] * 10 + right).flatten().long()
            assert torch.equal(hashed_places(rows, columns), expected)


def as_its_authors_have_it(tensors: dict[str, torch.Tensor], picture: torch.Tensor) -> float:
    """The network written out, in float64, one token and one head at a time, with filling that a mask takes out again."""
    t = {name: tensor.double() for name, tensor in tensors.items()}
    patches, places, scales = multiscale_patches(picture.double() * 2 - 1)

    def conv(x: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        kernels = []
        for kernel in t[f"{name}.weight"]:
            centred = kernel - kernel.mean()
            deviation = (centred.square().sum() / (centred.numel() - 1)).sqrt()
            kernels.append(centred / (deviation + 1e-5))
        side = kernels[0].shape[-1]
        total = (math.ceil(x.shape[-1] / stride) - 1) * stride + side - x.shape[-1]
        low, high = total // 2, total - total // 2
        return F.conv2d(F.pad(x, (low, high, low, high)), torch.stack(kernels), stride=stride)

    def norm(x: torch.Tensor, name: str, eps: float) -> torch.Tensor:
        groups = x.reshape(len(x), 32, -1)
        variance = groups.var(dim=-1, correction=0, keepdim=True)
        flat = ((groups - groups.mean(-1, keepdim=True)) / (variance + eps).sqrt()).reshape(x.shape)
        return flat * t[f"{name}.weight"].view(-1, 1, 1) + t[f"{name}.bias"].view(-1, 1, 1)

    def dense(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def layer_norm(x: torch.Tensor, name: str) -> torch.Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        return centred / scale * t[f"{name}.weight"] + t[f"{name}.bias"]

    x = torch.relu(norm(conv(patches[0], "conv_root", 2), "gn_root", 1e-6))
    x = F.max_pool2d(F.pad(x, (0, 1, 0, 1)), 3, 2)
    shortcut = norm(conv(x, "block1.conv_proj"), "block1.gn_proj", 1e-4)
    for number in (1, 2):
        x = torch.relu(norm(conv(x, f"block1.conv{number}"), f"block1.gn{number}", 1e-4))
    x = torch.relu(norm(conv(x, "block1.conv3"), "block1.gn3", 1e-4) + shortcut)
    tokens = dense(torch.stack([patch.permute(1, 2, 0).flatten() for patch in x]), "embedding")
    tokens = tokens + t["transformer_encoder.posembed_input.position_emb"][0, places]
    tokens = tokens + t["transformer_encoder.scaleembed_input.scale_emb"][scales]
    tokens = torch.cat(
        [t["transformer_encoder.cls"][0], tokens, torch.randn(20, TINY_MUSIQ.width, dtype=torch.float64)]
    )
    real = torch.arange(len(tokens)) < len(tokens) - 20
    for block in range(TINY_MUSIQ.depth):
        name, heads = f"{BLOCK}_{block}", []
        inner = layer_norm(tokens, f"{name}.norm1")
        query, key, value = (dense(inner, f"{name}.attention.{part}") for part in ("query", "key", "value"))
        for head in range(TINY_MUSIQ.heads):
            part = slice(64 * head, 64 * head + 64)
            logits = query[:, part] @ key[:, part].T / 8.0
            logits = torch.where(real[:, None] & real[None], logits, torch.tensor(-1e3, dtype=torch.float64))
            heads.append(logits.softmax(dim=-1) @ value[:, part])
        tokens = tokens + dense(torch.cat(heads, dim=-1), f"{name}.attention.out")
        inner = dense(layer_norm(tokens, f"{name}.norm2"), f"{name}.mlp.fc1")
        tokens = tokens + dense(inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2))), f"{name}.mlp.fc2")
    return float(dense(layer_norm(tokens, "transformer_encoder.encoder_norm")[0], "head"))


def test_the_network_is_the_one_written_out() -> None:
    tensors, network = random_musiq(), random_network()
    picture = torch.rand(1, 3, 96, 128)
    expected = as_its_authors_have_it(tensors, picture)
    assert float(network.double()(picture.double())) == pytest.approx(expected, abs=1e-9)
    assert float(random_network()(picture)) == pytest.approx(expected, rel=1e-3)


def test_scores_are_those_of_the_code_that_vbench_runs() -> None:
    """Made once with IQA-PyTorch's own musiq_arch.py, tensors and pictures by formula."""
    network = Musiq(TINY_MUSIQ).eval()
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    network.load_state_dict({name: tensor.float() for name, tensor in formula_tensors(shapes).items()})
    with torch.no_grad():
        found = [network((picture.float() + 1) / 2).item() for picture in formula_pair()]
    assert found == pytest.approx([-0.030435, -0.028834], abs=1e-5)


def test_pictures_of_one_pass_stay_apart() -> None:
    network = random_network()
    pictures = torch.rand(2, 3, 64, 112)
    assert network(pictures)[1].item() == pytest.approx(network(pictures[1:]).item(), abs=1e-4)
    assert abs(network(pictures)[1] - network(pictures)[0]) > 1e-3


def flax_arrays(seed: int = 3) -> dict[str, np.ndarray]:
    """Arrays as Google's checkpoint names and shapes them (multiscale_transformer.py: flax's own layers, before linen)."""
    rng = np.random.default_rng(seed)
    w, inner, heads = TINY_MUSIQ.width, TINY_MUSIQ.inner, TINY_MUSIQ.heads
    shapes: dict[str, tuple[int, ...]] = {
        "conv_root/kernel": (7, 7, 3, 64),
        "block1/unit1/conv1/kernel": (1, 1, 64, 64),
        "block1/unit1/conv2/kernel": (3, 3, 64, 64),
        "block1/unit1/conv3/kernel": (1, 1, 64, 256),
        "block1/unit1/conv_proj/kernel": (1, 1, 64, 256),
        "embedding/kernel": (256 * 64, w),
        "embedding/bias": (w,),
        "head/kernel": (w, 1),
        "head/bias": (1,),
        "Transformer/cls": (1, 1, w),
        "Transformer/posembed_input/pos_embedding": (1, 100, w),
        "Transformer/scaleembed_input/scale_embedding": (1, 3, w),
    }
    norms = {"gn_root": 64} | {f"block1/unit1/gn{k}": c for k, c in (("1", 64), ("2", 64), ("3", 256), ("_proj", 256))}
    for name, channels in norms.items():
        shapes |= {f"{name}/{part}": (1, 1, 1, channels) for part in ("scale", "bias")}
    layer_norms = ["Transformer/encoder_norm"]
    for block in range(TINY_MUSIQ.depth):
        start = f"Transformer/encoderblock_{block}"
        layer_norms += [f"{start}/LayerNorm_0", f"{start}/LayerNorm_2"]
        for part in ("query", "key", "value"):
            shapes[f"{start}/MultiHeadDotProductAttention_1/{part}/kernel"] = (w, heads, 64)
            shapes[f"{start}/MultiHeadDotProductAttention_1/{part}/bias"] = (heads, 64)
        shapes[f"{start}/MultiHeadDotProductAttention_1/out/kernel"] = (heads, 64, w)
        shapes[f"{start}/MultiHeadDotProductAttention_1/out/bias"] = (w,)
        shapes |= {f"{start}/MlpBlock_3/Dense_0/kernel": (w, inner), f"{start}/MlpBlock_3/Dense_0/bias": (inner,)}
        shapes |= {f"{start}/MlpBlock_3/Dense_1/kernel": (inner, w), f"{start}/MlpBlock_3/Dense_1/bias": (w,)}
    shapes |= {f"{name}/{part}": (w,) for name in layer_norms for part in ("scale", "bias")}
    return {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}


def test_googles_file_is_the_same_network(tmp_path) -> None:
    """Every array finds its place, and the layers whose axes differ compute what flax computes with them."""
    arrays = flax_arrays()
    np.savez(
        tmp_path / "spaq_ckpt.npz",
        **{f"opt/target/{name}": values for name, values in arrays.items()},
        step=np.array(7),
    )
    network = load_musiq(tmp_path / "spaq_ckpt.npz")
    x = torch.randn(1, 5, TINY_MUSIQ.width)
    block = network.transformer_encoder.transformer["encoderblock_1"]
    start = "Transformer/encoderblock_1/MultiHeadDotProductAttention_1"
    tokens = x[0].numpy()
    query, key, value = (
        np.einsum("nd,dhk->nhk", tokens, arrays[f"{start}/{part}/kernel"]) + arrays[f"{start}/{part}/bias"]
        for part in ("query", "key", "value")
    )
    weights = torch.from_numpy(np.einsum("nhk,mhk->hnm", query, key) / 8.0).softmax(dim=-1).numpy()
    mixed = np.einsum("hnm,mhk->nhk", weights, value)
    expected = np.einsum("nhk,hkd->nd", mixed, arrays[f"{start}/out/kernel"]) + arrays[f"{start}/out/bias"]
    assert block.attention(x)[0].numpy() == pytest.approx(expected, abs=1e-4)
    picture = torch.randn(1, 3, 9, 9)
    kernel = torch.from_numpy(arrays["conv_root/kernel"]).permute(3, 2, 0, 1)
    kernel = (kernel - kernel.mean((1, 2, 3), keepdim=True)) / (kernel.std((1, 2, 3), keepdim=True) + 1e-5)
    assert network.conv_root(picture) == pytest.approx(F.conv2d(picture, kernel, stride=2, padding=3), abs=1e-5)
    assert network.head(x[0, :1]).item() == pytest.approx(
        float((tokens[0] @ arrays["head/kernel"] + arrays["head/bias"])[0]), abs=1e-4
    )
    assert torch.isfinite(network(torch.rand(1, 3, 64, 64))).all()


def test_other_files_are_refused(tmp_path) -> None:
    torch.save(random_musiq() | {"head.weight": torch.zeros(10, TINY_MUSIQ.width)}, tmp_path / "ava.pth")
    with pytest.raises(GokuError, match="does not hold MUSIQ with one score"):
        load_musiq(tmp_path / "ava.pth")
    np.savez(tmp_path / "other.npz", **{"opt/target/dense/kernel": np.zeros((3, 3))})
    with pytest.raises(GokuError, match="dense/kernel, which is no part of MUSIQ"):
        load_musiq(tmp_path / "other.npz")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(GokuError, match="cannot be read as numpy arrays"):
        load_musiq(tmp_path / "cut.npz")

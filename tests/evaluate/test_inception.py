"""The Inception of FID and the I3D of FVD: names and shapes of the published files, and their layers in plain arithmetic."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from goku_core.evaluate.networks import c3d, i3d, inception
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.tensors import adopt

# (block, inputs, [(branch, from, to, height, width)]): Szegedy et al., arXiv 1512.00567, with TensorFlow's widths of 2015.
STEM = [
    ("1a_3x3", 3, 32, 3),
    ("2a_3x3", 32, 32, 3),
    ("2b_3x3", 32, 64, 3),
    ("3b_1x1", 64, 80, 1),
    ("4a_3x3", 80, 192, 3),
]


def inception_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def unit(name: str, inputs: int, outputs: int, height: int, width: int) -> None:
        shapes[f"{name}.conv.weight"] = (outputs, inputs, height, width)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{part}"] = (outputs,)

    for name, inputs, outputs, side in STEM:
        unit(f"Conv2d_{name}", inputs, outputs, side, side)
    for block, n, pooled in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
        for branch, a, b, k in (("1x1", n, 64, 1), ("5x5_1", n, 48, 1), ("5x5_2", 48, 64, 5), ("_pool", n, pooled, 1)):
            unit(f"Mixed_{block}.branch{branch}", a, b, k, k)
        for branch, a, b, k in (("1", n, 64, 1), ("2", 64, 96, 3), ("3", 96, 96, 3)):
            unit(f"Mixed_{block}.branch3x3dbl_{branch}", a, b, k, k)
    unit("Mixed_6a.branch3x3", 288, 384, 3, 3)
    for branch, a, b, k in (("1", 288, 64, 1), ("2", 64, 96, 3), ("3", 96, 96, 3)):
        unit(f"Mixed_6a.branch3x3dbl_{branch}", a, b, k, k)
    for block, c in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        unit(f"Mixed_{block}.branch1x1", 768, 192, 1, 1)
        unit(f"Mixed_{block}.branch_pool", 768, 192, 1, 1)
        for branch, a, b, h, w in (("1", 768, c, 1, 1), ("2", c, c, 1, 7), ("3", c, 192, 7, 1)):
            unit(f"Mixed_{block}.branch7x7_{branch}", a, b, h, w)
        tower = (("1", 768, c, 1, 1), ("2", c, c, 7, 1), ("3", c, c, 1, 7), ("4", c, c, 7, 1), ("5", c, 192, 1, 7))
        for branch, a, b, h, w in tower:
            unit(f"Mixed_{block}.branch7x7dbl_{branch}", a, b, h, w)
    unit("Mixed_7a.branch3x3_1", 768, 192, 1, 1)
    unit("Mixed_7a.branch3x3_2", 192, 320, 3, 3)
    for branch, a, h, w in (("1", 768, 1, 1), ("2", 192, 1, 7), ("3", 192, 7, 1), ("4", 192, 3, 3)):
        unit(f"Mixed_7a.branch7x7x3_{branch}", a, 192, h, w)
    for block, n in (("7b", 1280), ("7c", 2048)):
        for branch, a, b, h, w in (
            *(("1x1", n, 320, 1, 1), ("3x3_1", n, 384, 1, 1), ("3x3_2a", 384, 384, 1, 3), ("3x3_2b", 384, 384, 3, 1)),
            *(("3x3dbl_1", n, 448, 1, 1), ("3x3dbl_2", 448, 384, 3, 3), ("3x3dbl_3a", 384, 384, 1, 3)),
            *(("3x3dbl_3b", 384, 384, 3, 1), ("_pool", n, 192, 1, 1)),
        ):
            unit(f"Mixed_{block}.branch{branch}", a, b, h, w)
    return shapes | {"fc.weight": (1008, 2048), "fc.bias": (1008,)}


def i3d_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def unit(name: str, inputs: int, outputs: int, side: int) -> None:
        shapes[f"{name}.conv3d.weight"] = (outputs, inputs, side, side, side)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.bn.{part}"] = (outputs,)

    unit("Conv3d_1a_7x7", 3, 64, 7)
    unit("Conv3d_2b_1x1", 64, 64, 1)
    unit("Conv3d_2c_3x3", 64, 192, 3)
    inputs = 192
    for block, widths in (  # Inception v1: 1x1; 3x3 reduced, 3x3; 5x5 reduced, 5x5 (3x3 here); pool
        *(("3b", (64, 96, 128, 16, 32, 32)), ("3c", (128, 128, 192, 32, 96, 64)), ("4b", (192, 96, 208, 16, 48, 64))),
        *(
            ("4c", (160, 112, 224, 24, 64, 64)),
            ("4d", (128, 128, 256, 24, 64, 64)),
            ("4e", (112, 144, 288, 32, 64, 64)),
        ),
        *(
            ("4f", (256, 160, 320, 32, 128, 128)),
            ("5b", (256, 160, 320, 32, 128, 128)),
            ("5c", (384, 192, 384, 48, 128, 128)),
        ),
    ):
        a, b, c, d, e, f = widths
        for branch, n, m, side in (
            *(("b0", inputs, a, 1), ("b1a", inputs, b, 1), ("b1b", b, c, 3), ("b2a", inputs, d, 1), ("b2b", d, e, 3)),
            ("b3b", inputs, f, 1),
        ):
            unit(f"Mixed_{block}.{branch}", n, m, side)
        inputs = a + c + e + f
    return shapes | {"logits.conv3d.weight": (400, 1024, 1, 1, 1), "logits.conv3d.bias": (400,)}


def c3d_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    inputs = 3
    for name, outputs in (
        ("1a", 64),
        ("2a", 128),
        ("3a", 256),
        ("3b", 256),
        ("4a", 512),
        ("4b", 512),
        ("5a", 512),
        ("5b", 512),
    ):
        shapes |= {f"conv{name}.weight": (outputs, inputs, 3, 3, 3), f"conv{name}.bias": (outputs,)}
        inputs = outputs
    for name, outputs, width in (("6", 4096, 8192), ("7", 4096, 4096), ("8", 101, 4096)):
        shapes |= {f"fc{name}.weight": (outputs, width), f"fc{name}.bias": (outputs,)}
    return shapes | {"mean": (3, 16, 112, 112)}


@pytest.mark.parametrize(
    ("kind", "shapes", "parameters"),
    [
        (c3d.C3D, c3d_shapes, 78.4e6 + 3 * 16 * 112 * 112),
        (inception.Inception, inception_shapes, 23.9e6),
        (i3d.I3D, i3d_shapes, 12.7e6),
    ],
)
def test_names_and_shapes_are_those_of_the_published_file(kind, shapes, parameters):
    with torch.device("meta"):
        network = kind()
    found = {
        name: tuple(v.shape) for name, v in network.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    assert found == shapes()
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(parameters, rel=0.01)


def randomised(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Weights that keep the size of what flows, statistics of normalisation that do something."""
    generator = torch.Generator().manual_seed(seed)
    for name, value in network.state_dict().items():
        if value.ndim > 1:
            value.copy_(torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5)
        elif name.endswith(("running_var", "bn.weight")):
            value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
        elif value.is_floating_point():
            value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    return network.eval().requires_grad_(False)


def folded(module, x: torch.Tensor, padding=0, stride: int = 1) -> torch.Tensor:
    """Convolution with the normalisation multiplied into it: another formulation of conv, bn, relu."""
    conv = module.conv if hasattr(module, "conv") else module.conv3d
    scale = module.bn.weight / torch.sqrt(module.bn.running_var + module.bn.eps)
    weight = conv.weight * scale.view(-1, *[1] * (conv.weight.ndim - 1))
    bias = module.bn.bias - module.bn.running_mean * scale
    run = F.conv2d if conv.weight.ndim == 4 else F.conv3d
    return run(x, weight, bias, stride=stride, padding=padding).clamp_min(0)


def tf_mean(x: torch.Tensor) -> torch.Tensor:
    """3 x 3 mean over the places inside the picture: sum over the padded, divided by how many are inside."""
    ones = torch.ones_like(x[:1, :1])
    kernel = torch.ones(1, 1, 3, 3, dtype=x.dtype)
    sums = F.conv2d(x.flatten(0, 1)[:, None], kernel, padding=1).view_as(x)
    return sums / F.conv2d(ones, kernel, padding=1)


def test_blocks_equal_folded_convolutions_and_counted_means():
    generator = torch.Generator().manual_seed(1)
    c = randomised(inception.BlockC(768, 128))
    x = torch.randn(2, 768, 5, 6, generator=generator).abs()
    seven = folded(c.branch7x7_3, folded(c.branch7x7_2, folded(c.branch7x7_1, x), (0, 3)), (3, 0))
    twice = folded(c.branch7x7dbl_1, x)
    for module, edge in ((c.branch7x7dbl_2, (3, 0)), (c.branch7x7dbl_3, (0, 3)), (c.branch7x7dbl_4, (3, 0))):
        twice = folded(module, twice, edge)
    twice = folded(c.branch7x7dbl_5, twice, (0, 3))
    expected = torch.cat([folded(c.branch1x1, x), seven, twice, folded(c.branch_pool, tf_mean(x))], dim=1)
    torch.testing.assert_close(c(x), expected, rtol=1e-4, atol=1e-4)
    for by_maximum in (False, True):
        e = randomised(inception.BlockE(32, by_maximum))
        x = torch.randn(1, 32, 4, 4, generator=generator).abs()
        pooled = F.unfold(F.pad(x, [1] * 4), 3).view(1, 32, 9, 4, 4).amax(2) if by_maximum else tf_mean(x)
        torch.testing.assert_close(e(x)[:, -192:], folded(e.branch_pool, pooled), rtol=1e-4, atol=1e-4)
    b = randomised(inception.BlockB(288))
    x = torch.randn(1, 288, 7, 7, generator=generator).abs()
    torch.testing.assert_close(b(x)[:, :384], folded(b.branch3x3, x, stride=2), rtol=1e-4, atol=1e-4)
    assert b(x).shape == (1, 768, 3, 3)


def test_resize_is_tensorflow_1s():
    # Output i lies at i * h / 299 between two pixels; the last pixels repeat. No half-pixel shift, no antialias.
    picture = np.random.default_rng(0).integers(0, 256, (1, 1, 13, 320), dtype=np.uint8).astype(np.float32)
    found = inception.resize(torch.from_numpy(picture), 299)[0, 0].numpy()

    def at(line: np.ndarray, i: int) -> float:
        place = i * len(line) / 299
        low = int(place)
        return line[low] + (line[min(low + 1, len(line) - 1)] - line[low]) * (place - low)

    for row, column in ((0, 0), (298, 298), (150, 7), (298, 0), (13, 200)):
        across = [at(line, column) for line in picture[0, 0]]
        assert found[row, column] == pytest.approx(at(np.array(across), row), abs=0.01)  # places are float32
    same = inception.resize(torch.from_numpy(picture[..., :299].repeat(23, axis=2)), 299)
    torch.testing.assert_close(same[0, 0], torch.from_numpy(picture[0, 0, :, :299].repeat(23, axis=0)))


@pytest.fixture(scope="module")
def network():
    return randomised(inception.Inception())


def test_spatial_features_are_seven_channels_laid_out_rows_columns_channels(network):
    kept = {}
    network.Mixed_6d.branch1x1.register_forward_hook(lambda _, __, out: kept.update(out=out))
    pictures = torch.randint(0, 256, (2, 3, 40, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        found = network(pictures)
    assert {name: tuple(rows.shape) for name, rows in found.items()} == {"pool": (2, 2048), "spatial": (2, 2023)}
    for n, y, x, channel in ((0, 0, 0, 0), (1, 16, 16, 6), (1, 3, 9, 5)):
        assert found["spatial"][n, (y * 17 + x) * 7 + channel] == kept["out"][n, channel, y, x]
    assert found["pool"].std(dim=0).mean() > 0


def test_i3d_pads_as_tensorflow_does_and_answers_with_400_logits():
    generator = torch.Generator().manual_seed(3)
    unit = randomised(i3d.Unit(2, 4, 7, stride=2))
    x = torch.randn(1, 2, 5, 8, 11, generator=generator)
    edges = []
    for length in x.shape[:1:-1]:  # width, height, frames: TensorFlow's "SAME", the odd place behind
        missing = max((math.ceil(length / 2) - 1) * 2 + 7 - length, 0)
        edges += [missing // 2, missing - missing // 2]
    torch.testing.assert_close(unit(x), folded(unit, F.pad(x, edges), stride=2), rtol=1e-4, atol=1e-4)
    mixed = randomised(i3d.Mixed(3, (2, 3, 4, 2, 3, 5)))
    x = torch.randn(1, 3, 3, 4, 5, generator=generator).abs()
    pooled = F.max_pool3d(x, 3, stride=1, padding=1)
    parts = [
        folded(mixed.b0, x),
        folded(mixed.b1b, folded(mixed.b1a, x), 1),
        folded(mixed.b2b, folded(mixed.b2a, x), 1),
    ]
    torch.testing.assert_close(mixed(x), torch.cat([*parts, folded(mixed.b3b, pooled)], 1), rtol=1e-4, atol=1e-4)
    whole = randomised(i3d.I3D())
    with torch.inference_mode():
        logits = whole(torch.randn(1, 3, 9, 224, 224, generator=generator).clamp(-1, 1))["logits"]
    assert logits.shape == (1, 400)
    assert logits.std() > 0


def test_c3d_sees_blue_first_with_aligned_corners_less_its_mean_clip():
    with torch.device("meta"):
        network = c3d.C3D()
    generator = torch.Generator().manual_seed(4)
    network.mean = torch.nn.Parameter(torch.rand(3, 16, 112, 112, generator=generator) * 200, requires_grad=False)
    clip = torch.rand(1, 3, 16, 9, 14, generator=generator) * 2 - 1
    found = network.prepared(clip)

    def at(line: np.ndarray, i: int) -> float:
        place = i * (len(line) - 1) / 111
        low = min(int(place), len(line) - 2)
        return line[low] + (line[low + 1] - line[low]) * (place - low)

    for frame, row, column in ((0, 0, 0), (5, 111, 111), (15, 40, 77)):
        for channel in range(3):
            pixels = clip[0, 2 - channel, frame].numpy().astype(np.float64)
            seen = at(np.array([at(line, column) for line in pixels]), row) * 128 + 128
            expected = seen - float(network.mean[channel, frame, row, column])
            assert float(found[0, channel, frame, row, column]) == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
def test_c3d_reads_chainers_arrays(tmp_path):
    rng = np.random.default_rng(5)
    stored = {
        name.replace(".weight", "/W").replace(".bias", "/b"): rng.normal(
            size=shape, scale=(2 / np.prod(shape[1:])) ** 0.5
        ).astype(np.float32)
        for name, shape in c3d_shapes().items()
        if name != "mean"
    }
    stored["fc8/W"] *= 1e-3  # else the softmax knows one class alone
    mean = rng.uniform(80, 110, (3, 16, 128, 171)).astype(np.float32)
    np.savez(tmp_path / c3d.SOURCE.place, **stored)
    np.savez(tmp_path / c3d.MEAN.place, mean=mean)
    network = c3d.load(tmp_path)
    np.testing.assert_array_equal(network.mean.numpy(), mean[:, :, 8:120, 8:120])
    np.testing.assert_array_equal(network.fc8.weight.numpy(), stored["fc8/W"])
    with torch.inference_mode():
        odds = network(torch.rand(2, 3, 16, 64, 64, generator=torch.Generator().manual_seed(6)) * 2 - 1)[
            "probabilities"
        ]
    assert odds.shape == (2, 101)
    torch.testing.assert_close(odds.sum(dim=1), torch.ones(2))
    assert not torch.equal(odds[0], odds[1])
    np.savez(tmp_path / c3d.MEAN.place, mean=mean[:, :8])
    with pytest.raises(GokuError, match="mean clip"):
        c3d.load(tmp_path)


def test_another_file_is_refused_and_counters_may_lack(tmp_path):
    with torch.device("meta"):
        shapes = inception.Inception().state_dict()
    tensors = {name: torch.zeros(v.shape) for name, v in shapes.items() if not name.endswith("num_batches_tracked")}
    adopt(inception.Inception(), tensors, tmp_path, inception.SOURCE)
    for change, said in (
        ({"AuxLogits.fc.weight": torch.zeros(1)}, "AuxLogits.fc.weight is not part"),
        ({"fc.weight": torch.zeros(1000, 2048)}, "fc.weight has the shape"),
    ):
        with pytest.raises(GokuError, match=said):
            adopt(inception.Inception(), tensors | change, tmp_path, inception.SOURCE)

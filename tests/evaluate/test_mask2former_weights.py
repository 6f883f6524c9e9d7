"""OpenMMLab's checkpoint of GenEval's detector: every tensor finds its place, and a converted block computes what it did."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from openmmlab_checkpoint import PUBLISHED, SMALL, drawn, mmdet_index, official, small_config
from openmmlab_forward import forward
from torch import nn

from goku_core.evaluate.networks import mask2former as port
from goku_core.pipeline.errors import GokuError


@pytest.fixture(scope="module")
def tensors():
    return drawn(official(**SMALL))


@pytest.fixture(scope="module")
def network(tensors):
    network = port.build(small_config())
    missing, left_over = network.load_state_dict(port.from_official(tensors, network.config), strict=False)
    assert not left_over
    assert all(name.startswith(port.OURS_ALONE) for name in missing)
    return network


def test_every_tensor_of_the_published_checkpoint_has_one_place_of_its_shape():
    with torch.device("meta"):
        network = port.build(port.config())
        theirs = {name: torch.empty(shape) for name, shape in official(**PUBLISHED).items() if "_index" not in name}
    assert len(official(**PUBLISHED)) == len(theirs) + sum(PUBLISHED["depths"])
    converted = port.from_official(theirs, network.config)
    ours = {name: value.shape for name, value in network.state_dict().items()}
    assert {name: value.shape for name, value in converted.items()} == {
        name: shape for name, shape in ours.items() if not name.startswith(port.OURS_ALONE)
    }
    assert {name: tuple(v.shape) for name, v in port.to_official(converted, network.config).items()} == {
        name: tuple(value.shape) for name, value in theirs.items()
    }
    named = [name for _, parts in port.paired(network.config) for name in parts]
    assert len(named) == len(set(named)) == len(converted)
    parameters = sum(value.numel() for value in theirs.values())
    assert parameters == pytest.approx(68.7e6, rel=0.01)  # published: 69 million


def test_there_and_back_is_the_same_checkpoint(tensors):
    shape = small_config()
    again = port.to_official(port.from_official(tensors, shape), shape)
    assert again.keys() == {name for name in tensors if not name.endswith("_index")}
    for name, value in again.items():
        torch.testing.assert_close(value, tensors[name], rtol=0, atol=0)


def test_patch_merging_computes_what_unfolding_computed(tensors, network):
    name = "backbone.stages.0.downsample"
    x = torch.randn(2, 6 * 4, 8, generator=torch.Generator().manual_seed(1))
    unfolded = F.unfold(x.reshape(2, 6, 4, 8).permute(0, 3, 1, 2), 2, stride=2).transpose(1, 2)
    normal = F.layer_norm(unfolded, (32,), tensors[f"{name}.norm.weight"], tensors[f"{name}.norm.bias"])
    expected = normal @ tensors[f"{name}.reduction.weight"].T
    found = network.model.pixel_level_module.encoder.swin.encoder.layers[0].downsample(x, (6, 4))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_window_attention_computes_what_one_matrix_of_queries_keys_and_values_computed(tensors, network):
    name, heads = "backbone.stages.2.blocks.1.attn.w_msa", 4
    x = torch.randn(3, 49, 32, generator=torch.Generator().manual_seed(2))
    q, k, v = (
        (x @ tensors[f"{name}.qkv.weight"].T + tensors[f"{name}.qkv.bias"])
        .reshape(3, 49, 3, heads, 8)
        .permute(2, 0, 3, 1, 4)
    )
    bias = tensors[f"{name}.relative_position_bias_table"][mmdet_index().flatten()].reshape(49, 49, heads)
    odds = (q @ k.transpose(-1, -2) * 8**-0.5 + bias.permute(2, 0, 1)).softmax(-1)
    mixed = (odds @ v).transpose(1, 2).reshape(3, 49, 32)
    expected = mixed @ tensors[f"{name}.proj.weight"].T + tensors[f"{name}.proj.bias"]
    found, _ = network.model.pixel_level_module.encoder.swin.encoder.layers[2].blocks[1].attention(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_decoder_layer_computes_what_mmcvs_layer_computed(tensors, network):
    name = "panoptic_head.transformer_decoder.layers.1"

    def part(of: str) -> dict[str, torch.Tensor]:
        return {
            key.removeprefix(f"{name}.{of}."): value
            for key, value in tensors.items()
            if key.startswith(f"{name}.{of}.")
        }

    def attention(number: int) -> nn.MultiheadAttention:
        module = nn.MultiheadAttention(32, 8)
        module.load_state_dict(part(f"attentions.{number}.attn"))
        return module.eval()

    def norm(x: torch.Tensor, number: int) -> torch.Tensor:
        return F.layer_norm(x, (32,), *part(f"norms.{number}").values())

    generator = torch.Generator().manual_seed(3)
    query, place = torch.randn(2, 5, 1, 32, generator=generator)
    memory, where = torch.randn(2, 9, 1, 32, generator=generator)
    mask = torch.rand(8, 5, 9, generator=generator) < 0.4
    with torch.inference_mode():
        x = norm(query + attention(0)(query + place, memory + where, memory, attn_mask=mask)[0], 0)
        x = norm(x + attention(1)(x + place, x + place, x)[0], 1)
        first, second = part("ffns.0.layers.0.0"), part("ffns.0.layers.1")
        wide = F.relu(F.linear(x, first["weight"], first["bias"]))
        expected = norm(x + F.linear(wide, second["weight"], second["bias"]), 2)
        found = network.model.transformer_module.decoder.layers[1](
            query, 0, None, [where], place, [memory], encoder_attention_mask=mask
        )[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_whole_network_computes_what_the_checkpoint_computes_under_its_own_names(tensors, network):
    # 96 x 160 pixels: maps of 24 x 40 to 3 x 5, whose windows are padded, shifted and cut.
    double = {name: value.double() if value.is_floating_point() else value for name, value in tensors.items()}
    pixels = torch.randn(1, 3, 96, 160, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    with torch.inference_mode():
        classes, masks = forward(double, pixels, **SMALL)
        found = copy.deepcopy(network).double()(pixel_values=pixels)
    assert masks.std() > 0.01
    torch.testing.assert_close(found.class_queries_logits[0], classes, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.masks_queries_logits[0], masks, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.pop("panoptic_head.cls_embed.bias"), "cls_embed.bias is missing"),
        (lambda t: t.update({"bbox_head.fc.weight": torch.zeros(1)}), "bbox_head.fc.weight is unknown"),
        (
            lambda t: t.update({"backbone.stages.0.blocks.0.attn.w_msa.relative_position_index": mmdet_index().T}),
            "another order",
        ),
    ],
)
def test_another_checkpoint_is_refused(tensors, change, said):
    other = dict(tensors)
    change(other)
    with pytest.raises(GokuError, match=said):
        port.from_official(other, small_config())


def test_a_checkpoint_with_code_in_it_is_not_read(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    place = tmp_path / port.SOURCE.place
    torch.save({"state_dict": {"a": torch.zeros(1)}, "meta": Evil()}, place)
    with pytest.raises(GokuError, match="cannot be read"):
        port.read_official(place)
    torch.save(
        {"state_dict": {"a": torch.ones(1)}, "meta": {"CLASSES": ("person",), "epoch": 50, "config": "..."}}, place
    )
    assert port.read_official(place)["a"].item() == 1.0

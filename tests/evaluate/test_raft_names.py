"""The authors' own files of RAFT load under torchvision's names: every tensor once, each in its place."""

from __future__ import annotations

import pytest
import torch

from goku_core.pipeline.errors import GokuError
from goku_core.scorers.raft import LARGE, SMALL, load_raft
from goku_core.scorers.raft_names import torchvisions


def conv(name: str, made: int, given: int, *kernel: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (made, given, *(kernel if len(kernel) > 1 else kernel * 2)), f"{name}.bias": (made,)}


def batch_norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (channels,) for part in parts} | {f"{name}.num_batches_tracked": ()}


def basic_encoder(name: str, made: int, norm: bool) -> dict[str, tuple[int, ...]]:
    """BasicEncoder of core/extractor.py; the instance norms of fnet have no tensors."""
    shapes = conv(f"{name}.conv1", 64, 3, 7) | conv(f"{name}.conv2", made, 128, 1)
    shapes |= batch_norm(f"{name}.norm1", 64) if norm else {}
    before = 64
    for stage, after in enumerate((64, 96, 128), start=1):
        for block in range(2):
            start = f"{name}.layer{stage}.{block}"
            shapes |= conv(f"{start}.conv1", after, before, 3) | conv(f"{start}.conv2", after, after, 3)
            norms = ["norm1", "norm2"]
            if stage > 1 and block == 0:
                shapes |= conv(f"{start}.downsample.0", after, before, 1)
                norms += ["norm3", "downsample.1"]
            for one in norms if norm else ():
                shapes |= batch_norm(f"{start}.{one}", after)
            before = after
    return shapes


def basic_update() -> dict[str, tuple[int, ...]]:
    """BasicUpdateBlock of core/update.py."""
    shapes = conv("encoder.convc1", 256, 324, 1) | conv("encoder.convc2", 192, 256, 3)
    shapes |= conv("encoder.convf1", 128, 2, 7) | conv("encoder.convf2", 64, 128, 3) | conv("encoder.conv", 126, 256, 3)
    for gate in "zrq":
        shapes |= conv(f"gru.conv{gate}1", 128, 384, 1, 5) | conv(f"gru.conv{gate}2", 128, 384, 5, 1)
    shapes |= conv("flow_head.conv1", 256, 128, 3) | conv("flow_head.conv2", 2, 256, 3)
    shapes |= conv("mask.0", 256, 128, 3) | conv("mask.2", 576, 256, 1)
    return {f"update_block.{name}": shape for name, shape in shapes.items()}


def things(prefix: str = "module.") -> dict[str, torch.Tensor]:
    """A file as raft-things.pth: each tensor full of its own number; the norm beside a shortcut is there twice."""
    shapes = basic_encoder("fnet", 256, False) | basic_encoder("cnet", 256, True) | basic_update()
    tensors = {prefix + name: torch.full(shape, float(number)) for number, (name, shape) in enumerate(shapes.items())}
    for name in [name for name in tensors if ".norm3." in name]:
        tensors[name] = tensors[name.replace("norm3", "downsample.1")]
    return tensors


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_the_authors_file_loads_whole(tmp_path, prefix) -> None:
    tensors = things(prefix)
    torch.save(tensors, tmp_path / "raft-things.pth")
    network = load_raft(tmp_path / "raft-things.pth")
    assert network.size is LARGE
    held = network.state_dict()
    for theirs, ours in {
        "fnet.conv1.bias": "feature_encoder.convnormrelu.0.bias",
        "fnet.conv2.weight": "feature_encoder.conv.weight",
        "fnet.layer2.0.conv2.weight": "feature_encoder.layer2.0.convnormrelu2.0.weight",
        "fnet.layer3.0.downsample.0.weight": "feature_encoder.layer3.0.downsample.0.weight",
        "cnet.norm1.running_var": "context_encoder.convnormrelu.1.running_var",
        "cnet.layer1.1.norm2.weight": "context_encoder.layer1.1.convnormrelu2.1.weight",
        "cnet.layer3.0.norm3.running_mean": "context_encoder.layer3.0.downsample.1.running_mean",
        "update_block.encoder.convc2.weight": "update_block.motion_encoder.convcorr2.0.weight",
        "update_block.encoder.convf1.bias": "update_block.motion_encoder.convflow1.0.bias",
        "update_block.encoder.conv.weight": "update_block.motion_encoder.conv.0.weight",
        "update_block.gru.convq2.weight": "update_block.recurrent_block.convgru2.convq.weight",
        "update_block.gru.convz1.bias": "update_block.recurrent_block.convgru1.convz.bias",
        "update_block.flow_head.conv2.bias": "update_block.flow_head.conv2.bias",
        "update_block.mask.0.weight": "mask_predictor.convrelu.0.weight",
        "update_block.mask.2.weight": "mask_predictor.conv.weight",
    }.items():
        assert torch.equal(held[ours].float(), tensors[prefix + theirs]), (theirs, ours)
    assert len({float(tensor.flatten()[0]) for tensor in held.values()}) == len(held)  # none twice


def test_files_without_counters_load_and_cut_ones_do_not(tmp_path) -> None:
    old = {name: tensor for name, tensor in things().items() if "num_batches" not in name}
    torch.save(old, tmp_path / "old.pth")
    assert load_raft(tmp_path / "old.pth").size is LARGE
    torch.save({name: tensor for name, tensor in old.items() if "gru.convz2" not in name}, tmp_path / "cut.pth")
    with pytest.raises(GokuError, match=r"the authors' raft-things.*convgru2\.convz"):
        load_raft(tmp_path / "cut.pth")


def test_the_small_one_has_one_unit_and_blocks_of_three() -> None:
    names = ["fnet.layer2.0.conv3.weight", "fnet.layer2.0.norm3.weight", "fnet.layer2.0.norm4.weight"]
    names += ["update_block.gru.convz.weight", "update_block.encoder.convc1.weight"]
    assert set(torchvisions({f"module.{name}": torch.zeros(1) for name in names})) == {
        "feature_encoder.layer2.0.convnormrelu3.0.weight",
        "feature_encoder.layer2.0.convnormrelu3.1.weight",
        "update_block.recurrent_block.convgru1.convz.weight",
        "update_block.motion_encoder.convcorr1.0.weight",
    }
    assert SMALL.kernels == ((3, 3),)

"""AMT-S: the published names and count, parts against RAFT and plain loops, the whole on flows set by hand, its judge."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from goku_core.evaluate.judges.judge import Bench, Seen, judge_named
from goku_core.evaluate.judges.video import motion_smoothness
from goku_core.evaluate.manifest import Prompt, plan
from goku_core.evaluate.networks.video import amt
from goku_core.pipeline.errors import GokuError
from goku_core.scorers import raft


def conv(name, given, made, kernel):
    return {f"{name}.weight": (made, given, kernel, kernel), f"{name}.bias": (made,)}


def layer(name, given, made):
    return conv(f"{name}.0", given, made, 3) | {f"{name}.1.weight": (made,)}


def decoder(number, given, inner, made):
    name = f"decoder{number}.convblock"
    shapes = (
        layer(f"{name}.0", given, inner)
        | conv(f"{name}.1.conv5", inner, inner, 3)
        | {f"{name}.1.prelu.weight": (inner,)}
    )
    for part, channels in ((1, inner), (2, 20), (3, inner), (4, 20)):
        shapes |= layer(f"{name}.1.conv{part}", channels, channels)
    return shapes | {f"{name}.2.weight": (inner, made, 4, 4), f"{name}.2.bias": (made,)}


def published():
    """Names and shapes by the constructors of AMT-S with cfgs/AMT-S.yaml: radius 3, 4 levels, 3 fields."""
    shapes = conv("feat_encoder.conv1", 3, 32, 7) | conv("feat_encoder.conv2", 96, 84, 1)
    for number, before, after in ((1, 32, 32), (2, 32, 64), (3, 64, 96)):
        for block, given in ((0, before), (1, after)):
            name = f"feat_encoder.layer{number}.{block}"
            shapes |= conv(f"{name}.conv1", given, after // 4, 1) | conv(f"{name}.conv3", after // 4, after, 1)
            shapes |= conv(f"{name}.conv2", after // 4, after // 4, 3)
        if number > 1:
            shapes |= conv(f"feat_encoder.layer{number}.0.downsample.0", before, after, 1)
    for number, before, after in ((1, 3, 20), (2, 20, 32), (3, 32, 44), (4, 44, 56)):
        shapes |= layer(f"encoder.pyramid{number}.0", before, after) | layer(f"encoder.pyramid{number}.1", after, after)
    shapes |= decoder(4, 113, 112, 48) | decoder(3, 136, 132, 36) | decoder(2, 100, 96, 24) | decoder(1, 64, 60, 24)
    for number, content in ((4, 44), (3, 32), (2, 20)):
        name = f"update{number}"
        shapes |= conv(f"{name}.convc1", 2 * 4 * 49, 64, 1) | conv(f"{name}.convf1", 4, 40, 7)
        shapes |= conv(f"{name}.convf2", 40, 20, 3) | conv(f"{name}.conv", 84, 68, 3)
        shapes |= conv(f"{name}.gru.0", 68 + 4 + content, 76, 3) | conv(f"{name}.gru.2", 76, 76, 3)
        for head, made in (("feat_head", content), ("flow_head", 4)):
            shapes |= conv(f"{name}.{head}.0", 76, 76, 3) | conv(f"{name}.{head}.2", 76, made, 3)
    return shapes | conv("comb_block.0", 9, 18, 3) | {"comb_block.1.weight": (18,)} | conv("comb_block.2", 18, 3, 3)


def test_names_and_shapes_are_the_published_ones():
    network = amt.AmtS()
    assert {name: tuple(t.shape) for name, t in network.state_dict().items()} == published()
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(3.0, abs=0.05)  # the paper's table 1


def test_correlation_encoder_is_rafts_small_one():
    """The port of RAFT in goku_core.scorers is held against torchvision's values; here it has 84 channels at the end."""
    torch.manual_seed(0)
    ours, theirs = amt.AmtS().feat_encoder, raft._Encoder(raft.SMALL, 84, nn.InstanceNorm2d)
    named = {
        name.replace("conv1", "convnormrelu").replace("convnormrelu.", "convnormrelu.0.", 1)
        if name.startswith("conv1")
        else name: value
        for name, value in ours.state_dict().items()
    }
    renamed = {}
    for name, value in named.items():
        for k in (1, 2, 3):
            name = name.replace(f".conv{k}.", f".convnormrelu{k}.0.") if name.startswith("layer") else name
        renamed[name.replace("conv2.", "conv.") if name.startswith("conv2") else name] = value
    theirs.load_state_dict(renamed)
    picture = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.allclose(ours(picture), theirs(picture), atol=1e-5)


def test_side_block_changes_the_last_channels_in_place():
    torch.manual_seed(0)
    block, x = amt._SideBlock(30), torch.randn(1, 30, 6, 5)
    with torch.no_grad():
        y = block.conv1(x)
        y[:, -20:] = block.conv2(y[:, -20:].clone())
        y = block.conv3(y)
        y[:, -20:] = block.conv4(y[:, -20:].clone())
        assert torch.allclose(block(x), block.prelu(x + block.conv5(y)), atol=1e-6)


def test_warping_is_a_look_up_and_the_border_goes_on():
    picture = torch.arange(35.0).view(1, 1, 5, 7)
    flow = torch.zeros(1, 2, 5, 7)
    flow[:, 0], flow[:, 1] = 2, -1
    expected = torch.tensor([[picture[0, 0, max(y - 1, 0), min(x + 2, 6)] for x in range(7)] for y in range(5)])
    assert torch.allclose(amt.warped(picture, flow)[0, 0], expected, atol=1e-4)
    flow[:, 0], flow[:, 1] = 0.5, 0
    assert amt.warped(picture, flow)[0, 0, 2, 3].item() == pytest.approx(17.5, abs=1e-4)


def silent():
    """A network that draws nothing: every last layer gives zero, so flows are zero, masks a half, residuals none."""
    torch.manual_seed(0)
    network = amt.AmtS().eval().requires_grad_(False)
    for number in (1, 2, 3, 4):
        nn.init.zeros_(network.get_submodule(f"decoder{number}.convblock.2").weight)
        nn.init.zeros_(network.get_submodule(f"decoder{number}.convblock.2").bias)
    for number in (2, 3, 4):
        for head in ("feat_head", "flow_head"):
            nn.init.zeros_(network.get_submodule(f"update{number}.{head}.2").weight)
            nn.init.zeros_(network.get_submodule(f"update{number}.{head}.2").bias)
    nn.init.zeros_(network.comb_block[2].weight)
    nn.init.zeros_(network.comb_block[2].bias)
    return network


def test_without_flow_the_frame_between_is_the_mean():
    first, second = torch.rand(2, 1, 3, 128, 144).unbind()
    assert torch.allclose(silent()(first, second), (first + second) / 2, atol=1e-5)


@pytest.mark.parametrize(
    "part, shift",
    [
        ("decoder4.convblock.2", 8), ("update4.flow_head.2", 8), ("decoder3.convblock.2", 4), ("update3.flow_head.2", 8),
        ("decoder2.convblock.2", 2), ("update2.flow_head.2", 8),
    ],
)  # fmt: skip
def test_flows_of_every_scale_are_in_its_pixels(part, shift):
    """A flow of one pixel of the scale it is said at moves the first frame by that many pixels of the picture. Updates are
    made at the eighth, whatever scale they serve."""
    network = silent()
    network.get_submodule(part).bias[0] = 1.0  # to the first frame, along x
    network.get_submodule("decoder1.convblock.2").bias[12:15] = 40.0  # all masks: the first frame alone
    torch.manual_seed(1)
    first, second = torch.rand(2, 1, 3, 128, 160).unbind()
    drawn = network(first, second)
    assert torch.allclose(drawn[..., :-shift], first[..., shift:], atol=2e-3)


def test_flow_to_the_second_frame_and_fields_of_their_own():
    network = silent()
    last = network.get_submodule("decoder1.convblock.2")
    last.bias[12:15] = -40.0  # the second frame alone
    last.bias[7] = last.bias[9] = last.bias[11] = 3.0  # along y in each field
    last.bias[15:24] = torch.tensor([0.3, 0, 0] * 3)  # residual: red
    torch.manual_seed(1)
    first, second = 0.5 * torch.rand(2, 1, 3, 128, 128).unbind()[0], 0.5 * torch.rand(1, 3, 128, 128)
    expected = second[..., 3:, :].clone()
    expected[:, 0] += 0.3
    assert torch.allclose(network(first, second)[..., :-3, :], expected, atol=1e-3)


def test_look_up_follows_the_flow_across_the_whole_step():
    """The strongest correlation lies where the second picture's features moved to, once the flow says half of the way."""
    torch.manual_seed(0)
    features = F.normalize(torch.randn(1, 40, 16, 20), dim=1)
    moved = torch.roll(features, shifts=4, dims=3)  # right by 4 cells from the first to the second
    ahead, back = raft.Correlations(features, moved, 3), raft.Correlations(moved, features, 3)
    flows = torch.zeros(1, 4, 16, 20)
    flows[:, 0], flows[:, 2] = -2, 2  # from half-way: the first lies 2 cells to the left, the second 2 to the right
    found = amt._looked_up(ahead, back, flows, 1)
    middle = 3 * 7 + 3  # no offset, finest level
    own = 1 / 40**0.5
    assert torch.allclose(found[0, middle, :, :15], torch.full((16, 15), own), atol=1e-5)
    assert torch.allclose(found[0, 4 * 49 + middle, :, 5:], torch.full((16, 15), own), atol=1e-5)
    assert torch.allclose(amt._looked_up(ahead, back, 2 * amt.resized(flows, 2), 2), found, atol=1e-5)


def test_sides_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="multiples of 16 and at least 128"):
        silent()(torch.rand(1, 3, 128, 136), torch.rand(1, 3, 128, 136))


def bench(folder, network, mode="corrected"):
    path = folder / amt.SOURCE.place
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"epoch": 300, "state_dict": network.state_dict(), "best": np.float64(35.97)}, path)
    return Bench(weights=folder, mode=mode)


def seen(frames):
    prompt = Prompt("vbench-00000", "a thing", "", ("motion_smoothness",))
    return Seen(plan("vbench", "video", [prompt], 1, 0)[0], frames, 8.0, "0" * 64)


def test_rule_on_a_network_that_takes_the_mean(tmp_path):
    """Frames of one level: 0, 10, 40, 44, 60, 99: drawn 20 and 50, off by 10 and 6; the last odd frame has none after it."""
    judge = motion_smoothness.make(bench(tmp_path, silent()))
    clip = np.stack([np.full((40, 100, 3), level, np.uint8) for level in (0, 10, 40, 44, 60, 99)])
    (answer,) = judge.judge([seen(clip)])
    assert answer.score == pytest.approx(1 - 8 / 255, abs=1e-9) and answer.count == 2
    assert answer.evidence["frames"] == [round(1 - 10 / 255, 6), round(1 - 6 / 255, 6)]
    with pytest.raises(GokuError, match="needs three"):
        judge.judge([seen(clip[:2])])


def test_official_mode_cuts_what_corrected_mode_rounds(tmp_path):
    network = silent()
    network.get_submodule("decoder1.convblock.2").bias[12:15] = float(np.log(3))  # three quarters of the first frame
    clip = np.zeros((3, 32, 32, 3), np.uint8)
    clip[1], clip[2] = 1, 3  # drawn: 0.75
    scores = {}
    for mode in ("official", "corrected"):
        judge = motion_smoothness.make(bench(tmp_path, network, mode))
        scores[mode] = judge.judge([seen(clip)])[0].score
        assert judge.fingerprint.endswith("-unverified")
        scores[judge.fingerprint] = 0
    assert scores["corrected"] == 1.0 and scores["official"] == pytest.approx(254 / 255) and len(scores) == 4


def test_padding_changes_nothing_within(tmp_path):
    judge = motion_smoothness.make(bench(tmp_path, silent()))
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 130, 50, 3), dtype=np.uint8)
    away = judge.between(one, other).astype(int) - np.rint((one.astype(float) + other) / 2).astype(int)
    assert np.abs(away).max() <= 1 and np.abs(away).mean() < 0.5  # halves may go to either side
    assert motion_smoothness.border(130, 50) == (39, 39, 7, 7)
    assert motion_smoothness.border(480, 854) == (5, 5, 0, 0)


def test_check_finds_networks_that_cannot_draw(tmp_path):
    with pytest.raises(GokuError, match=r"moving texture is drawn 0\.\d+ right"):
        motion_smoothness.make(bench(tmp_path, silent())).check()
    wild = silent()
    wild.get_submodule("decoder4.convblock.2").bias[:4] = torch.tensor([4.0, 0, -4, 0])
    with pytest.raises(GokuError, match="between two equal ones"):
        motion_smoothness.make(bench(tmp_path, wild)).check()


def test_check_lets_pass_who_draws_the_moving_texture(tmp_path):
    """Flows that are right for the texture of the check, put in by hand: what the check asks for can be had."""
    network = silent()
    network.get_submodule("decoder4.convblock.2").bias[:4] = torch.tensor([1.0, 0, -1, 0])  # 8 px: each half of the way
    judge = motion_smoothness.make(bench(tmp_path, network))
    one, two, three = (motion_smoothness._texture(moved) for moved in (0, 8, 16))
    drawn = motion_smoothness.likeness(two, judge.between(one, three))
    blended = motion_smoothness.likeness(two, motion_smoothness._blend(one, three))
    assert drawn > 0.99 > blended + 0.02


def test_a_safetensors_twin_is_taken_and_gives_the_same(tmp_path):
    clip = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    pickled = bench(tmp_path, silent())
    (expected,) = motion_smoothness.make(pickled).judge([seen(clip)])
    path = tmp_path / amt.SOURCE.place
    save_file(silent().state_dict(), path.with_suffix(".safetensors"))
    path.unlink()
    judge = motion_smoothness.make(pickled)
    assert judge.missing() == "" and judge.judge([seen(clip)]) == [expected] and judge.fingerprint


def test_without_weights_the_judge_says_they_are_non_commercial(tmp_path):
    told = judge_named("motion_smoothness", Bench(weights=tmp_path)).missing()
    assert "non-commercial" in told and "hf download lalala125/AMT" in told

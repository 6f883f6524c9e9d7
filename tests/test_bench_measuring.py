"""What the benchmarks rest on, each against something independent: counted FLOP, closed forms, equal work of both sides."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import pilot, roofline, step
from benchmarks.measuring import peer, shapes
from benchmarks.measuring.frechet import frechet_distance
from benchmarks.measuring.packs import SIZES, SMALL, SMALL_CONFIG, Pack
from benchmarks.measuring.pictures import CLASSES, pictures
from benchmarks.measuring.timing import alternate, compare
from goku_core.models import CONFIGS, Goku
from goku_core.scenes.vocabulary import COLORS
from goku_core.transport import DDPM, RectifiedFlow

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(("size", "tokens"), [("2k", 2016), ("8k", 8064), ("14k", 14400), ("37k", 36864)])
def test_one_sequence_and_the_mix_have_equal_tokens(size, tokens):
    assert SIZES[size].one().tokens == SIZES[size].mixed().tokens == tokens


def test_padding_and_buckets_hold_every_sample_once():
    pack = SIZES["14k"].mixed()
    padded = pack.padded()
    assert padded.tokens == 9 * 5184 and set(padded.texts) == {max(pack.texts)}
    parts = padded.split(pack.tokens)
    assert [sample for part in parts for sample in part.grids] == list(padded.grids)
    assert all(part.tokens <= pack.tokens for part in parts)
    buckets = pack.by_length()
    assert [len(b.lengths) for b in buckets] == [1, 2, 6] and sum(b.tokens for b in buckets) == pack.tokens
    assert all(len(set(b.lengths)) == 1 for b in buckets)


def test_repeats_alternate_and_the_ratio_is_of_pairs():
    calls: list[str] = []
    sides = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    timings = alternate(sides, CPU, repeats=3, warmup=1, on_side=lambda _: None)
    assert "".join(calls) == "ba" + "ab" + "ba" + "ab"
    timings["a"].seconds, timings["b"].seconds = [1.0, 2.0, 4.0], [2.0, 3.0, 2.0]
    ratio = compare(timings, "a", "b")
    assert (ratio.ratio, ratio.low, ratio.high) == (1.5, 0.5, 2.0)


@contextmanager
def counted() -> Iterator[FlopCounterMode]:
    """torch's own count; its fused attention on a CPU it does not know, so attention runs as plain products."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        yield counter


@pytest.mark.parametrize("classes", [0, 10])
def test_flop_of_a_forward_pass_are_those_that_torch_counts(classes):
    config = replace(SMALL_CONFIG, text_width=0 if classes else 32, classes=classes)
    # Equal texts: with unequal ones the reference pads keys, and torch counts those too.
    pack = Pack(SMALL.mixed().grids, (7,) * 4)
    model = Goku(config)
    inputs = {"time": torch.rand(4)}
    inputs |= {"label": torch.arange(4)} if classes else {}
    inputs |= {} if classes else {"text": torch.randn(28, 32), "text_cu_seqlens": pack.text_cu_seqlens(CPU)}
    tokens = torch.randn(pack.tokens, config.token_width)
    with counted() as counter:
        model(tokens, pack.coords(CPU), pack.cu_seqlens(CPU), **inputs)
    time_layers = 2 * 4 * (256 + config.width) * config.width
    assert sum(roofline.forward_flops(config, pack).values()) + time_layers == counter.get_total_flops()


def test_flop_of_the_2b_model_per_token_follow_from_its_shape():
    """28 d^2 a token and layer for tokens much more numerous than text, 4 d s for attention (text apart)."""
    config, pack = CONFIGS["2b"], SIZES["14k"].one()
    work = roofline.forward_flops(config, pack)
    d, layers, tokens = 1792, 28, 14400
    assert work["self-attention"] == layers * 4 * d * tokens**2
    assert work["matmul"] == pytest.approx(layers * 28 * d * d * tokens, rel=0.015)


@pytest.mark.skipif(not peer.installed(), reason="the extra bench (diffusers) is not installed")
def test_the_peers_network_does_the_same_products():
    """At equal width of text ours lacks the peer's two text layers and has a modulation per block; the rest is equal."""
    config = replace(SMALL_CONFIG, text_width=SMALL_CONFIG.width)
    pack = SMALL.one()
    d, texts = config.width, sum(pack.texts)
    wan = peer.wan(config, CPU, torch.float32)
    with counted() as theirs:
        wan(torch.randn(peer.latent_shape(pack, config)), torch.tensor([500.0]), torch.randn(1, texts, d))
    own = Goku(config)
    with counted() as ours:
        bounds = pack.cu_seqlens(CPU), torch.rand(1), torch.randn(texts, d), pack.text_cu_seqlens(CPU)
        own(torch.randn(pack.tokens, config.token_width), pack.coords(CPU), *bounds)
    text_layers, shared_modulation = 2 * texts * (d * d + d * d), 2 * d * 6 * d
    own_modulation = config.depth * 2 * d * 6 * d + 2 * d * 2 * d
    blocks = theirs.get_total_flops() - text_layers - shared_modulation
    assert blocks == ours.get_total_flops() - own_modulation


@pytest.mark.skipif(not peer.installed(), reason="the extra bench (diffusers) is not installed")
def test_the_peers_loss_is_a_mean_over_tokens_of_samples():
    pack = SMALL.mixed()
    sides = step.Peers(SMALL_CONFIG, CPU, torch.float32, compiled=False)
    weight = sides._weight(pack.padded(), list(pack.lengths), pack.tokens)
    assert weight.sum().item() * SMALL_CONFIG.latent_channels == pytest.approx(1.0)
    frames = [int((row > 0).sum()) for row in weight[:, 0, :, 0, 0]]
    assert frames == [3, 2, 1, 1]


def test_frechet_distance_of_gaussians_with_known_moments():
    """Commuting covariances: |m1-m2|^2 + sum (sqrt(a) - sqrt(b))^2."""
    draws = torch.Generator().manual_seed(0)
    raw = torch.randn(500, 4, generator=draws, dtype=torch.float64)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(raw.T.cov()), (raw - raw.mean(0)).T, upper=False).T
    turn, _ = torch.linalg.qr(torch.randn(4, 4, generator=draws, dtype=torch.float64))
    a, b = torch.tensor([1.0, 4.0, 9.0, 0.25]).double(), torch.tensor([4.0, 1.0, 1.0, 0.0]).double()
    shift = torch.tensor([1.0, -2.0, 0.0, 0.5]).double()
    first, second = white * a.sqrt() @ turn.T, white * b.sqrt() @ turn.T + shift
    expected = shift.square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    assert frechet_distance(first, second) == pytest.approx(expected.item(), rel=1e-6)
    assert frechet_distance(first, first.flip(0)) == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="at least 2"):
        frechet_distance(first[:1], second)


def test_pictures_show_their_class():
    """The pixel in the middle of the shape's row has the colour of the class for most pictures."""
    drawn, labels = pictures(60, 24, seed=0)
    for picture, label in zip(drawn, labels, strict=True):
        color = torch.tensor(COLORS[CLASSES[label][1]]) / 127.5 - 1
        distance = (picture - color[:, None, None]).abs().amax(0)
        assert (distance < 0.05).sum() >= 12, f"no patch of {CLASSES[label]}"
    assert len(set(labels.tolist())) > 12


def test_both_methods_of_the_pilot_start_from_the_same_weights_and_learn():
    class Asked:
        learning_rate, law = 5e-3, "uniform"

    class Result:
        options = Asked

    plan = replace(pilot.SMALL, batch=16)
    flow, diffusion = (pilot._method("m", f, plan, 0, Result) for f in (RectifiedFlow(), DDPM()))
    for own, other in zip(flow.model.parameters(), diffusion.model.parameters(), strict=True):
        assert torch.equal(own, other)
    # 64 times the same: what the flow needs to know of the data is one constant, what DDPM needs follows from x_t.
    data = torch.randn(1, 4, 48, generator=torch.Generator().manual_seed(0)).expand(64, -1, -1)
    for number in range(60):
        for method in (flow, diffusion):
            pilot._train_step(method, data, torch.zeros(64, dtype=torch.int64), plan, 0, number, Asked)
    # An untrained network answers zero: the loss is then the variance of the target, 2 of the flow and 1 of the noise.
    assert flow.losses[0] == pytest.approx(2.0, abs=0.2) and diffusion.losses[0] == pytest.approx(1.0, abs=0.1)
    assert sum(flow.losses[-5:]) < 0.95 * sum(flow.losses[:5])
    assert sum(diffusion.losses[-5:]) < 0.95 * sum(diffusion.losses[:5])


def test_clipped_noise_is_the_noise_itself_where_the_picture_lies_within():
    """Of x_t made from a picture in [-1, 1] the true noise stays; a wrong one gives a picture at the border."""
    flow, draws = DDPM(), torch.Generator().manual_seed(0)
    picture = torch.rand(50, generator=draws) * 1.8 - 0.9
    noise = torch.randn(50, generator=draws)
    for moment in (torch.tensor(0.0), torch.tensor(0.5), torch.tensor(1.0)):
        x = flow.interpolate(noise, picture, moment)
        kept = pilot._within(flow, lambda x, t: noise, (-1.0, 1.0))(x, moment)
        torch.testing.assert_close(kept, noise, atol=2e-3, rtol=0)
        wrong = pilot._within(flow, lambda x, t: noise - 1000, (-1.0, 1.0))(x, moment)
        torch.testing.assert_close(flow.data_estimate(x, wrong, moment), torch.ones(50), atol=1e-2, rtol=0)


def imported(file: Path, found: tuple[Path, ...] = ()) -> tuple[Path, ...]:
    """The file and what it and its like import of `benchmarks` at their tops."""
    found = (*found, file)
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("benchmarks"):
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for path in (ROOT / (name.replace(".", "/") + ".py") for name in names):
                if path.is_file() and path not in found:
                    found = imported(path, found)
    return found


@pytest.mark.parametrize("name", ["attention", "block", "step", "roofline", "sample"])
def test_benchmarks_of_networks_need_only_what_a_gpu_machine_has(name):
    """Imports at the top of the file and of what it shares; diffusers only inside of functions."""
    files = imported(ROOT / f"benchmarks/{name}.py")
    assert ROOT / "benchmarks/measuring/result.py" in files
    allowed = {"torch", "numpy", "benchmarks", "goku_core"} | set(sys.stdlib_module_names)
    rooms = {"models", "transport", "packing"}
    for file in files:
        for node in ast.parse(file.read_text()).body:
            modules = [node.module] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                assert module.split(".")[0] in allowed, f"{file.name}: {module}"
                assert not module.startswith("goku_core.") or module.split(".")[1] in rooms, f"{file.name}: {module}"


def test_scenes_of_plain_shapes_end_where_there_are_no_new_ones() -> None:
    found = list(shapes._scenes(1000, ["single_object", "counting"]))
    looks = [shapes._composition(scene) for _, _, scene in found]
    assert 24 <= len(found) < 2000 and len(found) % 2 == 0
    assert all(len({a, b}) == 2 for a, b in zip(looks[::2], looks[1::2], strict=True))
    assert len(set(looks)) == len(looks)

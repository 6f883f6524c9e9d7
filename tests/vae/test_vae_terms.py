"""The terms of the VAE's loss: right where they can be worked out by hand, and felt by the network they are meant for."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from vae_workspace import TINY, train_vae

from goku_core.models import VideoVAE, VideoVAEConfig
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.vae import Request
from goku_core.vae.discriminator import PatchDiscriminator, adaptive_weight, generator_loss, hinge_loss
from goku_core.vae.perceptual import PerceptualDistance
from goku_core.vae.training import Trained, prepare, train_step

SILENT = {"l1_weight": 0, "l2_weight": 0, "kl_weight": 0, "adversarial": {"weight": 0}}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random ResNet, saved as those on the hub are."""
    from transformers import ResNetConfig, ResNetForImageClassification

    folder = tmp_path_factory.mktemp("resnet")
    torch.manual_seed(0)
    ResNetForImageClassification(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    ).save_pretrained(folder)
    described = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
    (folder / "preprocessor_config.json").write_text(json.dumps(described))
    return folder


def videos() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.rand(2, 3, t, 16, 32, generator=generator) * 2 - 1 for t in (1, 5)]


def begin(**changes: object) -> tuple[Trained, Request]:
    torch.manual_seed(1)
    vae = VideoVAE(VideoVAEConfig(latent_channels=4, width=8, encoder_depth=1, decoder_depth=1))
    request = Request(**{**TINY, "steps": 20, **changes})
    return prepare(vae, request, Context(Path.cwd(), Path.cwd(), Path.cwd())), request


def test_hinge_losses_by_hand() -> None:
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.5])
    assert hinge_loss(real, fake).item() == pytest.approx(0.5 * ((0 + 0.5) / 2 + (0 + 1.5) / 2))
    assert generator_loss(fake).item() == pytest.approx(1.25)
    assert hinge_loss(torch.tensor(1.5), torch.tensor(-1.5)).item() == 0


def test_a_discriminator_without_opinion_loses_one() -> None:
    run, request = begin(adversarial={"weight": 1.0, "width": 8, "depth": 2})
    assert train_step(run, videos(), request, seed=0, step=0)["discriminator"].item() == pytest.approx(1.0)


def test_the_discriminator_learns_to_tell_noise_from_lines() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(width=8, depth=2)
    optimizer = torch.optim.AdamW(discriminator.parameters(), lr=3e-3)
    lines = torch.ones(2, 3, 5, 16, 32)
    lines[..., ::4] = -1
    for _ in range(40):
        loss = hinge_loss(discriminator(lines), discriminator(torch.rand_like(lines) * 2 - 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1
    assert discriminator(lines).mean() > 0.8 and discriminator(torch.rand_like(lines) * 2 - 1).mean() < -0.8


@torch.no_grad()
def test_the_discriminator_takes_pictures_and_clips_one_by_one() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(width=8, depth=3)
    discriminator.logits.weight.normal_()
    for video, frames in zip(videos(), (1, 2), strict=True):
        logits = discriminator(video)
        assert logits.shape == (2, 1, frames, 2, 4)
        assert torch.allclose(discriminator(video[:1]), logits[:1], atol=1e-5)


def test_adaptive_weight_by_hand() -> None:
    layer = torch.zeros(2, requires_grad=True)
    loss, adversarial = (layer * torch.tensor([3.0, 4.0])).sum(), (layer * torch.tensor([0.0, 2.0])).sum()
    assert adaptive_weight(loss, adversarial, layer).item() == pytest.approx(2.5, rel=1e-5)
    assert adaptive_weight(loss, (layer * 0).sum(), layer).item() == 1e4


@pytest.mark.parametrize("term", ["l1_weight", "l2_weight", "perceptual", "adversarial"])
def test_every_term_reaches_the_decoder(term: str, backbone: Path) -> None:
    changes = {
        "perceptual": {"perceptual": {"weight": 1.0, "weights": str(backbone)}},
        "adversarial": {"adversarial": {"weight": 1.0, "adaptive": False, "width": 8, "depth": 2}},
    }.get(term, {term: 1.0})
    run, request = begin(**{**SILENT, **changes})
    for step in range(3):  # the discriminator has no opinion in its first step
        terms = train_step(run, videos(), request, seed=0, step=step)
    for layer in (run.vae.expand, run.vae.decoder_out, run.vae.project):
        assert layer.weight.grad is not None and layer.weight.grad.abs().max() > 0
    assert (term in terms) == (term in ("perceptual", "adversarial"))


def test_kl_reaches_the_encoder_and_nothing_else() -> None:
    run, request = begin(**{**SILENT, "kl_weight": 1.0})
    train_step(run, videos(), request, seed=0, step=0)
    assert run.vae.encoder_out.weight.grad.abs().max() > 0
    assert run.vae.expand.weight.grad.abs().max() == 0


def test_the_discriminator_waits_for_its_step() -> None:
    run, request = begin(adversarial={"weight": 0.5, "start": 2, "width": 8, "depth": 2})
    before = {name: value.clone() for name, value in run.discriminator.state_dict().items()}
    for step in range(3):
        terms = train_step(run, videos(), request, seed=0, step=step)
        moved = any(not torch.equal(value, before[name]) for name, value in run.discriminator.state_dict().items())
        assert moved == (step >= 2) == ("adversarial" in terms)


def test_perceptual_distance_is_one_minus_cosine(backbone: Path) -> None:
    """Of unit vectors the squared difference is 2 - 2 cos: worked out anew from the network's own feature maps."""
    from transformers import ResNetBackbone

    distance = PerceptualDistance(backbone)
    one, other = (videos()[0][n : n + 1, :, 0] for n in (0, 1))
    network = ResNetBackbone.from_pretrained(backbone, out_indices=[1, 2]).eval()
    mean, deviation = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])

    def maps(picture: torch.Tensor) -> list[torch.Tensor]:
        scaled = ((picture + 1) / 2 - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
        return list(network(scaled).feature_maps)

    with torch.no_grad():
        expected = [
            (2 - 2 * F.cosine_similarity(a, b, dim=1)).mean() for a, b in zip(maps(one), maps(other), strict=True)
        ]
    assert len(expected) == 2
    assert distance(one, other).item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-4)
    assert distance(one, one).item() == 0
    assert distance(one, other) == distance(other, one)
    assert not any(parameter.requires_grad for parameter in distance.parameters())


def test_missing_weights_say_how_to_get_them(backbone: Path, kept_media: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(GokuError, match="hf download microsoft/resnet-50"):
        train_vae(kept_media, tmp_path / "none", perceptual={"weight": 1.0, "weights": "weights/resnet-50"})
    for file in backbone.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    save_file(dict(list(weights.items())[3:]), tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(GokuError, match=r"lack \d+ tensors"):
        PerceptualDistance(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(GokuError, match="hf download microsoft/resnet-50"):
        PerceptualDistance(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(GokuError, match="hf download microsoft/resnet-50"):
        PerceptualDistance(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "t5"}')
    with pytest.raises(GokuError, match="t5 gives no feature maps"):
        PerceptualDistance(tmp_path)


def test_the_stage_trains_with_all_terms(kept_media: Path, backbone: Path, tmp_path: Path) -> None:
    report = train_vae(kept_media, tmp_path, steps=20, perceptual={"weight": 0.1, "weights": str(backbone)})
    assert report.psnr > 15
    lines = (tmp_path / "out/models/vae/report/metrics.jsonl").read_text().splitlines()
    last = json.loads(lines[-1])
    assert set(last) == {"step", "loss", "perceptual", "adversarial", "discriminator"} and last["step"] == 20
    assert 0 < last["discriminator"] < 1.5 and last["perceptual"] > 0

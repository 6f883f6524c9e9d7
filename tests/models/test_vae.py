"""The VAE's contract: causal, a picture is a clip of one frame, shapes of the stride."""

import pytest
import torch

from goku_core.models import VideoVAE, VideoVAEConfig
from goku_core.models.vae_config import VAE_CONFIGS
from goku_core.vae import Request


@pytest.fixture(scope="module")
def vae() -> VideoVAE:
    torch.manual_seed(0)
    vae = VideoVAE(VideoVAEConfig(latent_channels=4, width=12, encoder_depth=2, decoder_depth=2)).double().eval()
    with torch.no_grad():
        for parameter in vae.parameters():  # every layer must take part: some start at zero
            parameter.normal_(std=0.2)
        vae.latent_mean.normal_()
        vae.latent_scale.uniform_(0.5, 2.0)
    return vae


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    return torch.rand(2, 3, 17, 16, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_shapes(vae: VideoVAE, clip: torch.Tensor) -> None:
    latent = vae.encode(clip)
    assert latent.shape == (2, 4, 5, 2, 3)
    assert vae.decode(latent).shape == clip.shape
    assert vae.decode(latent[:, :, :1]).shape == (2, 3, 1, 16, 24)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_first_latents_depend_on_the_first_frames_only(vae: VideoVAE, clip: torch.Tensor, k: int) -> None:
    """The first k latent frames see the first 4k-3 frames and nothing later."""
    frames = 4 * k - 3
    other = clip.clone()
    other[:, :, frames:] = torch.rand_like(other[:, :, frames:])
    assert torch.equal(vae.encode(clip)[:, :, :k], vae.encode(other)[:, :, :k])
    assert torch.allclose(vae.encode(clip[:, :, :frames]), vae.encode(clip)[:, :, :k], atol=1e-12)
    other[:, :, frames - 1] = 0
    assert not torch.allclose(vae.encode(clip)[:, :, k - 1], vae.encode(other)[:, :, k - 1])


def test_decoding_is_causal_too(vae: VideoVAE, clip: torch.Tensor) -> None:
    latent = vae.encode(clip)
    assert torch.allclose(vae.decode(latent[:, :, :3]), vae.decode(latent)[:, :, :9], atol=1e-12)


def test_components_reconstruct_what_they_span() -> None:
    """With as many components as dimensions of the data, the untrained network is exact."""
    config = VideoVAEConfig(latent_channels=3, width=8, encoder_depth=1, decoder_depth=1)
    vae = VideoVAE(config).double()
    generator = torch.Generator().manual_seed(3)
    basis = torch.linalg.qr(torch.randn(config.patch_width, 3, generator=generator, dtype=torch.float64))[0].T
    mean = torch.randn(config.patch_width, generator=generator, dtype=torch.float64)
    vae.start_from_components(mean, basis)
    codes = torch.randn(1, 3, 2, 2, 2, generator=generator, dtype=torch.float64)
    patches = torch.einsum("bcthw,cp->bpthw", codes, basis) + mean[None, :, None, None, None]
    mean_code = vae.project(patches) + vae.encoder_out(vae.encoder(vae.encoder_in(patches))).chunk(2, dim=1)[0]
    assert torch.allclose(mean_code, codes, atol=1e-10)
    assert torch.allclose(vae.expand(mean_code), patches, atol=1e-10)


@pytest.mark.parametrize(("frames", "height"), [(16, 16), (17, 20)])
def test_sizes_that_do_not_fit_are_refused(vae: VideoVAE, frames: int, height: int) -> None:
    with pytest.raises(ValueError, match=r"need 4k|multiples of 8"):
        vae.encode(torch.zeros(1, 3, frames, height, 24, dtype=torch.float64))


def test_sizes_by_name() -> None:
    """Counted by hand from the layers: a residual block is one 3x3x3 and one 1x1x1 convolution and a norm."""
    config = VAE_CONFIGS["full"]
    p, c, d = 768, 16, 768
    block = 27 * d * d + d + d * d + d + d
    ends = (p * c + c) + (p * d + d) + (d * 2 * c + 2 * c) + (c * p + p) + (27 * c * d + d) + (d * p + p)
    with torch.device("meta"):
        full, small = VideoVAE(config), VideoVAE(VAE_CONFIGS["small"])
    assert sum(x.numel() for x in full.parameters()) == 12 * block + ends == pytest.approx(0.2e9, rel=0.01)
    assert sum(x.numel() for x in small.parameters()) < 1e6
    assert full.config.latent_shape(97, 720, 1280) == (25, 90, 160)


def test_the_small_size_is_what_the_stage_trains_by_default() -> None:
    small, default = VAE_CONFIGS["small"], Request()
    for key in ("latent_channels", "width", "encoder_depth", "decoder_depth"):
        assert getattr(small, key) == getattr(default, key)

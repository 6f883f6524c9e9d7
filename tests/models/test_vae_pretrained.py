"""Pretrained VAEs behind the platform's interface, against diffusers' own encode and decode, on tiny random ones made here."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("diffusers", reason="pretrained VAEs need the extra `pretrained`")

from pretrained_vaes import KINDS, MEAN, SCALING, STD, make

from goku_core.models.folders import load_vae
from goku_core.models.vae_pretrained import WEIGHTS, PretrainedVAE, from_weights
from goku_core.models.vae_tiles import Tiles


@pytest.fixture(scope="module", params=list(KINDS))
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """(name, ours, diffusers' own)"""
    folder = tmp_path_factory.mktemp(request.param)
    own = make(request.param, folder)
    return request.param, from_weights(KINDS[request.param], str(folder)), own


def clip(frames: int, height: int = 32, width: int = 48) -> torch.Tensor:
    return torch.rand(1, 3, frames, height, width, generator=torch.Generator().manual_seed(frames)) * 2 - 1


def normalised(name: str, raw: torch.Tensor) -> torch.Tensor:
    """As the pipelines of diffusers do it."""
    if name == "cogvideox":
        return raw * SCALING
    mean, std = (torch.tensor(values).view(1, 4, 1, 1, 1) for values in (MEAN, STD))
    return (raw - mean) * (1.0 / std)


@pytest.mark.parametrize("frames", [1, 9, 17])
@torch.no_grad()
def test_encode_and_decode_are_those_of_diffusers(both, frames: int) -> None:
    name, vae, own = both
    video = clip(frames)
    posterior = own.encode(video).latent_dist
    mean, log_variance = vae.posterior(video)
    close = {"atol": 1e-5, "rtol": 0}  # not bits: in 2x2 patches the same values lie differently in memory
    torch.testing.assert_close(mean, posterior.mean, **close)
    torch.testing.assert_close(log_variance, posterior.logvar, **close)
    latent = vae.encode(video)
    assert latent.shape == (1, vae.config.latent_channels, *vae.config.latent_shape(*video.shape[2:]))
    torch.testing.assert_close(latent, normalised(name, posterior.mode()), **close)
    torch.testing.assert_close(vae.decode_raw(mean), own.decode(mean).sample, **close)
    torch.testing.assert_close(vae.decode(latent), own.decode(posterior.mode()).sample, atol=1e-5, rtol=0)
    assert vae.decode(latent).shape == video.shape


@pytest.mark.parametrize("frames", [1, 17])
@torch.no_grad()
def test_streams_are_the_whole(both, frames: int) -> None:
    _, vae, _ = both
    video = clip(frames)
    latent = vae.encode(video)
    encoded = list(vae.encode_stream(iter(video.split(3, dim=2))))
    torch.testing.assert_close(torch.cat(encoded, dim=2), latent, atol=1e-5, rtol=0)
    decoded = list(vae.decode_stream(iter(latent.split(1, dim=2))))
    torch.testing.assert_close(torch.cat(decoded, dim=2), vae.decode(latent), atol=1e-5, rtol=0)
    assert len(encoded) > 1 or frames < 16


@torch.no_grad()
def test_causality(both) -> None:
    """Wan: latent k sees the first 4k-3 frames. CogVideoX: a piece of 8 frames sees itself and what came before it."""
    name, vae, _ = both
    video = clip(17, 32, 32)
    latent = vae.encode(video)
    for k in (1, 2, 3, 4):
        frames = 4 * k - 3
        other = video.clone()
        other[:, :, frames:] = torch.rand_like(other[:, :, frames:])
        unmoved = torch.equal(vae.encode(other)[:, :, :k], latent[:, :, :k])
        assert unmoved == (name != "cogvideox" or k == 3)  # the first piece, 9 frames, ends with latent 3
        other = video.clone()
        other[:, :, frames - 1] = 0
        assert not torch.equal(vae.encode(other)[:, :, k - 1], latent[:, :, k - 1])
    changed = latent.clone()
    changed[:, :, 3:] = 0
    assert torch.equal(vae.decode(changed)[:, :, :9], vae.decode(latent)[:, :, :9])
    assert not torch.equal(vae.decode(changed)[:, :, 9:], vae.decode(latent)[:, :, 9:])


@torch.no_grad()
def test_a_picture_and_the_first_frame_of_a_clip(both) -> None:
    """The same latent in Wan. Near, but not the same in CogVideoX, whose group norm sees the other frames of the piece."""
    name, vae, _ = both
    video = clip(17)
    picture, first = vae.encode(video[:, :, :1]), vae.encode(video)[:, :, :1]
    assert torch.allclose(picture, first, atol=1e-6) == (name != "cogvideox")
    assert vae.decode(picture).shape == (1, 3, 1, 32, 48)


@torch.no_grad()
def test_one_tile_is_the_whole_and_several_cover_it(both) -> None:
    _, vae, _ = both
    video = clip(1, 64, 96)
    latent = vae.encode(video)
    assert torch.equal(vae.encode_tiled(video, Tiles(12, 12, 4)), latent)
    tiled = vae.decode_tiled(latent, Tiles(4, 6, 2))
    assert tiled.shape == video.shape and torch.isfinite(tiled).all()


@torch.no_grad()
def test_a_published_folder_gives_the_same_bits(both, tmp_path: Path) -> None:
    name, vae, _ = both
    save_file({key: value.contiguous() for key, value in vae.state_dict().items()}, tmp_path / "model.safetensors")
    config = {"kind": "goku-vae", "vae": vae.config.to_json()}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = load_vae(tmp_path)
    assert isinstance(loaded, PretrainedVAE) and loaded.config == vae.config
    assert loaded.config.stride == (4, 16, 16) if name == "wan2.2" else (4, 8, 8)
    latent = vae.encode(clip(9))
    assert torch.equal(loaded.encode(clip(9)), latent) and torch.equal(loaded.decode(latent), vae.decode(latent))


@pytest.mark.parametrize("frames", [5, 13])
@torch.no_grad()
def test_any_4k_plus_1_frames(both, frames: int) -> None:
    """What the line's contract asks for; the decoder of CogVideoX returns 4 frames too many there, so it is refused."""
    name, vae, own = both
    if name != "cogvideox":
        assert vae.decode(vae.encode(clip(frames))).shape[2] == frames
        return
    mean = own.encode(clip(frames)).latent_dist.mean
    assert own.decode(mean).sample.shape[2] == frames + 3
    with pytest.raises(ValueError, match=f"{frames} frames: the VAE of CogVideoX needs 8k"):
        vae.encode(clip(frames))
    with pytest.raises(ValueError, match="odd number of latent frames"):
        vae.decode(mean)


def test_folder_of_a_pipeline_and_half_precision(tmp_path: Path) -> None:
    """As on the hub: the VAE lies in vae/, CogVideoX's in 16 bits; here it computes in 32."""
    own = make("cogvideox", tmp_path / "pipeline/vae")
    weights = tmp_path / "pipeline/vae" / WEIGHTS
    save_file({key: value.bfloat16() for key, value in load_file(weights).items()}, weights)
    vae = from_weights("cogvideox", str(tmp_path / "pipeline"))
    assert {value.dtype for value in vae.state_dict().values()} == {torch.float32}
    found = vae.network.encoder.conv_in.conv.weight
    assert torch.equal(found, own.encoder.conv_in.conv.weight.bfloat16().float())


def test_what_is_wrong_with_the_weights_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make("wan", tmp_path / "wan")
    with pytest.raises(ValueError, match=r"holds AutoencoderKLWan, vae\.kind cogvideox is AutoencoderKLCogVideoX"):
        from_weights("cogvideox", str(tmp_path / "wan"))
    described = (tmp_path / "wan/config.json").read_text()
    shorter = json.dumps({**json.loads(described), "latents_mean": [0.0, 0.0]})
    (tmp_path / "wan/config.json").write_text(shorter)
    with pytest.raises(ValueError, match="statistics of 2 channels, the latent has 4"):
        from_weights("wan", str(tmp_path / "wan"))
    (tmp_path / "wan/config.json").write_text(described)
    whole = load_file(tmp_path / "wan" / WEIGHTS)
    save_file(dict(list(whole.items())[1:]), tmp_path / "wan" / WEIGHTS)
    with pytest.raises(ValueError, match="does not fit the config"):
        from_weights("wan", str(tmp_path / "wan"))
    (tmp_path / "wan" / WEIGHTS).write_bytes(b"cut off")
    with pytest.raises(ValueError, match="does not fit the config"):
        from_weights("wan", str(tmp_path / "wan"))
    (tmp_path / "wan" / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match="holds neither"):
        from_weights("wan", str(tmp_path / "wan"))
    with pytest.raises(FileNotFoundError, match=r"hf download THUDM/CogVideoX-2b --include"):
        from_weights("cogvideox", "weights/cogvideox")
    monkeypatch.setitem(sys.modules, "diffusers", None)
    make_nothing = tmp_path / "empty"
    make_nothing.mkdir()
    (make_nothing / "config.json").write_text('{"_class_name": "AutoencoderKLWan"}')
    (make_nothing / WEIGHTS).write_bytes(b"")
    with pytest.raises(ModuleNotFoundError, match=r'pip install -c constraints.txt -e "\.\[pretrained\]"'):
        from_weights("wan", str(make_nothing))


def test_the_full_size_costs_a_fifteenth_of_cogvideox() -> None:
    """The claim of vae_config.py: as many parameters, counted arithmetic on the meta device."""
    import diffusers
    from torch.utils.flop_counter import FlopCounterMode

    from goku_core.models import VideoVAE
    from goku_core.models.vae_config import VAE_CONFIGS

    def count(network: torch.nn.Module) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network.encode(torch.zeros(1, 3, 17, 64, 64, device="meta"))
            network.decode(torch.zeros(1, 16, 5, 8, 8, device="meta"))
        return counter.get_total_flops()

    with torch.device("meta"):
        ours, peer = VideoVAE(VAE_CONFIGS["full"]), diffusers.AutoencoderKLCogVideoX()
    sizes = [sum(p.numel() for p in network.parameters()) for network in (ours, peer)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)
    assert count(peer) / count(ours) == pytest.approx(15, abs=1)

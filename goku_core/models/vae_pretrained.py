"""Pretrained VAEs behind the interface of our own: CogVideoX (the one the paper took, section 2.1) and Wan, networks by diffusers.

What holds of each, as diffusers runs it (tested):

wan         causal frame by frame: first one frame alone, then four at a time; a picture is the first latent frame of a clip.
            Its attention looks at the whole picture, so tiles only approximate.
cogvideox   causal from piece to piece (9 frames, then 8 at a time), not within one: its group norm averages over the frames of a
            piece. So a picture is not exactly the first latent frame of a clip, and tiles only approximate. Clips have 8k + 1
            frames: the decoder doubles all but the first frame of an odd number, and of an even number all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from goku_core.models.vae_config import Kind, PretrainedVAEConfig
from goku_core.models.vae_interface import CausalVAE, Past

WEIGHTS = "diffusion_pytorch_model.safetensors"
CLASSES = {"cogvideox": "AutoencoderKLCogVideoX", "wan": "AutoencoderKLWan"}
HUB = {"cogvideox": "THUDM/CogVideoX-2b", "wan": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"}
MISSING = (
    'VAE weights "{name}" are not here. Download them where the hub can be reached, for example\n'
    '  hf download {hub} --include "vae/*" --local-dir weights/{kind}\n'
    "and set vae.weights to that folder; or use vae.kind: trained, which needs no download."
)
NOT_INSTALLED = (
    'vae.kind {kind} needs diffusers, which is not installed: pip install -c constraints.txt -e ".[pretrained]"'
)


class PretrainedVAE(CausalVAE):
    """A network of diffusers, in float32, with the statistics that its authors give for the latent."""

    def __init__(self, config: PretrainedVAEConfig) -> None:
        """Without weights. Raises ModuleNotFoundError where diffusers is not installed."""
        super().__init__(config)
        self.config: PretrainedVAEConfig = config
        self.network = _network(config.kind, config.network)
        mean, scale = self._statistics()
        self.register_buffer("latent_mean", mean)
        self.register_buffer("latent_scale", scale)

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and scale per channel, in units of the raw latent."""
        raise NotImplementedError


class WanVAE(PretrainedVAE):
    encode_pieces, decode_pieces = (1, 4), (1, 1)

    def _statistics(self) -> tuple[Tensor, Tensor]:
        network = self.network.config
        return torch.tensor(network.latents_mean), torch.tensor(network.latents_std)

    def encode_step(self, video: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        from diffusers.models.autoencoders.autoencoder_kl_wan import patchify

        if self.network.config.patch_size is not None:
            video = patchify(video, self.network.config.patch_size)
        cache = past.kept.setdefault("encoder", _empty_cache(self.network.encoder))
        code = self.network.quant_conv(self.network.encoder(video, feat_cache=cache, feat_idx=[0]))
        return _moments(code)

    def decode_step(self, raw: Tensor, past: Past) -> Tensor:
        from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

        cache = past.kept.setdefault("decoder", _empty_cache(self.network.decoder))
        code = self.network.post_quant_conv(raw)
        video = self.network.decoder(code, feat_cache=cache, feat_idx=[0], first_chunk=past.first)
        if self.network.config.patch_size is not None:
            video = unpatchify(video, self.network.config.patch_size)
        return video.clamp(-1.0, 1.0)


class CogVideoXVAE(PretrainedVAE):
    encode_pieces, decode_pieces = (9, 8), (3, 2)

    def _statistics(self) -> tuple[Tensor, Tensor]:
        network = self.network.config
        channels = self.config.latent_channels
        mean = torch.full((channels,), float(network.shift_factor or 0.0))
        return mean, torch.full((channels,), 1.0 / network.scaling_factor)

    def encode_step(self, video: Tensor, past: Past) -> tuple[Tensor, Tensor]:
        code, past.kept["encoder"] = self.network.encoder(video, conv_cache=past.kept.get("encoder"))
        if self.network.quant_conv is not None:
            code = self.network.quant_conv(code)
        return _moments(code)

    def decode_step(self, raw: Tensor, past: Past) -> Tensor:
        if (raw.shape[2] % 2 == 1) != past.first:
            raise ValueError(
                "CogVideoX decodes an odd number of latent frames (clips of 8k + 1 frames), this is an even one"
            )
        if self.network.post_quant_conv is not None:
            raw = self.network.post_quant_conv(raw)
        video, past.kept["decoder"] = self.network.decoder(raw, conv_cache=past.kept.get("decoder"))
        return video


def build(config: PretrainedVAEConfig) -> PretrainedVAE:
    """The network of a config, without memory for its weights yet: `load_state_dict(..., assign=True)` gives them."""
    with torch.device("meta"):
        return {"cogvideox": CogVideoXVAE, "wan": WanVAE}[config.kind](config)


def from_weights(kind: Kind, weights: str) -> PretrainedVAE:
    """The VAE of a local folder or of the hub, ready for encoding and decoding, in float32.

    weights   folder of the VAE, folder of a pipeline with vae/ in it, or the hub name of either

    Raises FileNotFoundError saying how to get the weights, ModuleNotFoundError where diffusers is not installed, and ValueError
    where the folder holds another network, or weights that do not fit its config.json.
    """
    folder = _folder(kind, weights)
    try:
        described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder / 'config.json'} is not JSON: {error}") from error
    if described.get("_class_name") != CLASSES[kind]:
        raise ValueError(
            f"{folder / 'config.json'}: holds {described.get('_class_name')}, vae.kind {kind} is {CLASSES[kind]}"
        )
    network = {key: value for key, value in described.items() if not key.startswith("_")}
    with torch.device("meta"):
        probe = _network(kind, network)
    # Defaults that the file leaves out are written down: another version of diffusers may have others.
    network = {key: value for key, value in json.loads(probe.to_json_string()).items() if not key.startswith("_")}
    vae = build(PretrainedVAEConfig(kind, network, *_shape(kind, probe.config)))
    try:
        state = {name: value.float() for name, value in load_file(folder / WEIGHTS).items()}
        vae.network.load_state_dict(state, assign=True)
    except (SafetensorError, RuntimeError) as error:
        raise ValueError(f"{folder / WEIGHTS} does not fit the config.json beside it: {error}") from error
    vae.latent_mean, vae.latent_scale = vae._statistics()
    for values in (vae.latent_mean, vae.latent_scale):
        if values.shape != (vae.config.latent_channels,):
            raise ValueError(
                f"{folder / 'config.json'}: statistics of {len(values)} channels, the latent has {vae.config.latent_channels}"
            )
    return vae.eval().requires_grad_(False)


def _network(kind: Kind, config: dict[str, Any]) -> Any:
    try:
        import diffusers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(NOT_INSTALLED.format(kind=kind)) from error
    return getattr(diffusers, CLASSES[kind]).from_config(config)


def _shape(kind: Kind, network: Any) -> tuple[int, tuple[int, int, int]]:
    """Latent channels and stride. Raises ValueError where the stride in time is not 4, which the pieces rest on."""
    if kind == "wan":
        channels = network.z_dim
        time = 2 ** sum(network.temperal_downsample)
        space = 2 ** (len(network.dim_mult) - 1) * (network.patch_size or 1)
    else:
        channels = network.latent_channels
        time = int(network.temporal_compression_ratio)
        space = 2 ** (len(network.block_out_channels) - 1)
    if time != 4:
        raise ValueError(f"{CLASSES[kind]} with a stride of {time} in time: only 4 is supported")
    return channels, (time, space, space)


def _moments(code: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_variance = code.chunk(2, dim=1)
    return mean, log_variance.clamp(-30.0, 20.0)


def _empty_cache(half: torch.nn.Module) -> list[Any]:
    """One place for each causal convolution, in the order in which the network passes them."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d

    return [None] * sum(isinstance(module, WanCausalConv3d) for module in half.modules())


def _folder(kind: Kind, weights: str) -> Path:
    """The folder with config.json and weights, downloaded from the hub where it is not here yet (asked once, by its own client)."""
    missing = MISSING.format(name=weights, hub=HUB[kind], kind=kind)
    if not (place := Path(weights)).is_dir():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError

        wanted = [f"{folder}{name}" for folder in ("", "vae/") for name in ("config.json", WEIGHTS)]
        try:
            place = Path(snapshot_download(weights, allow_patterns=wanted))
        except (OSError, ValueError, HfHubHTTPError) as error:
            raise FileNotFoundError(missing) from error
    for folder in (place, place / "vae"):
        if (folder / "config.json").is_file() and (folder / WEIGHTS).is_file():
            return folder
    raise FileNotFoundError(f"{place} holds neither config.json with {WEIGHTS} nor vae/ with both.\n{missing}")

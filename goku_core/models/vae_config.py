"""Shapes of the VAEs, by name, and of pretrained ones. Plain data: no torch import."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from goku_core.models.config import VideoVAEConfig

Kind = Literal["cogvideox", "wan"]

# small: reaches 30 dB on the sample corpus within a minute on two CPU cores.
# full: our choice, the paper took a finished VAE. As wide as a patch has values (3*4*8*8 = 768), so that the first layer loses
# nothing; a decoder twice as deep as the encoder, because it has to invent what 16 channels cannot hold; 0.2e9 parameters, as many
# as the VAE of CogVideoX has. All convolutions run on the latent grid, so that it needs a fifteenth of the arithmetic: counted for
# 17 frames of 256x256 px, there and back, 2.0 TFLOP; CogVideoX 30.9, Wan 15.3. Its quality is not measured: nobody has trained it.
VAE_CONFIGS: dict[str, VideoVAEConfig] = {
    "small": VideoVAEConfig(latent_channels=16, width=64, encoder_depth=1, decoder_depth=3),
    "full": VideoVAEConfig(latent_channels=16, width=768, encoder_depth=4, decoder_depth=8),
}


@dataclass(frozen=True)
class PretrainedVAEConfig:
    """A VAE whose network is that of diffusers.

    kind              "cogvideox" (AutoencoderKLCogVideoX, the VAE the paper took) or "wan" (AutoencoderKLWan)
    network           the network's own config.json
    latent_channels   channels of the latent
    stride            frames, rows and columns of pixels per latent cell
    """

    kind: Kind
    network: dict[str, Any]
    latent_channels: int
    stride: tuple[int, int, int]

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Latent frames, rows, columns of a clip. Raises ValueError where the clip does not fit the stride."""
        if self.kind == "cogvideox" and (frames - 1) % 8:
            raise ValueError(f"{frames} frames: the VAE of CogVideoX needs 8k + 1 (for example 1, 9, 17, 49)")
        return VideoVAEConfig(stride=self.stride).latent_shape(frames, height, width)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> PretrainedVAEConfig:
        return PretrainedVAEConfig(**{**data, "stride": tuple(data["stride"])})

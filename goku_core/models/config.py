"""Shapes of the networks, by name. Plain data: no torch import, so that forms and plans can read them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class GokuConfig:
    """Shape of a Goku transformer (paper Table 1, sections 2.2 and 2.5).

    depth, width, heads, ffn   layers, model width, attention heads, width of the feed-forward layer
    latent_channels            channels C of the VAE's latent
    text_width                 width of a text token (2048 for Flan-T5-XL); 0 for a network without text
    classes                    number of class labels, for the class-conditional pilot (paper Table 2); 0 for none. Label
                               `classes` itself is the null label of classifier-free guidance
    patch                      latent patch (time, height, width). Our choice 1x2x2: the paper is silent, its longest
                               sequence of 220 k tokens fits no other size
    image_condition            adds the projection of the first-frame latent (image-to-video, paper section 2.5)
    rope_base                  our choice 10000, the value of the field
    position                   where a token stands: "rope" (paper section 2.2), or "sinusoidal", added to the embedded tokens as in
                               DiT, which the paper compares with
    qk_norm                    RMSNorm on queries and keys (paper section 2.2); false to see what it is for
    """

    depth: int
    width: int
    heads: int
    ffn: int
    latent_channels: int = 16
    text_width: int = 2048
    classes: int = 0
    patch: tuple[int, int, int] = (1, 2, 2)
    image_condition: bool = False
    rope_base: float = 10000.0
    position: Literal["rope", "sinusoidal"] = "rope"
    qk_norm: bool = True

    def __post_init__(self) -> None:
        if self.position not in ("rope", "sinusoidal"):
            raise ValueError(f"position '{self.position}': rope or sinusoidal")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")
        if (self.width // self.heads) % 2:
            raise ValueError(f"head width {self.width // self.heads} must be even for rotary embedding")

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def token_width(self) -> int:
        """Values in one token: C * patch volume."""
        t, h, w = self.patch
        return self.latent_channels * t * h * w

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> GokuConfig:
        return GokuConfig(**{**data, "patch": tuple(data["patch"])})


# Paper Table 1; 1b is the network of its pilot, on the classes of ImageNet. The -h128 variants keep the parameter count and
# give attention kernels a head width of 128 (our choice).
CONFIGS: dict[str, GokuConfig] = {
    "nano": GokuConfig(depth=6, width=192, heads=3, ffn=768, text_width=192),
    "1b": GokuConfig(depth=28, width=1152, heads=16, ffn=4608, text_width=0, classes=1000),
    "2b": GokuConfig(depth=28, width=1792, heads=28, ffn=7168),
    "8b": GokuConfig(depth=40, width=3072, heads=48, ffn=12288),
    "2b-h128": GokuConfig(depth=28, width=1792, heads=14, ffn=7168),
    "8b-h128": GokuConfig(depth=40, width=3072, heads=24, ffn=12288),
}


@dataclass(frozen=True)
class VideoVAEConfig:
    """Shape of the joint image-video VAE (paper section 2.1: stride 8x8 in space, 4 in time, causal).

    The first layer takes whole 4x8x8 patches, so that all convolutions run on the small latent grid: our choice, because
    it reaches 30 dB within a minute on two CPU cores; a picture counts as a clip of one frame.
    """

    latent_channels: int = 16
    width: int = 128
    encoder_depth: int = 2
    decoder_depth: int = 4
    stride: tuple[int, int, int] = (4, 8, 8)

    @property
    def patch_width(self) -> int:
        t, h, w = self.stride
        return 3 * t * h * w

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int]:
        """Latent frames, rows, columns of a clip. Raises ValueError where the clip does not fit the stride."""
        t, h, w = self.stride
        if (frames - 1) % t or frames < 1:
            raise ValueError(f"{frames} frames: need {t}k + 1 (for example 1, {t + 1}, {4 * t + 1})")
        if height % h or width % w:
            raise ValueError(f"{height}x{width} px: both sides must be multiples of {h} and {w}")
        return (frames - 1) // t + 1, height // h, width // w

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> VideoVAEConfig:
        return VideoVAEConfig(**{**data, "stride": tuple(data["stride"])})

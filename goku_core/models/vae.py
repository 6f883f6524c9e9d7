"""Joint causal VAE for pictures and clips (paper section 2.1): stride 8x8 in space and 4 in time, a picture is a clip of one frame.

Causal: the first k latent frames depend on the first 4k-3 frames only. The first frame stands alone (as if it had been shown
four times), every later latent frame covers four frames.

Shapes: B clips, T frames, H x W pixels; latent (B, C, (T-1)/4+1, H/8, W/8). Pixels are float in [-1, 1].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goku_core.models.config import VideoVAEConfig
from goku_core.models.vae_interface import CausalVAE, Past

STREAM = 4  # latent frames of a piece in a stream: enough work per step, and 16 frames of pixels in memory (our choice)


class CausalConv(nn.Module):
    """3x3x3 convolution that sees this and the two latent frames before; the past of the first frame is the first frame."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels_in, channels_out, kernel_size=3, padding=(0, 1, 1))

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """`past` holds what a piece before this one ended with; None: x is the whole clip."""
        if past is None or past.first:
            before = x[:, :, :1].expand(-1, -1, 2, -1, -1)
        else:
            before = past.kept[self]
        x = torch.cat((before, x), dim=2)
        if past is not None:
            past.kept[self] = x[:, :, -2:].clone()  # a view would keep the whole piece in memory
        return self.conv(x)


class ChannelNorm(nn.Module):
    """RMS over channels at each place: unlike group norm it mixes neither places nor frames, so causality holds."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        scale = torch.rsqrt(x.square().mean(dim=1, keepdim=True) + 1e-6)
        return x * scale * self.weight[:, None, None, None]


class ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.conv1 = CausalConv(channels, channels)
        self.conv2 = nn.Conv3d(channels, channels, kernel_size=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(self.norm(x), past)))


class VideoVAE(CausalVAE):
    """Each half is a linear map of whole 4x8x8 patches plus a convolutional correction that starts at zero.

    `start_from_components` sets the linear maps to principal components, from which training starts at 27 to 29 dB.
    """

    def __init__(self, config: VideoVAEConfig) -> None:
        super().__init__(config)
        self.config: VideoVAEConfig = config
        self.encoder_reach, self.decoder_reach = config.encoder_depth, config.decoder_depth + 1
        t = config.stride[0]
        self.encode_pieces, self.decode_pieces = ((STREAM - 1) * t + 1, STREAM * t), (STREAM, STREAM)
        p, c, d = config.patch_width, config.latent_channels, config.width
        self.project = nn.Conv3d(p, c, kernel_size=1)
        self.encoder_in = nn.Conv3d(p, d, kernel_size=1)
        self.encoder = nn.Sequential(*(ResidualBlock(d) for _ in range(config.encoder_depth)))
        self.encoder_out = nn.Conv3d(d, 2 * c, kernel_size=1)
        self.expand = nn.Conv3d(c, p, kernel_size=1)
        self.decoder_in = CausalConv(c, d)
        self.decoder = nn.Sequential(*(ResidualBlock(d) for _ in range(config.decoder_depth)))
        self.decoder_out = nn.Conv3d(d, p, kernel_size=1)
        for layer in (self.encoder_out, self.decoder_out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.encoder_out.bias[c:], -6.0)  # log variance: starts as a nearly exact code
        self.register_buffer("latent_mean", torch.zeros(c))
        self.register_buffer("latent_scale", torch.ones(c))

    def posterior(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (B, 3, T, H, W) -> mean and log variance of the raw latent, each (B, C, (T-1)/4+1, H/8, W/8).

        Raises ValueError where the clip does not fit the stride.
        """
        return self.encode_step(video)

    def decode_raw(self, raw: Tensor) -> Tensor:
        """The decoder itself, on latents as the posterior gives them; pixels are not clamped."""
        return self.decode_step(raw)

    def encode_step(self, video: Tensor, past: Past | None = None) -> tuple[Tensor, Tensor]:
        patches = self.to_patches(video, first=past is None or past.first)
        x = self.encoder_in(patches)
        for block in self.encoder:
            x = block(x, past)
        correction, log_variance = self.encoder_out(x).chunk(2, dim=1)
        return self.project(patches) + correction, log_variance.clamp(-12.0, 4.0)

    def decode_step(self, raw: Tensor, past: Past | None = None) -> Tensor:
        x = self.decoder_in(raw, past)
        for block in self.decoder:
            x = block(x, past)
        return self._to_video(self.expand(raw) + self.decoder_out(x), first=past is None or past.first)

    def to_patches(self, video: Tensor, first: bool = True) -> Tensor:
        """(B, 3, T, H, W) -> (B, 3*4*8*8, (T-1)/4+1, H/8, W/8); the first frame fills a whole patch in time.

        first   whether the clip begins here; else T is a multiple of 4 and every four frames are one patch
        """
        t, h, w = self.config.stride
        if first:
            self.config.latent_shape(*video.shape[2:])
            video = torch.cat((video[:, :, :1].expand(-1, -1, t - 1, -1, -1), video), dim=2)
        depth, rows, columns = video.shape[2] // t, video.shape[3] // h, video.shape[4] // w
        x = video.reshape(-1, 3, depth, t, rows, h, columns, w)
        return x.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(-1, self.config.patch_width, depth, rows, columns)

    def _to_video(self, patches: Tensor, first: bool) -> Tensor:
        """Inverse of `to_patches`; the four copies of the first frame are averaged into one."""
        t, h, w = self.config.stride
        depth, rows, columns = patches.shape[2:]
        x = patches.reshape(-1, 3, t, h, w, depth, rows, columns).permute(0, 1, 5, 2, 6, 3, 7, 4)
        if not first:
            return x.reshape(len(patches), 3, depth * t, rows * h, columns * w)
        alone = x[:, :, :1].mean(dim=3).reshape(len(patches), 3, 1, rows * h, columns * w)
        rest = x[:, :, 1:].reshape(len(patches), 3, (depth - 1) * t, rows * h, columns * w)
        return torch.cat((alone, rest), dim=2)

    @torch.no_grad()
    def start_from_components(self, mean: Tensor, components: Tensor) -> None:
        """Sets the linear maps from the mean (P,) and orthonormal components (C, P) of patches in the order of the network."""
        c, p = components.shape
        self.project.weight.copy_(components.reshape(c, p, 1, 1, 1))
        self.project.bias.copy_(-components @ mean)
        self.expand.weight.copy_(components.T.reshape(p, c, 1, 1, 1))
        self.expand.bias.copy_(mean)

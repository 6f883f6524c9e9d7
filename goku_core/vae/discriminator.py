"""The adversarial term: a 3D patch discriminator for pictures and clips, and the hinge loss of both sides."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """One logit per patch of space and time: above 0 says "from the data".

    Every layer halves height and width, all but the first one also time; a picture is a clip of one frame, whose time stays 1.
    Group norm is our choice: batch norm would let the other samples of a batch decide, and a batch of clips is often one clip.
    """

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv3d(3, width, (3, 4, 4), (1, 2, 2), 1), nn.LeakyReLU(0.2)]
        for level in range(1, depth):
            before, after = (width * min(2**n, 8) for n in (level - 1, level))
            layers += [
                nn.Conv3d(before, after, (3, 4, 4), (2, 2, 2), 1, bias=False),
                nn.GroupNorm(8, after),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers)
        self.logits = nn.Conv3d(width * min(2 ** (depth - 1), 8), 1, 3, padding=1)
        # No opinion at the start: the first gradients do not depend on chance.
        nn.init.zeros_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)

    def forward(self, video: Tensor) -> Tensor:
        """Pixels (B, 3, T, H, W) in [-1, 1] -> logits (B, 1, t, h, w)."""
        return self.logits(self.layers(video))


def hinge_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Loss of the discriminator: 0 where it is sure of both (logits beyond 1 and -1), 1 where it has no opinion."""
    return 0.5 * (F.relu(1.0 - real).mean() + F.relu(1.0 + fake).mean())


def generator_loss(fake: Tensor) -> Tensor:
    """Loss of the decoder: it wants its pictures taken for data."""
    return -fake.mean()


def adaptive_weight(loss: Tensor, adversarial: Tensor, last_layer: Tensor) -> Tensor:
    """Ratio of the two losses' gradients at the decoder's last layer (VQGAN, arXiv 2012.09841, equation 7), at most 1e4."""
    (wanted,) = torch.autograd.grad(loss, last_layer, retain_graph=True)
    (given,) = torch.autograd.grad(adversarial, last_layer, retain_graph=True)
    return (wanted.norm() / (given.norm() + 1e-6)).clamp(max=1e4).detach()

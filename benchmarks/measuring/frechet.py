"""Frechet distance between two sets of pictures, over features made for these pictures. Not FID: no Inception network.

Two kinds of features (our choice, because pictures of one shape are nothing an ImageNet network was made for): those of
a small classifier that this run trains on real pictures to name the class, which see shape and colour; and those of a
network of the same form at random weights, which see everything a little, the ground too. 64 of each, so that a
thousand pictures suffice for the covariance.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 64


class Classifier(nn.Module):
    """Pictures (S, 3, H, W) -> class scores; `features` (S, FEATURES) are what the last layer reads."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        widths = (3, 32, 64, FEATURES)
        self.body = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(8, b), nn.GELU())
                for a, b in pairwise(widths)
            )
        )
        self.head = nn.Linear(FEATURES, classes)

    def features(self, pictures: Tensor) -> Tensor:
        return self.body(pictures).mean(dim=(2, 3))

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.features(pictures))


def train_classifier(pictures: Tensor, labels: Tensor, classes: int, steps: int, seed: int) -> Classifier:
    """Trained on pictures (n, 3, H, W) with labels (n,)."""
    draws = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    model = Classifier(classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randint(len(pictures), (128,), generator=draws)
        loss = F.cross_entropy(model(pictures[chosen]), labels[chosen])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
    return model.eval().requires_grad_(False)


def random_network(classes: int, seed: int) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(classes).eval().requires_grad_(False)


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of the Gaussians that fit features (n, D) and (m, D); at least 2 rows each.

    The trace of the root is that of the symmetric (C1^(1/2) C2 C1^(1/2))^(1/2), by eigenvalues in float64.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError(f"a covariance needs at least 2 pictures, got {len(first)} and {len(second)}")
    first, second = first.double(), second.double()
    mean = (first.mean(0) - second.mean(0)).square().sum()
    one, two = first.T.cov(), second.T.cov()
    values, vectors = torch.linalg.eigh(one)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ two @ root).clamp(min=0).sqrt().sum()
    return float(mean + one.trace() + two.trace() - 2 * cross)

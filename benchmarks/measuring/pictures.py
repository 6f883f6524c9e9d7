"""Pictures of one coloured shape, drawn as the sample corpus draws its own; the class is shape and colour."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from goku_core.scenes.draw import draw
from goku_core.scenes.scene import sample_scene
from goku_core.scenes.vocabulary import COLORS, SHAPES

CLASSES = [(shape, color) for shape in SHAPES for color in COLORS]


def pictures(number: int, side: int, seed: int) -> tuple[Tensor, Tensor]:
    """float32 (n, 3, side, side) in [-1, 1] and class (n,) int64. Square and without grain; else as the corpus."""
    rng = np.random.default_rng(seed)
    drawn, labels = np.empty((number, side, side, 3), np.uint8), np.empty(number, np.int64)
    for index in range(number):
        scene = sample_scene(rng, "colors")
        thing = scene.things[0]
        drawn[index] = draw(scene, side, side)
        labels[index] = CLASSES.index((thing.shape, thing.color))
    return torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 127.5 - 1.0, torch.from_numpy(labels)

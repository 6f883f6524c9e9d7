"""LAION's aesthetic predictor: a head on the unit image embedding of CLIP ViT-L/14, about 1 to 10.

Two published layouts are read. "improved-aesthetic-predictor" (sac+logos+ava1-l14-linearMSE and its kin): five linear
layers named layers.0, 2, 4, 6, 7, dropout between them, which is nothing at inference. "aesthetic-predictor"
(sa_0_4_vit_l_14_linear): one linear layer named weight and bias. Which of the two the paper means it does not say
(section 4.5: "LAION aesthetic"); the first is the later one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from goku_core.pipeline.errors import GokuError
from goku_core.scorers.sources import Source
from goku_core.scorers.tensors import read_tensors

LINEAR = Source(
    "laion-aesthetic-linear",
    "sa_0_4_vit_l_14_linear.pth",
    "curl -L -o weights/sa_0_4_vit_l_14_linear.pth "
    "https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_l_14_linear.pth",
    "MIT",
)
LAYERS = ("layers.0", "layers.2", "layers.4", "layers.6", "layers.7")


class AestheticHead:
    """file: the head, .safetensors or .pth. width: of the embedding it will be given. Raises GokuError."""

    def __init__(self, file: Path, width: int) -> None:
        tensors = {name: tensor.double().numpy() for name, tensor in read_tensors(file).items()}
        if set(tensors) == {"weight", "bias"}:
            names = [""]
        elif set(tensors) == {f"{layer}.{part}" for layer in LAYERS for part in ("weight", "bias")}:
            names = [f"{layer}." for layer in LAYERS]
        else:
            # The variants with ReLU between the layers number them otherwise, and nothing in a file would say so.
            raise GokuError(
                f"{file} has tensors {', '.join(sorted(tensors)[:4])}, ...: not a head this scorer knows "
                f"({', '.join(LAYERS)}, or one linear layer). See docs/weights.md"
            )
        self._layers = [(tensors[f"{name}weight"], tensors[f"{name}bias"]) for name in names]
        if (needed := self._layers[0][0].shape[1]) != width:
            raise GokuError(
                f"{file} is a head for embeddings of {needed} numbers, the CLIP model gives {width}: "
                "LAION's heads need CLIP ViT-L/14 (768)"
            )

    @property
    def linear(self) -> bool:
        """Whether it is the head of one layer."""
        return len(self._layers) == 1

    def scores(self, embeddings: np.ndarray) -> np.ndarray:
        """Scores of unit embeddings (n, d): float32 (n,). In float64: a few thousand products, and no doubt."""
        rows = embeddings.astype(np.float64)
        for weight, bias in self._layers:
            rows = rows @ weight.T + bias
        return rows[:, 0].astype(np.float32)

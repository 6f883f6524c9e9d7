"""An image classifier of transformers as a scorer: the probability of one of its labels. NSFW and watermark are two of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from goku_core.pipeline.errors import GokuError
from goku_core.scorers.pictures import Pictures
from goku_core.scorers.weights import pretrained


class FrameClassifier:
    """folder: an image classification model of transformers. label: as in its config.json; case does not matter."""

    def __init__(self, folder: Path, label: str, device: str = "cpu", batch: int = 32) -> None:
        from transformers import AutoModelForImageClassification

        self._model = pretrained(AutoModelForImageClassification, Path(folder), device)
        self._pictures = Pictures(Path(folder), device, batch)
        labels = {str(name).casefold(): int(index) for index, name in self._model.config.id2label.items()}
        if label.casefold() not in labels:
            known = ", ".join(self._model.config.id2label.values())
            raise GokuError(
                f"{folder} has no label {label!r}; it has: {known}. Set the scorer's `label` to one of them"
            )
        self._index = labels[label.casefold()]

    def probabilities(self, frames: list[np.ndarray]) -> np.ndarray:
        """Probability of the label for uint8 (H, W, 3) RGB frames: float32 (n,), 0 to 1."""
        logits = self._pictures.run(frames, lambda pixels: self._model(pixel_values=pixels).logits).astype(np.float64)
        if logits.shape[1] == 1 or self._model.config.problem_type == "multi_label_classification":
            return (1.0 / (1.0 + np.exp(-logits[:, self._index]))).astype(np.float32)
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return (weights[:, self._index] / weights.sum(axis=1)).astype(np.float32)

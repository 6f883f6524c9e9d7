"""Labels by CLIP: four evenly spaced frames of a clip against one sentence per class (paper section 4.4: four key
frames, one tag; its classifier is internal, CLIP is our choice because it needs no training)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from goku_core.curate.taxonomy.tree import SubClass
from goku_core.curate.taxonomy.words import Label

FRAMES = 4
PROMPT = "a photo of {}"
SCALE = 100.0  # CLIP's logit scale at the end of its training


class Encoder(Protocol):
    """Pictures and sentences in one space, float32 (n, d), rows of unit length."""

    def images(self, frames: Sequence[np.ndarray]) -> np.ndarray: ...

    def texts(self, sentences: Sequence[str]) -> np.ndarray: ...


class ZeroShot:
    """Compares the mean of a clip's frames with every class."""

    def __init__(self, classes: Sequence[SubClass], encoder: Encoder) -> None:
        self.classes, self.encoder = classes, encoder
        self.texts = encoder.texts([PROMPT.format(one.shows) for one in classes])

    def label(self, clips: Sequence[Sequence[np.ndarray]]) -> list[Label | None]:
        """One label per clip (uint8 RGB frames), None where a clip has no frames. One batch for all of them."""
        frames = [frame for clip in clips for frame in clip]
        if not frames:
            return [None] * len(clips)
        ends = np.cumsum([len(clip) for clip in clips])
        parts = np.split(self.encoder.images(frames), ends[:-1])
        return [self._nearest(part) if len(part) else None for part in parts]

    def _nearest(self, rows: np.ndarray) -> Label:
        mean = rows.mean(axis=0)
        logits = SCALE * self.texts @ (mean / max(float(np.linalg.norm(mean)), 1e-12))
        odds = np.exp(logits - logits.max())
        best = int(np.argmax(odds))
        return Label(self.classes[best].name, self.classes[best].primary, float(odds[best] / odds.sum()))

"""CLIP (arXiv 2103.00020) through transformers: frames and sentences into one space. Each tower loads when first used."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from goku_core.scorers.devices import resolved
from goku_core.scorers.pictures import Pictures, unit
from goku_core.scorers.weights import locate, pretrained


class Clip:
    """folder: a CLIP model of transformers; raises GokuError where it is none.

    device  of torch, or "auto"
    batch   frames or sentences in one pass
    """

    def __init__(self, folder: Path, device: str = "cpu", batch: int = 32) -> None:
        self.folder, self.device, self.batch = locate("clip", Path(folder), "CLIP"), resolved(device), batch

    def images(self, frames: list[np.ndarray]) -> np.ndarray:
        """Embeddings of uint8 (H, W, 3) RGB frames: float32 (n, d), rows of length 1."""
        tower, pictures = self._vision
        return unit(pictures.run(frames, lambda pixels: tower(pixel_values=pixels).image_embeds))

    def texts(self, sentences: list[str]) -> np.ndarray:
        """Embeddings of sentences, cut at the model's length: float32 (n, d), rows of length 1."""
        import torch

        tower, tokenizer = self._text
        rows: list[np.ndarray] = []
        with torch.inference_mode():
            for start in range(0, len(sentences), self.batch):
                part = sentences[start : start + self.batch]
                longest = tower.config.max_position_embeddings
                tokens = tokenizer(part, padding="max_length", max_length=longest, truncation=True, return_tensors="pt")
                rows.append(tower(**tokens.to(self.device)).text_embeds.float().cpu().numpy())
        return unit(np.concatenate(rows))

    @property
    def width(self) -> int:
        """Numbers in an embedding: 768 for ViT-L/14."""
        return int(self._vision[0].config.projection_dim)

    @cached_property
    def _vision(self) -> tuple[Any, Pictures]:
        from transformers import CLIPVisionModelWithProjection

        tower = pretrained(CLIPVisionModelWithProjection, self.folder, self.device, **self._projection)
        return tower, Pictures(self.folder, self.device, self.batch)

    @cached_property
    def _text(self) -> tuple[Any, Any]:
        from transformers import AutoTokenizer, CLIPTextModelWithProjection

        tower = pretrained(CLIPTextModelWithProjection, self.folder, self.device, **self._projection)
        return tower, AutoTokenizer.from_pretrained(self.folder, local_files_only=True)

    @property
    def _projection(self) -> dict[str, int]:
        """The width both towers share; folders written lately state it only once, above the towers."""
        stated = json.loads((self.folder / "config.json").read_text(encoding="utf-8")).get("projection_dim")
        return {} if stated is None else {"projection_dim": stated}


def pooled(rows: np.ndarray) -> np.ndarray:
    """One embedding for a clip: the mean of its frames' unit rows (n, d), of length 1 again, float32 (d,)."""
    return unit(rows.mean(axis=0, dtype=np.float64)[None])[0]

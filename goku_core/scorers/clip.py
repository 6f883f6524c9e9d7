"""CLIP (arXiv 2103.00020) through transformers: frames and sentences into one space. Each tower loads when first used."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from goku_core.scorers.devices import resolved
from goku_core.scorers.pictures import Pictures, in_passes, unit
from goku_core.scorers.sources import Source
from goku_core.scorers.weights import folder_command, locate, pretrained

VIT_B32 = Source(
    "clip-vit-base-patch32",
    "clip-vit-base-patch32",
    folder_command("openai/clip-vit-base-patch32", "clip-vit-base-patch32"),
    "MIT (the code's; the model card states none)",
)
VIT_L14 = Source(
    "clip-vit-large-patch14",
    "clip-vit-large-patch14",
    folder_command("openai/clip-vit-large-patch14", "clip-vit-large-patch14"),
    "MIT (the code's; the model card states none)",
    "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
)


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

    def features(self, frames: np.ndarray, prepare: Callable[[np.ndarray, int], Any]) -> np.ndarray:
        """Embeddings of uint8 (T, H, W, 3) frames under a benchmark's own preprocessing: float32 (T, d), not normalised.

        prepare: frames and the side that the tower looks at -> float32 (T, 3, side, side). The folder's own is not used.
        """
        tower = self._vision[0]
        side = int(tower.config.image_size)
        return in_passes(
            frames,
            self.batch,
            self.device,
            lambda part: prepare(part, side),
            lambda pixels: tower(pixel_values=pixels).image_embeds,
        )

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


@lru_cache(maxsize=2)
def shared_clip(folder: Path, device: str, batch: int) -> Clip:
    """One network for all judges of a process that look through the same CLIP."""
    return Clip(folder, device, batch)

"""Is it drawn in the style that was asked for: cosine of every frame to the style's words (vbench/appearance_style.py).

The official code divides CLIP's logit by 100, which is the factor CLIP's training ended at: what is left is the cosine. Its
mean over frames is the one-GPU result and ours in both modes; under several GPUs it takes the last frame of each clip for the
clip (trap 2), which can be recomputed from the scores by frame in the evidence. Frames are resized as pictures of PIL
here, as tensors for background consistency.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.evaluate.judges.vbench import specimens
from goku_core.evaluate.judges.vbench.protocol import VBenchJudge
from goku_core.evaluate.manifest import Prompt
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.clip import VIT_B32, Clip, shared_clip
from goku_core.scorers.pictures import unit
from goku_core.scorers.resizing import CLIP, clip_pixels_of_pictures


def style_of(prompt: Prompt) -> str:
    """ "Van Gogh style": the style's words in the prompt's metadata, as VBench_full_info.json has them. Raises GokuError."""
    told: Any = prompt.metadata.get("auxiliary_info", prompt.metadata)
    for _ in range(2):  # the file names the dimension twice, one within the other
        told = told.get("appearance_style") if isinstance(told, Mapping) else told
    if not isinstance(told, str) or not told:
        raise GokuError(
            f'{prompt.prompt_id}: its metadata lacks auxiliary_info.appearance_style ("Van Gogh style"), '
            "which this dimension compares with. Plan from VBench_full_info.json."
        )
    return told


class AppearanceStyle(VBenchJudge):
    dimension = "appearance_style"
    sources = ((VIT_B32,),)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {
            "rule": "cosine to the style's words, mean of frames",
            "network": "CLIP ViT-B/32",
            "pixels": ["PIL: short side 224, bicubic, antialiased, 8 bits, centre 224", CLIP],
            "batch": self.bench.batch,
        }

    def answer(self, seen: Seen) -> Answer:
        style = style_of(seen.sample.prompt)
        return self._mean_answer(seen, self.cosines(seen.frames, style), style=style)

    def cosines(self, frames: np.ndarray, words: str) -> np.ndarray:
        """Of each of uint8 (T, H, W, 3) frames: float64 (T,)."""
        looks = unit(self._clip.features(frames, clip_pixels_of_pictures)).astype(np.float64)
        return looks @ self._clip.texts([words])[0].astype(np.float64)

    def check(self) -> None:
        frames = np.stack([specimens.picture("circle", "red"), specimens.picture("square", "blue")])
        red, blue = (self.cosines(frames, words) for words in ("a red circle", "a blue square"))
        self._require(
            red[0] > blue[0] and blue[1] > red[1],
            f'a red circle is {red[0]:.3f} like "a red circle" and {blue[0]:.3f} like "a blue square", '
            f"a blue square {red[1]:.3f} and {blue[1]:.3f}",
        )

    @property
    def _clip(self) -> Clip:
        return shared_clip(self.weights(), self.bench.device, self.bench.batch)


def make(bench: Bench) -> AppearanceStyle:
    return AppearanceStyle(bench)

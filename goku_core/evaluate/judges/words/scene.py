"""Is the scene the one that was asked for: Tag2Text describes 16 frames (vbench/scene.py, commit 45e79ec).

A frame is right when its sentence holds every word of the label, each as a mere part of the sentence ("sea" is found in
"seat"; the official code looks so, and so does this one in both modes). The official mean is over frames, hence `count`.

official: sentence n of a clip tells what frame n // 3 of the 16 shows, so that only the first six are ever described. The
official code repeats the frames for its three beams, the transformers that it demands repeats them again, and the surplus is
cut off without a word. corrected: every frame is described.

Frames are scaled to 384 x 384 by swscale's bicubic, which is what VBench's decoder does while it decodes; here it works on
RGB, there on the coded planes, which may differ in the last bits. Unverified against official values: see
`networks/words/tag2text.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goku_core.evaluate.judges.frames import middle_of
from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.evaluate.judges.words.asking import COLORS, AskingJudge, circles, confused
from goku_core.evaluate.manifest import Prompt
from goku_core.evaluate.networks.words.tag2text import BEAMS, LEAST, MOST, PUBLISHED, SOURCE, TAGS, THRESHOLD, Captioner
from goku_core.evaluate.networks.words.wordpieces import VOCABULARY
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.pictures import in_passes
from goku_core.scorers.resizing import IMAGENET, normalised, tensor

FRAMES = 16


class SceneJudge(AskingJudge):
    name = "scene"
    dimensions = frozenset({"vbench/scene"})
    sources = (SOURCE, TAGS, VOCABULARY)

    @property
    def facts(self) -> Mapping[str, Any]:
        return {
            "rule": "every word of the label is part of the sentence",
            "frames": [FRAMES, "middle"],
            "pixels": ["swscale bicubic", PUBLISHED.picture.side],
            "mode": self.bench.mode,
            "search": [THRESHOLD, BEAMS, LEAST, MOST],
        }

    def answers(self, seen: Sequence[Seen]) -> list[Answer]:
        return [self._answer(one) for one in seen]

    def _answer(self, seen: Seen) -> Answer:
        label = scene_of(seen.sample.prompt)
        looks = self._looks(list(middle_of(seen.frames, FRAMES)))
        with torch.inference_mode():
            sentences, tags = self._captioner.captions(looks, mixed_up=self.bench.mode == "official")
        right = [names(label, sentence) for sentence in sentences]
        evidence = {"label": label, "captions": sentences, "tags": tags, "frames": right}
        return Answer(seen.sample.sample_id, "scene", sum(right) / len(right), len(right), evidence=evidence)

    def check(self) -> None:
        looks = self._looks(circles())
        with torch.inference_mode():
            logits = self._captioner.network.tag_logits(looks).cpu().numpy()
        # The list names some tags twice.
        columns = [[n for n, tag in enumerate(self._captioner.tags) if tag == color] for color in COLORS]
        self.require(all(columns), f"its list of tags lacks one of {', '.join(COLORS)}")
        wrong = confused(np.stack([logits[:, column].max(axis=1) for column in columns]))
        self.require(not wrong, f'the tag "{wrong[0] if wrong else ""}" fits another colour\'s picture better')

    def _looks(self, frames: Sequence[np.ndarray]) -> Tensor:
        network, device = self._captioner.network, self.bench.device
        small = scaled(frames, network.size.picture.side)
        found = in_passes(
            small, self.bench.batch, device, lambda part: normalised(tensor(part), IMAGENET), network.visual_encoder
        )
        return torch.from_numpy(found).to(device)

    @cached_property
    def _captioner(self) -> Captioner:
        return Captioner.load(self.place(SOURCE), self.place(TAGS), self.place(VOCABULARY), self.bench.device)


def scene_of(prompt: Prompt) -> str:
    """ "amusement park": the label in the prompt's metadata, as VBench_full_info.json has it. Raises GokuError."""
    told: Any = prompt.metadata.get("auxiliary_info", prompt.metadata)
    for _ in range(3):  # the file names the dimension, the kind of truth, and the label, each within the other
        told = told.get("scene") if isinstance(told, Mapping) else told
    if not isinstance(told, str) or not told:
        raise GokuError(
            f'{prompt.prompt_id}: its metadata lacks auxiliary_info.scene ("amusement park"), which this dimension looks '
            "for. Plan from VBench_full_info.json."
        )
    return told


def names(label: str, sentence: str) -> bool:
    """Whether the sentence holds every word of the label, whole or as part of another word."""
    return all(word in sentence for word in label.split(" "))


def scaled(frames: Sequence[np.ndarray], side: int) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (n, side, side, 3), by swscale's bicubic."""
    import av

    return np.stack(
        [
            av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            .reformat(side, side, interpolation="BICUBIC")
            .to_ndarray()
            for frame in frames
        ]
    )


def make(bench: Bench) -> SceneJudge:
    return SceneJudge(bench)

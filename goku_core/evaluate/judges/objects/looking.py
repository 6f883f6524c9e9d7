"""What the four judges share: frames shown to GRiT, its boxes and words, and what of them goes into the record."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from goku_core.evaluate.judges.frames import middle_frames
from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.evaluate.judges.objects.rules import Frame, Thing
from goku_core.evaluate.judges.vbench import specimens
from goku_core.evaluate.judges.vbench.protocol import VBenchJudge
from goku_core.evaluate.manifest import Prompt
from goku_core.evaluate.networks.grit import pixels
from goku_core.evaluate.networks.grit.boxes import overlaps
from goku_core.evaluate.networks.grit.grit import LEAST_SCORE, SOURCE, Grit, load_grit
from goku_core.evaluate.networks.grit.size import GRIT_B, Size
from goku_core.evaluate.networks.grit.text import NAME, SENTENCE
from goku_core.evaluate.networks.grit.vocabulary import VOCABULARY, Vocabulary
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.devices import resolved

FRAMES = 16
SQUARES = (("red", (24, 64, 152, 192)), ("blue", (168, 64, 296, 192)), ("green", (312, 64, 440, 192)))
"""Of the check: colours and places in a grey picture of 448 x 256 px."""
FAINT, NEAR = 0.05, 0.5
"""Of the check: one of the boxes that score more than this overlaps one of the squares by that."""


class Looker:
    """GRiT with its vocabulary, on one device."""

    def __init__(self, checkpoint: Path, vocabulary: Path, device: str, size: Size) -> None:
        self.network: Grit = load_grit(checkpoint, device, size)
        self.words = Vocabulary(vocabulary, size.vocabulary)

    def things(self, picture: np.ndarray, sentences: bool) -> list[Thing]:
        """Detections of uint8 (H, W, 3), best box first. sentences: each is also described, and scored by the sentence."""
        with torch.inference_mode():
            maps = self.network.maps(self._pixels(picture))
            boxes, scores = self.network.things(maps, *picture.shape[:2], LEAST_SCORE)
            tasks = (SENTENCE, NAME) if sentences else (NAME,)
            told = self.network.describe(maps, boxes, tasks)
        texts = {task: [self.words.text(row) for words, _ in told[task] for row in words.tolist()] for task in tasks}
        sure = torch.cat([scores.new_zeros(0), *(one for _, one in told[tasks[0]])])
        sureness = (scores * sure.exp()).sqrt().tolist()
        said = texts[SENTENCE] if sentences else [""] * len(boxes)
        return [
            Thing(label, sentence, score, (int(box[0]), int(box[1]), int(box[2]), int(box[3])))
            for label, sentence, score, box in zip(texts[NAME], said, sureness, boxes.tolist(), strict=True)
        ]

    def sentences(self, picture: np.ndarray, boxes: Sequence[tuple[int, int, int, int]]) -> list[str]:
        """What is in given boxes of uint8 (H, W, 3)."""
        with torch.inference_mode():
            maps = self.network.maps(self._pixels(picture))
            places = torch.tensor(boxes, dtype=torch.float32, device=self.network.device)
            told = self.network.describe(maps, places, (SENTENCE,))[SENTENCE]
        return [self.words.text(row) for words, _ in told for row in words.tolist()]

    def faint(self, picture: np.ndarray) -> torch.Tensor:
        """Boxes of anything that scores above `FAINT`, (N, 4)."""
        with torch.inference_mode():
            maps = self.network.maps(self._pixels(picture))
            return self.network.things(maps, *picture.shape[:2], FAINT)[0].cpu()

    def _pixels(self, picture: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1))).float().to(self.network.device)


@lru_cache(maxsize=1)
def shared_looker(checkpoint: Path, vocabulary: Path, device: str, size: Size) -> Looker:
    """One network for the four judges of a process."""
    return Looker(checkpoint, vocabulary, device, size)


class ObjectJudge(VBenchJudge):
    """sentences: whether the dimension reads sentences beside class names."""

    sources = ((SOURCE,), (VOCABULARY,))
    sentences: ClassVar[bool] = False
    rule: ClassVar[str]

    def __init__(self, bench: Bench, size: Size = GRIT_B) -> None:
        super().__init__(bench)
        self.size = size

    @property
    def facts(self) -> Mapping[str, Any]:
        return {
            "rule": self.rule,
            "network": f"GRiT-B, box score above {LEAST_SCORE}, likeliest words; unverified against official values",
            "pixels": "native, short side above 768 to 720"
            if self.official
            else "short side 800, long side at most 1333",
            "frames": f"{FRAMES} middle frames",
            "mode": self.bench.mode,
        }

    @property
    def official(self) -> bool:
        return self.bench.mode == "official"

    def seen_things(self, frames: np.ndarray) -> tuple[list[int], list[list[Thing]]]:
        """Numbers of the frames looked at, and the detections of each, in pixels of what GRiT was shown."""
        numbers = middle_frames(len(frames), FRAMES)
        found = {
            number: self._looker.things(self.shown(frames[number : number + 1])[0], self.sentences)
            for number in dict.fromkeys(numbers)  # a short clip's last frame comes again and again
        }
        return numbers, [found[number] for number in numbers]

    def shown(self, frames: np.ndarray) -> np.ndarray:
        """uint8 (T, H, W, 3) as GRiT is to see it."""
        return pixels.official(frames, by_opencv=self.sentences) if self.official else pixels.corrected(frames)

    def answer(self, seen: Seen) -> Answer:
        numbers, frames = self.seen_things(seen.frames)
        score, count, reason, said = self.score(seen.sample.prompt, frames)
        height, width = self.shown(seen.frames[:1]).shape[1:3]
        across, down = seen.frames.shape[2] / width, seen.frames.shape[1] / height
        evidence = said | {
            "looked_at": numbers,
            "detections": [[_evidence(thing, across, down) for thing in frame] for frame in frames],
        }
        return Answer(seen.sample.sample_id, self.dimension, score, count, reason=reason, evidence=evidence)

    @abstractmethod
    def score(self, prompt: Prompt, frames: Sequence[Frame]) -> tuple[float, int, str, dict[str, Any]]:
        """Score, count, what was expected and found where it is not all right, and what else the record is to hold."""

    def check(self) -> None:
        """Sees squares where they are, and says their colours."""
        picture = np.full((specimens.HEIGHT, specimens.WIDTH, 3), 128, np.uint8)
        for color, (left, top, right, bottom) in SQUARES:
            picture[top:bottom, left:right] = {"red": (215, 30, 30), "blue": (30, 60, 215), "green": (30, 160, 50)}[
                color
            ]
        places = [place for _, place in SQUARES]
        boxes = self._looker.faint(picture)
        near = [float(overlaps(torch.tensor(place).float(), boxes).max()) if len(boxes) else 0.0 for place in places]
        self._require(
            max(near) >= NEAR,
            f"of three squares the best seen overlaps its box by {max(near):.2f} ({len(boxes)} boxes)",
        )
        told = self._looker.sentences(picture, places)
        right = sum(color in sentence for (color, _), sentence in zip(SQUARES, told, strict=True))
        said = ", ".join(f'"{sentence}"' for sentence in told)
        self._require(right * 2 > len(SQUARES), f"a red, a blue and a green square are {said}")

    @property
    def _looker(self) -> Looker:
        return shared_looker(self.weights(0), self.weights(1), resolved(self.bench.device), self.size)


def told_of(prompt: Prompt, dimension: str) -> Mapping[str, Any]:
    """What the prompt's metadata says for the dimension, as in VBench_full_info.json. Raises GokuError."""
    told: Any = prompt.metadata.get("auxiliary_info", prompt.metadata)
    told = told.get(dimension) if isinstance(told, Mapping) else None
    if not isinstance(told, Mapping):
        raise GokuError(
            f"{prompt.prompt_id}: its metadata lacks auxiliary_info.{dimension}, which says what to look for. "
            "Plan from VBench_full_info.json."
        )
    return told


def word_of(told: Mapping[str, Any], key: str, prompt: Prompt, dimension: str) -> str:
    """Raises GokuError where it is not a word."""
    value = told.get(key)
    if not isinstance(value, str) or not value.strip():
        raise GokuError(f"{prompt.prompt_id}: auxiliary_info.{dimension} of its metadata lacks {key!r}")
    return value


def most_seen(frames: Sequence[Frame], few: int = 4) -> str:
    """ "car in 12, person in 3": classes by the number of frames they are in."""
    counts = Counter(label for frame in frames for label in sorted({thing.label for thing in frame}))
    best = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:few]
    return ", ".join(f"{label} in {count}" for label, count in best) or "nothing"


def _evidence(thing: Thing, across: float, down: float) -> dict[str, Any]:
    """Box in pixels of the sample."""
    left, top, right, bottom = thing.box
    box = [round(left * across, 1), round(top * down, 1), round(right * across, 1), round(bottom * down, 1)]
    said = {"label": thing.label, "score": round(thing.score, 3), "box": box}
    return said | ({"sentence": thing.sentence} if thing.sentence else {})

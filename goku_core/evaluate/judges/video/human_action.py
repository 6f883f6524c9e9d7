"""Is the person doing what was asked: is the action among the five likeliest of UMT, each with at least 0.85.

vbench/human_action.py: 16 middle frames, sigmoid of every logit (the network was trained with a softmax, so these are no
probabilities), the wanted action among the top five that reach 0.85. Two things differ by mode:
- `official` reads the action off the name that the file has in VBench's flat folder ("{prompt}-{index}.mp4", up to the
  first "-" or "_"): a renamed or shortened file is wrong without a word (trap 6). `corrected` reads it from the manifest and
  refuses one that is none of the 400. On VBench's own 100 prompts both read the same.
- `official` rounds to four digits before it compares with 0.85. `corrected` compares what the network said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from goku_core.evaluate.judges.frames import middle_frames
from goku_core.evaluate.judges.judge import Answer, Bench, Seen
from goku_core.evaluate.judges.video.pixels import IMAGENET, umt_pixels
from goku_core.evaluate.judges.video.pretrained import ClipJudge
from goku_core.evaluate.manifest import Prompt, Sample
from goku_core.evaluate.networks.video import umt
from goku_core.pipeline.errors import GokuError
from goku_core.scenes.draw import draw
from goku_core.scenes.scene import Motion, Scene, Thing
from goku_core.scorers.sources import Source, obtain

ACTIONS = Source(
    name="kinetics-400-categories",
    place="umt/kinetics_400_categories.txt",
    get="curl -L --create-dirs -o weights/umt/kinetics_400_categories.txt "
    "https://raw.githubusercontent.com/Vchitect/VBench/master/vbench/third_party/umt/kinetics_400_categories.txt",
    licence="Apache-2.0 (Vchitect/VBench)",
)
BEST, LEAST = 5, 0.85
SCALED = 256
"""Short side, px, from which the middle is cut."""


class HumanActionJudge(ClipJudge):
    name = "human_action"
    dimensions = frozenset({"vbench/human_action"})
    sources = (umt.SOURCE, ACTIONS)

    def __init__(self, bench: Bench, size: umt.Size = umt.L16) -> None:
        super().__init__(bench)
        self.size = size

    @property
    def facts(self) -> Mapping[str, Any]:
        return {
            "rule": ["wanted action among the best", BEST, "with a sigmoid of at least", LEAST],
            "mode": self.bench.mode,
            "network": asdict(self.size),
            "pixels": ["short side by OpenCV, bilinear, centre", SCALED, IMAGENET],
        }

    def answers(self, seen: Seen, asked: Sequence[str]) -> list[Answer]:
        official = self.bench.mode == "official"
        wanted = action_of_file(file_name(seen.sample)) if official else self._known(seen.sample.prompt)
        sure = self.sigmoids(seen.frames)
        best = np.argsort(-sure, kind="stable")[:BEST]
        told = [(self._actions[k], float(sure[k])) for k in best]
        passed = [action for action, by in told if (round(by, 4) if official else by) >= LEAST]
        right = wanted in passed
        reason = "" if right else f"{wanted} wanted; {', '.join(passed) or 'no action'} seen with at least {LEAST}"
        evidence = {
            "wanted": wanted,
            "best": [[action, round(by, 6)] for action, by in told],
            "frames": middle_frames(len(seen.frames), self.size.frames),
        }
        return [
            Answer(seen.sample.sample_id, dimension, float(right), 1, right, reason, evidence) for dimension in asked
        ]

    def sigmoids(self, frames: np.ndarray) -> np.ndarray:
        """Of each action, in the list's order: float64 (n,) from uint8 (T, H, W, 3)."""
        return 1.0 / (1.0 + np.exp(-self._logits(frames)))

    def check(self) -> None:
        """No render shows a person, so none has an answer that is known. What is asked: a list that belongs to the network,
        and logits that are numbers, tell actions apart, and change with what is shown."""
        self._require(
            len(self._actions) == self.size.actions,
            f"the list names {len(self._actions)} actions, the network {self.size.actions}",
        )
        ball, still = self._logits(_bouncing()), self._logits(np.full((16, 256, 256, 3), 128, np.uint8))
        self._require(bool(np.isfinite(ball).all() and np.isfinite(still).all()), "its logits are no numbers")
        self._require(float(np.std(ball)) > 0.05, f"its logits differ by {np.std(ball):.4f} only: an untrained head")
        self._require(float(np.abs(ball - still).mean()) > 0.01, "a bouncing ball and an empty room are the same to it")

    def _logits(self, frames: np.ndarray) -> np.ndarray:
        shown = frames[middle_frames(len(frames), self.size.frames)]
        pixels = umt_pixels(shown, SCALED * self.size.side // umt.L16.side, self.size.side).to(self.bench.device)
        with torch.inference_mode():
            return self._network(pixels.transpose(0, 1)[None])[0].double().cpu().numpy()

    def _known(self, prompt: Prompt) -> str:
        action = action_of(prompt)
        if action not in self._actions:
            raise GokuError(
                f'{prompt.prompt_id}: the action "{action}" of its prompt "{prompt.text}" is none of the '
                f"{len(self._actions)} that the network knows ({ACTIONS.place}): no clip could be right."
            )
        return action

    @cached_property
    def _actions(self) -> list[str]:
        return read_actions(obtain(ACTIONS, self.bench.weights))

    @cached_property
    def _network(self) -> umt.Umt:
        return umt.load(self.bench.weights, self.bench.device, self.size)


def action_of(prompt: Prompt) -> str:
    """The action in lower case: what the metadata names, else the prompt after "person is "."""
    told: Any = prompt.metadata.get("auxiliary_info", {})
    for _ in range(2):  # other dimensions name themselves twice, one within the other
        told = told.get("human_action") if isinstance(told, Mapping) else told
    return (told if isinstance(told, str) and told else prompt.text.split("person is ")[-1]).strip().lower()


def file_name(sample: Sample) -> str:
    """Its name in VBench's flat folder."""
    return f"{sample.prompt.text}-{sample.index}.mp4"


def action_of_file(name: str) -> str:
    """The action as the official code reads it off a path."""
    return name.split("/")[-1].lower().split("-")[0].split("person is ")[-1].split("_")[0]


def read_actions(path: Path) -> list[str]:
    """Lines "name<tab>number" in any order, to names in lower case by number. Raises GokuError where one is missing."""
    named: dict[int, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        name, _, index = line.strip().rpartition("\t")
        if not name or not index.isdecimal() or int(index) in named:
            raise GokuError(f"{path}, line {number}: a name, a tab and a number of its own are wanted, not {line!r}")
        named[int(index)] = name.lower()
    if sorted(named) != list(range(len(named))):
        raise GokuError(f"{path}: the numbers of the actions are not 0 to {len(named) - 1}. Get it: {ACTIONS.get}")
    return [named[index] for index in range(len(named))]


def _bouncing() -> np.ndarray:
    """A ball that goes down and up: uint8 (16, 256, 256, 3)."""
    scene = Scene("motion", (Thing("circle", "red", 0.5, 0.25, 0.3),), motion=Motion("down", 0.06))
    return np.stack([draw(scene, 256, 256, min(time, 15 - time)) for time in range(16)])


def make(bench: Bench) -> HumanActionJudge:
    return HumanActionJudge(bench)

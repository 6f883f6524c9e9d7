"""The operator of the scorers with weights: rows with spans in, a score per scorer out. Runs in the pool's children.

Frames come from the files that the decode left behind; the frames of all rows of a batch go through a network together.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from goku_core.curate.models.request import Models
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.devices import resolved

SENT = ("clip_id", "media_id", "kind", "start_pts", "end_pts", "time_base_num", "time_base_den")
SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("clip_embedding", pa.list_(pa.float32())),
        ("aesthetic", pa.float32()),
        ("nsfw", pa.float32()),
        ("watermark", pa.float32()),
        ("motion_raft", pa.float32()),
        ("error_class", pa.string()),
        ("message", pa.string()),
    ]
)
MOST_FRAMES = 1 << 20  # all of them, where motion is measured
Frames = list[tuple[int, np.ndarray]]


def score(batch: pa.RecordBatch, settings: dict[str, Any]) -> pa.RecordBatch:
    """Operator. Rows with the columns `SENT` in, one row of `SCHEMA` each out; an empty batch loads the models.

    settings: models (JSON of `Models`), places (of the weights, by scorer), proxies.
    """
    scorers = _scorers(json.dumps(settings, sort_keys=True))
    rows = batch.to_pylist()
    answers = [dict.fromkeys(SCHEMA.names) | {"clip_id": row["clip_id"]} for row in rows]
    scorers.pictures(rows, answers)
    scorers.motion(rows, answers)
    return pa.RecordBatch.from_pylist(answers, schema=SCHEMA)


@lru_cache(maxsize=1)
def _scorers(settings: str) -> Scorers:
    return Scorers(json.loads(settings))


class Scorers:
    """The networks of one worker, loaded once."""

    def __init__(self, settings: dict[str, Any]) -> None:
        import torch

        torch.set_num_threads(1)  # the pool runs one process per core
        self.request = Models(**settings["models"])
        self.proxies = Path(settings["proxies"])
        places = {name: Path(place) for name, place in settings["places"].items()}
        device = resolved(self.request.device)
        batch = self.request.batch
        self._clip = self._head = self._flow = None
        self._classifiers: dict[str, tuple[Any, Callable[[np.ndarray], float]]] = {}
        if "clip" in places:
            from goku_core.scorers.clip import Clip

            self._clip = Clip(places["clip"], device, batch)
            width = self._clip.width
            if "aesthetic" in places:
                from goku_core.scorers.aesthetic import AestheticHead

                self._head = AestheticHead(places["aesthetic"], width)
        for name, worst in (("nsfw", np.max), ("watermark", np.mean)):
            if name in places:
                from goku_core.curate.models.classifier import FrameClassifier

                label = getattr(self.request, name).label
                self._classifiers[name] = (FrameClassifier(places[name], label, device, batch), worst)
        if "raft" in places:
            from goku_core.curate.models.flow import FlowMeter

            self._flow = FlowMeter(places["raft"], self.request.raft.updates, self.request.raft.pairs, device)

    def pictures(self, rows: list[dict[str, Any]], answers: list[dict[str, Any]]) -> None:
        """Fills in what single frames tell: embedding, aesthetic (mean), nsfw (largest), watermark (mean)."""
        if self._clip is None and not self._classifiers:
            return
        frames: list[np.ndarray] = []
        places: list[tuple[dict[str, Any], slice]] = []
        for row, answer in zip(rows, answers, strict=True):
            found = self._read(row, answer, self.request.frames)
            if found:
                places.append((answer, slice(len(frames), len(frames) + len(found))))
                frames += [image for _, image in found]
        if not frames:
            return
        if self._clip is not None:
            from goku_core.scorers.clip import pooled

            embeddings = self._clip.images(frames)
            scores = None if self._head is None else self._head.scores(embeddings)
            for answer, part in places:
                answer["clip_embedding"] = pooled(embeddings[part]).tolist()
                answer["aesthetic"] = None if scores is None else float(scores[part].mean(dtype=np.float64))
        for name, (classifier, of_frames) in self._classifiers.items():
            probabilities = classifier.probabilities(frames)
            for answer, part in places:
                answer[name] = float(of_frames(probabilities[part].astype(np.float64)))

    def motion(self, rows: list[dict[str, Any]], answers: list[dict[str, Any]]) -> None:
        """Fills in the motion of clips; pictures have none."""
        if self._flow is None:
            return
        for row, answer in zip(rows, answers, strict=True):
            if row["kind"] != "video" or answer["error_class"]:
                continue
            frames = self._read(row, answer, MOST_FRAMES)
            if answer["error_class"]:
                continue
            answer["motion_raft"] = self._flow.score(frames, Fraction(row["time_base_num"], row["time_base_den"]))
            if answer["motion_raft"] is None:
                _fail(answer, "too-few-frames", "motion needs two sampled frames of the clip, there is one")

    def _read(self, row: dict[str, Any], answer: dict[str, Any], most: int) -> Frames:
        from goku_core.curate import proxies

        try:
            frames = proxies.read(self.proxies, row["media_id"], row["start_pts"], row["end_pts"], most)
        except GokuError:  # its message holds a path of this machine, which has no place in a table
            _fail(answer, "no-frames", "the sampled frames of its source are missing; run `goku run curate` again")
            return []
        if not frames:
            _fail(answer, "no-frames", "no sampled frame lies in the clip's span")
        return frames


def _fail(answer: dict[str, Any], error_class: str, message: str) -> None:
    answer["error_class"], answer["message"] = error_class, message

"""The loss of held-out samples in the course of training: always the same samples, noise and times, so that losses compare.

Every draw is a function of (seed, sample id), none of the step. Texts and first frames are never dropped. The mean is over samples,
as in training. The groups of ranks share the samples, and all run the same number of forward passes, because parameters
are gathered by all ranks together.
"""

from __future__ import annotations

import copy
import hashlib

import numpy as np
import torch

from goku_core.models import Goku
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError
from goku_core.train.checkpoint import State
from goku_core.train.data import Loader, Pack, Packer
from goku_core.train.held_out import held_out
from goku_core.train.parallel.mesh import Mesh
from goku_core.train.parallel.prepare import let_go
from goku_core.train.position import Position
from goku_core.train.request import Phase, TrainRequest
from goku_core.train.step import pack_loss

# Draws of a pack are functions of a step; no training step has this number.
STEP = -1


class Validator:
    """Validation of one phase on the packs of this rank's group; one that is switched off does nothing."""

    def __init__(self, phase: Phase, request: TrainRequest, loader: Loader, mesh: Mesh) -> None:
        """Raises `GokuError` where the share holds out no sample of a kind that the phase trains on."""
        self.settings, self.last_step, self.mesh = request.validation, phase.steps, mesh
        self.packs: list[Pack] = []
        if self.settings.share > 0:
            self.packs = _packs(phase, request, loader, mesh)

    def after(self, state: State, position: Position, context: Context) -> None:
        """Called behind every optimizer step: records the validation loss in `position` where one is due."""
        due = position.step % self.settings.every == 0 or position.step == self.last_step
        if not self.packs or not due:
            return
        model = state.ema if self.settings.weights == "ema" else state.model
        loss = round(validation_loss(model, self.packs, self.mesh), 6)
        position.validation.append({"step": position.step, "validation_loss": loss})
        context.tracker.log_metrics({"validation_loss": loss}, step=position.step)


@torch.no_grad()
def validation_loss(model: Goku, packs: list[Pack], mesh: Mesh) -> float:
    """Mean over the samples of all groups; the same figure on every rank."""
    total = torch.stack([pack_loss(model, pack, mesh) for pack in packs]).sum()
    let_go(model)
    return mesh.total(total).item()


def _packs(phase: Phase, request: TrainRequest, loader: Loader, mesh: Mesh) -> list[Pack]:
    packer = copy.copy(loader.packer)  # the same samples and draws, without dropout
    packer.request = request.model_copy(update={"text_dropout": 0.0, "image_dropout": 0.0})
    rows = chosen_rows(packer, phase, request)
    turns = split(rows, packer.lengths, phase.pack_tokens or phase.tokens, mesh.groups)
    return [packer.pack(turn[mesh.group], STEP, len(rows)) for turn in turns]


def chosen_rows(packer: Packer, phase: Phase, request: TrainRequest) -> np.ndarray:
    """Index rows of the validation samples: of each kind its share, those first whose ids hash lowest."""
    index, settings = packer.reader.index, request.validation
    out = held_out(index["clip_id"], settings.share)
    shares = {"pictures": phase.images, "clips": phase.clips} if settings.of == "mix" else {settings.of: 1.0}
    rows = []
    for name, share in shares.items():
        if share <= 0:
            continue
        kind = packer.is_clip if name == "clips" else ~packer.is_clip
        found = np.flatnonzero(out & kind)
        if not len(found):
            raise GokuError(
                f"train.validation.share {settings.share:g} holds out none of the {int(kind.sum())} {name} at resolution "
                f'"{phase.resolution}". Raise it, or set it to 0 for no validation.'
            )
        order = sorted(found, key=lambda row: hashlib.sha256(str(index["sample_id"][row]).encode()).digest())
        rows.append(order[: max(1, round(settings.samples * share / sum(shares.values())))])
    return np.concatenate([np.array(part, np.int64) for part in rows])


def split(rows: np.ndarray, lengths: np.ndarray, tokens: int, groups: int) -> list[list[np.ndarray]]:
    """Rounds of one pack per group, each of at most `tokens` (or of one sample): a group without one has an empty array."""
    packs: list[list[int]] = [[]]
    for row in sorted(rows, key=lambda row: (-lengths[row], row)):
        if packs[-1] and int(lengths[packs[-1]].sum() + lengths[row]) > tokens:
            packs.append([])
        packs[-1].append(int(row))
    arrays = [np.array(pack, np.int64) for pack in packs]
    arrays += [np.empty(0, np.int64)] * (-len(arrays) % groups)
    return [arrays[first : first + groups] for first in range(0, len(arrays), groups)]

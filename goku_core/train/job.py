"""What a process that trains is given: parameters, folders, and what it would otherwise have to load models for.

On disk, where processes other than the stage's read it: `job.json`, and the tensors beside it in `start.safetensors`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_file
from torch import Tensor

from goku_core.models import GokuConfig
from goku_core.pipeline.context import Context
from goku_core.pipeline.files import write_json
from goku_core.train.request import Phase, TrainRequest

FILE, TENSORS, EVENTS, RESULT = "job.json", "start.safetensors", "events.jsonl", "trained.json"


class Job(BaseModel):
    """`network` is the network's configuration; folders are absolute."""

    model_config = ConfigDict(extra="forbid")

    request: TrainRequest
    network: dict[str, Any]
    workspace: Path
    staging: Path
    scratch: Path
    fingerprint: str
    seed: int
    cores: int

    @staticmethod
    def of(request: TrainRequest, config: GokuConfig, context: Context) -> Job:
        return Job(
            request=request,
            network=config.to_json(),
            workspace=context.workspace.absolute(),
            staging=context.staging.absolute(),
            scratch=context.scratch.absolute(),
            fingerprint=context.fingerprint,
            seed=context.seed,
            cores=context.cores,
        )

    @staticmethod
    def read(file: Path) -> Job:
        return Job.model_validate_json(file.read_text(encoding="utf-8"))

    def write(self) -> Path:
        file = self.scratch / FILE
        write_json(file, self.model_dump(mode="json"))
        return file

    @property
    def phase(self) -> tuple[str, Phase]:
        ((name, phase),) = self.request.phases.items()
        return name, phase

    @property
    def config(self) -> GokuConfig:
        return GokuConfig.from_json(self.network)


@dataclass(frozen=True)
class Start:
    """Where every rank starts from, so that all have the weights that one process would have.

    null_text     (M, width) the text of a sample whose caption is dropped: no rank needs the text encoder for it
    random_state  of torch, from which weights are drawn
    """

    null_text: Tensor
    random_state: Tensor

    def write(self, folder: Path) -> None:
        save_file({"null_text": self.null_text.contiguous(), "random_state": self.random_state}, folder / TENSORS)

    @staticmethod
    def read(folder: Path) -> Start:
        return Start(**load_file(folder / TENSORS))

    @staticmethod
    def here(null_text: Tensor) -> Start:
        return Start(null_text, torch.get_rng_state())


class NullText:
    """Stands in for the text encoder where only the empty caption is ever asked for."""

    def __init__(self, encoded: Tensor) -> None:
        self.encoded, self.width = encoded, encoded.shape[1]

    def encode(self, text: str) -> Tensor:
        if text:
            raise ValueError(f'captions are in the shards, encoded; "{text}" cannot be encoded here')
        return self.encoded

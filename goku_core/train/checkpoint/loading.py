"""Filling tensors from a checkpoint, however they are sharded: torch's planner finds which part of which piece goes where."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    TensorProperties,
    TensorStorageMetadata,
)

from goku_core.pipeline.errors import GokuError
from goku_core.train.checkpoint.index import Index, Reader, Saved

NAMED = 6  # differences that a message names


def refuse_other_tensors(tensors: Mapping[str, Tensor], index: Index, where: str) -> None:
    """Raises GokuError naming what is new here, what is gone, and what has another shape or type."""
    saved = index.tensors
    wrong = [f"{name} is new" for name in tensors if name not in saved]
    wrong += [f"{name} is gone" for name in saved if name not in tensors]
    for name in tensors.keys() & saved.keys():
        here, there = tensors[name], saved[name]
        if tuple(here.shape) != there.shape:
            wrong.append(f"{name} is {_shape(here.shape)} here and {_shape(there.shape)} there")
        elif here.dtype != there.dtype:
            wrong.append(f"{name} is {here.dtype} here and {there.dtype} there")
    if wrong:
        more = f"; and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise GokuError(
            f"{where} does not fit this network: {'; '.join(sorted(wrong)[:NAMED])}{more}. A changed network starts a phase of "
            "its own (init_from), it does not continue another one's checkpoint."
        )


@torch.no_grad()
def fill(tensors: Mapping[str, Tensor], folder: Path, index: Index) -> None:
    """Copies this rank's part of every tensor out of the files of `folder`, in place."""
    planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    planner.set_up_planner(dict(tensors), _metadata(index, tensors))
    reader = Reader(folder)
    for item in planner.create_local_plan().items:
        saved = index.tensors[item.storage_index.fqn]
        piece = saved.pieces[item.storage_index.index]
        values = reader.piece(piece, saved.dtype)
        for axis, (begin, length) in enumerate(zip(item.storage_offsets, item.lengths, strict=True)):
            values = values.narrow(axis, begin, length)
        planner.resolve_tensor(item).copy_(values)


def _metadata(index: Index, tensors: Mapping[str, Tensor]) -> Metadata:
    """The index in the planner's words."""
    return Metadata({name: _described(index.tensors[name]) for name in tensors})


def _described(saved: Saved) -> TensorStorageMetadata:
    chunks = [ChunkStorageMetadata(torch.Size(p.offsets), torch.Size(p.shape)) for p in saved.pieces]
    return TensorStorageMetadata(TensorProperties(dtype=saved.dtype), torch.Size(saved.shape), chunks)


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape) or "one value"

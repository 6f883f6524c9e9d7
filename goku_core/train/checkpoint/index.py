"""index.json: which piece of which tensor lies where. All that a reader needs, whatever number of ranks wrote it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from goku_core.pipeline.errors import GokuError
from goku_core.train.checkpoint.files import DTYPES, NAMES, File

FORMAT = 2  # 1 was one file per network, without an index


@dataclass(frozen=True)
class Piece:
    """A box of a tensor: `at` is the byte of `file` where its values begin."""

    file: str
    at: int
    offsets: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass
class Saved:
    """A tensor and the pieces that make it up."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: list[Piece] = field(default_factory=list)


@dataclass
class Index:
    """Tensors by name, and which parameters each optimizer moved."""

    tensors: dict[str, Saved]
    optimizers: dict[str, list[str]]

    @classmethod
    def of(
        cls, files: Iterable[File], shapes: Mapping[str, Sequence[int]], optimizers: Mapping[str, Sequence[str]]
    ) -> Index:
        """The index of `files`, those of all ranks; `shapes` are of the whole tensors."""
        tensors: dict[str, Saved] = {}
        for file in files:
            for block, begin in zip(file.blocks, file.begins, strict=True):
                saved = tensors.setdefault(block.name, Saved(block.dtype, tuple(shapes[block.name])))
                saved.pieces.append(Piece(file.name, len(file.header) + begin, block.offsets, block.shape))
        return cls(dict(sorted(tensors.items())), {name: list(moved) for name, moved in optimizers.items()})

    def to_json(self) -> str:
        tensors = {
            name: {
                "dtype": NAMES[saved.dtype],
                "shape": saved.shape,
                "pieces": [{"file": p.file, "at": p.at, "offsets": p.offsets, "shape": p.shape} for p in saved.pieces],
            }
            for name, saved in self.tensors.items()
        }
        value = {"format": FORMAT, "tensors": tensors, "optimizers": self.optimizers}
        return json.dumps(value, separators=(",", ":"))

    @classmethod
    def read(cls, path: Path) -> Index:
        """Raises GokuError where the file is missing or of another format."""
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            if value["format"] != FORMAT:
                raise GokuError(f"{path}: format {value['format']}, this release reads {FORMAT}.")
            tensors = {
                name: Saved(
                    DTYPES[entry["dtype"]],
                    tuple(entry["shape"]),
                    [Piece(p["file"], p["at"], tuple(p["offsets"]), tuple(p["shape"])) for p in entry["pieces"]],
                )
                for name, entry in value["tensors"].items()
            }
            return cls(tensors, value["optimizers"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise GokuError(f"{path}: no index of a checkpoint ({type(error).__name__}: {error}).") from error


class Reader:
    """Pieces of a checkpoint's files, mapped into memory: only what is asked for is read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._mapped: dict[str, Tensor] = {}

    def piece(self, piece: Piece, dtype: torch.dtype) -> Tensor:
        """The values of a piece, as a view of the file. Raises GokuError where the file is too short."""
        end = piece.at + math.prod(piece.shape) * dtype.itemsize
        mapped = self._map(piece.file)
        if end > len(mapped):
            raise GokuError(f"{self.folder / piece.file} ends at byte {len(mapped)}; the index says at least {end}.")
        return mapped[piece.at : end].view(dtype).view(piece.shape)

    def whole(self, saved: Saved) -> Tensor:
        """A tensor put together from its pieces."""
        if len(saved.pieces) == 1 and saved.pieces[0].shape == saved.shape:
            return self.piece(saved.pieces[0], saved.dtype)
        found = torch.empty(saved.shape, dtype=saved.dtype)
        for piece in saved.pieces:
            box = tuple(slice(o, o + n) for o, n in zip(piece.offsets, piece.shape, strict=True))
            found[box] = self.piece(piece, saved.dtype)
        return found

    def _map(self, file: str) -> Tensor:
        if file not in self._mapped:
            path = self.folder / file
            try:
                self._mapped[file] = torch.from_file(
                    str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8
                )
            except (OSError, RuntimeError) as error:
                raise GokuError(f"{path} cannot be read: {error}") from error
        return self._mapped[file]

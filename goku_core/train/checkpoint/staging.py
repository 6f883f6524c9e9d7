"""Copies of this rank's pieces in the host's memory, in buffers that the next save uses again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from goku_core.train.checkpoint.files import File


class Staging:
    """One buffer per file, in the very order of the file's bytes, so that it is written as it stands.

    On CUDA the buffers are pinned and filled by a stream of their own: the host goes on at once, and what the training's stream
    does next (it may change the weights) waits on the device for the copies.
    """

    def __init__(self) -> None:
        self._files: Sequence[File] | None = None
        self._buffers: list[Tensor] = []
        self._targets: list[tuple[str, Tensor]] = []  # a view of a buffer for every block
        self._stream: torch.cuda.Stream | None = None
        self._copied: torch.cuda.Event | None = None

    def fill(self, files: Sequence[File], tensors: Mapping[str, Tensor]) -> None:
        """Copies the blocks of `files` out of `tensors`."""
        on_cuda = any(tensor.device.type == "cuda" for tensor in tensors.values())
        if files is not self._files:
            self._make_room(files, on_cuda)
        if not on_cuda:
            self._copy(tensors)
            return
        self._stream = self._stream or torch.cuda.Stream()
        training = torch.cuda.current_stream()
        self._stream.wait_stream(training)
        with torch.cuda.stream(self._stream):
            self._copy(tensors)
            self._copied = torch.cuda.Event()
            self._copied.record()
        training.wait_event(self._copied)

    def wait(self) -> list[Tensor]:
        """The buffers, once they are filled."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._buffers

    def _make_room(self, files: Sequence[File], pinned: bool) -> None:
        self._targets, self._buffers = [], []  # the old ones go before the new ones come
        self._buffers = [torch.empty(file.data_bytes, dtype=torch.uint8, pin_memory=pinned) for file in files]
        for file, buffer in zip(files, self._buffers, strict=True):
            for block, begin in zip(file.blocks, file.begins, strict=True):
                target = buffer[begin : begin + block.bytes].view(block.dtype).view(block.shape)
                self._targets.append((block.name, target))
        self._files = files

    @torch.no_grad()
    def _copy(self, tensors: Mapping[str, Tensor]) -> None:
        for name, target in self._targets:
            target.copy_(_local(tensors[name]), non_blocking=True)


def _local(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor

"""The last good state of a run in host memory: weights, moments, average. Each rank keeps its own shards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from goku_core.train.checkpoint import State


class Snapshots:
    """One snapshot of `state`, the newest. The buffers are made once and used again (pinned where the state is on a GPU)."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.step: int | None = None
        self._position: dict[str, Any] = {}
        self._tensors: list[Tensor] = []
        self._moments: list[dict[str, Tensor | float]] = []

    @torch.no_grad()
    def take(self, step: int, position: dict[str, Any]) -> None:
        tensors = list(self._networks())
        if len(self._tensors) != len(tensors):
            self._tensors = [_buffer(tensor) for tensor in tensors]
        for kept, tensor in zip(self._tensors, tensors, strict=True):
            kept.copy_(tensor, non_blocking=True)
        states = list(self._optimizer_states())
        self._moments += [{} for _ in range(len(states) - len(self._moments))]
        for kept, moments in zip(self._moments, states, strict=True):
            for name, value in moments.items():
                kept[name] = self._copied(kept.get(name), value)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.step, self._position = step, _copied_lists(position)

    @torch.no_grad()
    def restore(self) -> dict[str, Any]:
        """Puts the snapshot back in place; returns the position that it was taken with."""
        if self.step is None:
            raise RuntimeError("there is no snapshot to restore")
        for kept, tensor in zip(self._tensors, self._networks(), strict=True):
            tensor.copy_(kept, non_blocking=True)
        for kept, moments in zip(self._moments, self._optimizer_states(), strict=True):
            # An optimizer makes its moments in its first step: a snapshot from before it has none.
            if not kept:
                moments.clear()
            for name, value in kept.items():
                if isinstance(value, Tensor):
                    _local(moments[name]).copy_(value, non_blocking=True)
                else:
                    moments[name] = value
        for optimizer in self.state.optimizers.values():
            optimizer.zero_grad()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return _copied_lists(self._position)

    @property
    def bytes(self) -> int:
        """Host memory of the snapshot of this rank."""
        moments = [v for kept in self._moments for v in kept.values() if isinstance(v, Tensor)]
        return sum(tensor.numel() * tensor.element_size() for tensor in [*self._tensors, *moments])

    def _networks(self) -> Iterator[Tensor]:
        for network in (self.state.model, self.state.ema):
            for tensor in (*network.parameters(), *network.buffers()):
                yield _local(tensor)

    def _optimizer_states(self) -> Iterator[dict[str, Any]]:
        """The moments of every parameter; nothing where there are none yet."""
        for optimizer in self.state.optimizers.values():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    yield optimizer.state.get(parameter, {})

    @staticmethod
    def _copied(buffer: Tensor | float | None, value: Any) -> Tensor | float:
        if not isinstance(value, Tensor):
            return value
        local = _local(value)
        if not isinstance(buffer, Tensor) or buffer.shape != local.shape:
            buffer = _buffer(local)
        return buffer.copy_(local, non_blocking=True)


def _local(tensor: Tensor) -> Tensor:
    """This rank's shard of a tensor that is spread over ranks; the tensor itself otherwise."""
    to_local = getattr(tensor, "to_local", None)
    return tensor.detach() if to_local is None else to_local().detach()


def _buffer(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)


def _copied_lists(position: dict[str, Any]) -> dict[str, Any]:
    """Entries of a long log are never changed: copying the lists that hold them is enough."""
    return {name: list(value) if isinstance(value, list) else value for name, value in position.items()}

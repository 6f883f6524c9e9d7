"""Checkpoints of a training run: sharded, written behind the training, verified, loaded by any number of ranks.

Entering is cheap, as the request names the settings; torch is loaded with what needs it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goku_core.train.checkpoint.checkpoints import Checkpoints
    from goku_core.train.checkpoint.folder import Checkpoint
    from goku_core.train.checkpoint.settings import Checkpointing
    from goku_core.train.checkpoint.state import State

__all__ = ["Checkpoint", "Checkpointing", "Checkpoints", "State"]

_HOMES = {"Checkpoint": "folder", "Checkpointing": "settings", "Checkpoints": "checkpoints", "State": "state"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)

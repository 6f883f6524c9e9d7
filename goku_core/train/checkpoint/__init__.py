"""Checkpoints of a training run."""

from goku_core.train.checkpoint.folder import Checkpoint, Checkpoints, State

__all__ = ["Checkpoint", "Checkpoints", "State"]

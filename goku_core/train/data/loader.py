"""The packs of one group of ranks, step by step."""

from __future__ import annotations

from goku_core.train.data.pack import Pack, Packer


class Loader:
    """Packs of `group`, one of `groups` that share each step."""

    def __init__(self, packer: Packer, group: int = 0, groups: int = 1) -> None:
        self.packer, self.group, self.groups = packer, group, groups

    def step(self, data_step: int) -> list[Pack]:
        return self.packer.packs(data_step, self.group, self.groups)

    def close(self) -> None:
        """Ends what reads ahead."""

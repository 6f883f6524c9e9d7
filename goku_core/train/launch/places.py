"""Where an attempt leaves its files, below the scratch folder of the run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from torch.distributed.elastic.multiprocessing import LogsDest, LogsSpecs

from goku_core.train.health import heart
from goku_core.train.health.leave import SUPERVISED
from goku_core.train.launch.member import STACKS


@dataclass(frozen=True)
class Places:
    """hearts: heartbeats; logs: what ranks print, and errors; stacks: of all threads, on demand. One file per rank in each."""

    scratch: Path
    attempt: int

    def of(self, kind: str) -> Path:
        return self.scratch / kind / f"attempt-{self.attempt:04d}"

    @property
    def hearts(self) -> Path:
        return self.of("hearts")

    def log(self, rank: int, kind: str = "err") -> Path:
        return self.of("logs") / f"rank-{rank:05d}.{kind}"

    def error(self, rank: int) -> Path:
        return self.log(rank, "error.json")

    def stack(self, rank: int) -> Path:
        return self.of("stacks") / f"rank-{rank:05d}.txt"


class RankFiles(LogsSpecs):
    """Tells the elastic agent where the ranks of this node write, and the ranks where they are.

    interface  network interface that the other nodes reach this one at, None: as gloo finds it
    ranks      of this node, known once the nodes have met
    """

    def __init__(self, places: Places, node: int, launcher: int, interface: str | None = None) -> None:
        super().__init__(str(places.of("logs")))
        self.places, self.node, self.launcher, self.interface = places, node, launcher, interface
        self.ranks: list[int] = []

    @property
    def root_log_dir(self) -> str:
        return str(self.places.of("logs"))

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        for kind in ("logs", "stacks", "hearts"):
            self.places.of(kind).mkdir(parents=True, exist_ok=True)
        ranks = {local: int(environment["RANK"]) for local, environment in envs.items()}
        for local, rank in ranks.items():
            envs[local] |= {
                "TORCHELASTIC_ERROR_FILE": str(self.places.error(rank)),
                STACKS: str(self.places.stack(rank)),
                SUPERVISED: str(self.launcher),
                heart.FOLDER: str(self.places.hearts),
                "GOKU_NODE": str(self.node),
                "GOKU_ATTEMPT": str(self.places.attempt),
            }
            if self.interface is not None:  # whoever sets it knows better
                envs[local]["GLOO_SOCKET_IFNAME"] = os.environ.get("GLOO_SOCKET_IFNAME", self.interface)
        self.ranks = list(ranks.values())
        return LogsDest(
            stdouts={local: str(self.places.log(rank, "out")) for local, rank in ranks.items()},
            stderrs={local: str(self.places.log(rank, "err")) for local, rank in ranks.items()},
            error_files={local: str(self.places.error(rank)) for local, rank in ranks.items()},
        )

"""Who writes what: torch's planner finds the owner of every piece, once per run, as nothing of it changes from save to save.

What several ranks hold alike (replicas of HSDP, the counts of steps) is written once, spread evenly over those ranks.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.planner import SavePlan, TensorWriteData, WriteItem
from torch.distributed.tensor import DTensor

from goku_core.train.checkpoint.files import Block, File, arrange
from goku_core.train.checkpoint.index import Index
from goku_core.train.checkpoint.ranks import Ranks


@dataclass(frozen=True)
class Plan:
    """What one rank writes.

    structure  of the tensors the plan was made for; another structure needs another plan
    files      of this rank
    index      the text of index.json on the first rank, empty on the others
    """

    structure: Hashable
    files: tuple[File, ...]
    index: str


def structure(tensors: Mapping[str, Tensor]) -> Hashable:
    """Changes when names, shapes, types or the way tensors are sharded do."""
    return tuple((name, tensor.dtype, tuple(tensor.shape), _sharding(tensor)) for name, tensor in tensors.items())


def make_plan(tensors: Mapping[str, Tensor], optimizers: Mapping[str, Sequence[str]], ranks: Ranks) -> Plan:
    """For all ranks together. `optimizers`: names of the parameters that each moves."""
    planner = DefaultSavePlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    planner.set_up_planner(dict(tensors), is_coordinator=ranks.is_first)
    local_plans = ranks.gather(_without_empty(planner.create_local_plan()))
    by_rank: list[list[File]] = []

    def decide() -> None:
        plans, _ = planner.create_global_plan(local_plans)
        by_rank.extend(arrange([_block(item) for item in plan.items], rank) for rank, plan in enumerate(plans))

    ranks.first(decide)
    index = ""
    if ranks.is_first:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        index = Index.of([file for files in by_rank for file in files], shapes, optimizers).to_json()
    return Plan(structure(tensors), tuple(ranks.scatter(by_rank)), index)


def _without_empty(plan: SavePlan) -> SavePlan:
    """A tensor of fewer rows than ranks leaves some of them none, and nothing is written of that."""
    return dataclasses.replace(plan, items=[i for i in plan.items if _block(i).bytes or not math.prod(_data(i).size)])


def _block(item: WriteItem) -> Block:
    data = _data(item)
    return Block(item.index.fqn, data.properties.dtype, tuple(data.chunk.sizes), tuple(data.chunk.offsets))


def _data(item: WriteItem) -> TensorWriteData:
    assert item.tensor_data is not None, f"{item.index.fqn} is no tensor"
    return item.tensor_data


def _sharding(tensor: Tensor) -> Hashable:
    return (tensor.placements, tuple(tensor.device_mesh.shape)) if isinstance(tensor, DTensor) else None

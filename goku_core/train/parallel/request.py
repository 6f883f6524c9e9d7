"""`train.parallel`: how many ranks share the work, and how. Results do not depend on it, except on `precision`."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from goku_core.pipeline.identity import HOW


class Sizes(NamedTuple):
    """The mesh: replicate x shard x sequence ranks, the last neighbours."""

    replicate: int
    shard: int
    sequence: int


class Parallel(BaseModel):
    """Ranks, the memory of a rank, and the arithmetic.

    Only `precision` says what is computed. All else says how: sums are added up in another order, and a run may be continued
    with other values.
    """

    model_config = ConfigDict(extra="forbid")

    nodes: int = Field(1, ge=1, description="machines", json_schema_extra=HOW)
    ranks_per_node: int = Field(1, ge=1, description="processes of a machine, one per GPU", json_schema_extra=HOW)
    sequence: int = Field(
        1, ge=1, description="ranks that share one pack, each a slice of its tokens (Ulysses)", json_schema_extra=HOW
    )
    shard: int | None = Field(
        None,
        ge=1,
        description="groups of such ranks that share one copy of the weights; null: those of a machine; 1: no more than `sequence`",
        json_schema_extra=HOW,
    )
    reshard: Literal["after_step", "after_block"] = Field(
        "after_step",
        description="a rank keeps the whole weights for a step, gradients meet once; or for a block, gradients meet every pack",
        json_schema_extra=HOW,
    )
    precision: Literal["float32", "bfloat16", "float64"] = Field(
        "float32",
        description="of the network's arithmetic; weights and optimizer stay float32. float64: of everything, for proofs",
    )
    recomputation: Literal["none", "selective", "full"] = Field(
        "none", description="what the backward pass computes again instead of keeping", json_schema_extra=HOW
    )
    compile: bool = Field(False, description="compile each block (torch.compile)", json_schema_extra=HOW)
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: a GPU if there is one", json_schema_extra=HOW
    )

    @property
    def world(self) -> int:
        """Ranks in all."""
        return self.nodes * self.ranks_per_node

    def sizes(self) -> Sizes:
        """Shards default to one copy of the weights per machine (the paper's hybrid sharding, section 3), never to one per rank."""
        shard = self.shard or max(1, self.ranks_per_node // self.sequence)
        return Sizes(self.world // (shard * self.sequence), shard, self.sequence)

    @model_validator(mode="after")
    def _ranks_fill_the_mesh(self) -> Parallel:
        world, (_, shard, sequence) = self.world, self.sizes()
        if world % (shard * sequence):
            raise ValueError(
                f"{self.nodes} x {self.ranks_per_node} ranks are no multiple of shard {shard} x sequence {sequence}: "
                f"choose a sequence that divides {world}, and a shard that divides the rest"
            )
        return self

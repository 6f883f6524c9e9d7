"""Parameters of `promote`: which models make the bundle, and when it may become champion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Drop = Literal["paired", "interval"] | Annotated[float, Field(ge=0.0)]


class Threshold(BaseModel):
    """What one score of the evaluation must reach, beside the overall one."""

    model_config = ConfigDict(extra="forbid")

    minimum: float | None = Field(default=None, description="lowest value, in the score's own unit; null for none")
    bound: Literal["point", "low"] = Field(
        default="point", description="what must reach it: the score itself, or the lower bound of its 95 % interval"
    )
    maximum_drop: Drop | None = Field(
        default=None, description="how far below the champion's: as the gate's; null: it is not compared"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Threshold:
        if self.minimum is None and self.maximum_drop is None:
            raise ValueError("a threshold needs minimum, maximum_drop or both")
        return self


class Gate(BaseModel):
    """When a candidate is refused (our choice: the paper has no promotion step)."""

    model_config = ConfigDict(extra="forbid")

    minimum_score: float = Field(
        default=0.0, ge=0.0, le=1.0, description="lowest overall score (0 to 1) that may become champion"
    )
    maximum_drop: Drop = Field(
        default="paired",
        description=(
            "how far below the champion's overall score a candidate may lie. `paired`: as far as chance explains on the "
            "same prompts (95 % interval of the paired difference; `interval` where the champion's records are gone). "
            "`interval`: the half-width of the 95 % interval of the difference of two independent scores. A number: "
            "score points, 0 to 1"
        ),
    )
    thresholds: dict[str, Threshold] = Field(
        default_factory=dict,
        description=(
            "rules for single scores, by name: {geneval/counting: {minimum: 0.5, bound: low}, motion/direction: "
            "{maximum_drop: paired}}"
        ),
    )
    required: list[str] = Field(
        default_factory=list,
        description="evaluations that must be there: a benchmark (motion) or one of its scores (i2v/direction)",
    )
    approver: list[Annotated[str, Field(min_length=1)]] | None = Field(
        default=None,
        min_length=1,
        description="who may approve a candidate that meets every rule; null: it becomes champion without being asked for",
    )


class Request(BaseModel):
    """The section `promote:` of params.yaml."""

    model_config = ConfigDict(extra="forbid")

    image_model: str = Field(
        default="finetune_t2i", min_length=1, description="training phase whose model makes pictures (t2i)"
    )
    video_model: str | None = Field(
        default="finetune_t2v", min_length=1, description="training phase whose model makes clips (t2v); null for none"
    )
    image_to_video_model: str | None = Field(
        default="finetune_i2v",
        min_length=1,
        description="training phase whose model continues a first picture (i2v); null for none",
    )
    gate: Gate = Field(default_factory=Gate, description="when a candidate is refused")
    trusted_keys: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]+={0,2}$")]] = Field(
        default_factory=list,
        description=(
            "public keys (base64, as `goku registry keygen` prints them) one of which must have signed a bundle before it "
            "is promoted or loaded; empty: signatures are checked where there are any, and demanded nowhere"
        ),
    )
    registry_name: str = Field(
        default="goku", pattern=r"^[A-Za-z0-9_-]+$", description="name of the registered model in MLflow"
    )
    alias: str = Field(
        default="champion",
        pattern=r"^[A-Za-z][A-Za-z0-9_-]*$",
        description="MLflow's alias for the champion; goku calls it champion whatever this is",
    )

    def phases(self) -> dict[str, str]:
        """Task (``t2i``, ``t2v``, ``i2v``) -> training phase that serves it; tasks without a model are left out."""
        wanted = {"t2i": self.image_model, "t2v": self.video_model, "i2v": self.image_to_video_model}
        return {task: phase for task, phase in wanted.items() if phase is not None}

    def overtaken(self, report: Mapping[str, Any], workspace: Path) -> str:
        """Why the ledger no longer says what a report of this stage does; empty: it does. For `Cell.overtaken`.

        A promotion stands, whoever is champion since: to go back to that model is a person's decision. A refusal, or the
        wait for approval, stands as long as the ledger gives the same answer to the same question.
        """
        from goku_core.promote import gate, ledger  # here, because the gate knows this very request

        entries = ledger.read(workspace)
        about = [entry for entry in entries if entry.bundle == report["digest"]]
        if not about or report["decision"] == "promoted":  # a clone without the ledger takes over what it is told
            return ""
        rules = ledger.gate_digest(self.gate.model_dump(mode="json"))
        answer = gate.settled(entries, report["digest"], about[-1].evidence, rules)
        if answer is None:
            return f"the ledger has moved since, entry {entries[-1].number} is its last"
        if (answer.decision, answer.reason) != (report["decision"], report["reason"]):
            return f"version {answer.version} is {answer.decision} since, by entry {answer.number} of the ledger"
        return ""

"""A fingerprint names what is done. How it is done (ranks, how often it is saved) must not change it."""

from pathlib import Path

from pydantic import BaseModel, Field

from goku_core.config import load_params
from goku_core.pipeline import line
from goku_core.pipeline.identity import HOW, arrangement, identity
from goku_core.train.checkpoint import Checkpointing

ROOT = Path(__file__).resolve().parents[2]


class Inner(BaseModel):
    rate: float = 0.1
    ranks: int = Field(1, json_schema_extra=HOW)


class Whole(BaseModel):
    name: str = "a"
    phases: dict[str, Inner] = {"one": Inner(), "two": Inner(rate=0.2, ranks=4)}
    several: list[Inner] = [Inner(ranks=8)]
    mesh: Inner = Field(Inner(ranks=2), json_schema_extra=HOW)


def test_what_and_how_are_told_apart() -> None:
    assert identity(Whole()) == {
        "name": "a",
        "phases": {"one": {"rate": 0.1}, "two": {"rate": 0.2}},
        "several": [{"rate": 0.1}],
    }
    assert arrangement(Whole()) == {"phases.one.ranks": 1, "phases.two.ranks": 4, "mesh": {"rate": 0.1, "ranks": 2}}


def test_how_training_is_done_is_no_part_of_its_identity() -> None:
    """Memory of a rank and the cadence of checkpoints may change in the middle of a run; the learning rate may not."""

    def requests(**changes: object) -> dict[str, dict[str, object]]:
        params = load_params(ROOT / "params/smoke.yaml")
        phase = params.train.phases["joint_low"].model_copy(
            update={k: v for k, v in changes.items() if k != "checkpoint"}
        )
        train = params.train.model_copy(
            update={"phases": {**params.train.phases, "joint_low": phase}}
            | {k: v for k, v in changes.items() if k == "checkpoint"}
        )
        return {c.name: c.request_json() for c in line.cells(params.model_copy(update={"train": train}))}

    plain = requests()
    assert requests(checkpoint=Checkpointing(every=7, remote="s3://bucket/runs"), pack_tokens=64) == plain
    changed = requests(learning_rate=0.5)
    assert [name for name in plain if plain[name] != changed[name]] == ["train@joint_low"]

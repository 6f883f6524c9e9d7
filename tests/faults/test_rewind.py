"""A bad step is undone and left out, and the run that comes out is the one without it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small_rank
import torch

from goku_core.train.health import incidents
from goku_core.train.health.errors import Diverged
from goku_core.train.health.request import WatchSettings
from goku_core.train.health.rewind import decide
from goku_core.train.health.watch import Watch

JOB = {
    "seed": 3,
    "steps": 120,
    "checkpoint_every": 40,
    "watch": {"snapshot_every": 10, "window": 40, "least_history": 8},
}


def run(place: Path, **changes: object) -> tuple[dict[str, torch.Tensor], dict, dict]:
    job = JOB | {"scratch": str(place)} | changes
    state, position = small_rank.train(job)
    weights = {
        f"{n}.{k}": v for n, m in (("model", state.model), ("ema", state.ema)) for k, v in m.state_dict().items()
    }
    moments = {
        f"{k}.{n}": v for k, entry in state.optimizers["adamw"].state_dict()["state"].items() for n, v in entry.items()
    }
    return weights | moments, position.as_json(), job


def losses(job: dict, weights: dict[str, torch.Tensor]) -> float:
    """On data that no run has seen."""
    model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.SiLU(), torch.nn.Linear(32, 1))
    model.load_state_dict({k.removeprefix("model."): v for k, v in weights.items() if k.startswith("model.")})
    with torch.no_grad():
        return (
            sum(
                (model(x) - y).square().mean().item()
                for x, y in (small_rank.batch(job, s, 0, 1) for s in range(900, 940))
            )
            / 40
        )


@pytest.mark.parametrize("value", ["nan", "1e4"])
def test_a_poisoned_step_leaves_no_trace(tmp_path: Path, value: str) -> None:
    """Bit for bit the run that was never given those data: weights, average and both moments."""
    poison = {"data_steps": [33, 71], "value": value}
    poisoned, position, job = run(tmp_path / "poisoned", poison=poison)
    assert position["skipped"] == [33, 71]
    # The same run over the data without the two steps, on a generator that knows nothing of rewinding.
    order = [step for step in range(200) if step not in (33, 71)]
    clean_batch, batch = small_rank.batch, small_rank.batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_rank, "batch", lambda job, step, rank, world: clean_batch(job, order[step], rank, world))
        clean, place, _ = run(tmp_path / "clean")
    assert batch is small_rank.batch and place["skipped"] == []
    assert clean.keys() == poisoned.keys()
    assert all(torch.equal(clean[name], poisoned[name]) for name in clean)
    told = [line for line in incidents.recorded(tmp_path / "poisoned") if line["kind"] == "rewind"]
    assert [(line["data_step"], line["samples"]) for line in told] == [(33, ["sample-33"]), (71, ["sample-71"])]
    assert ("nan" in told[0]["why"]) == (value == "nan")
    # Against the run over all data, unpoisoned: within noise.
    whole, _, _ = run(tmp_path / "whole")
    assert losses(job, poisoned) == pytest.approx(losses(job, whole), rel=0.1)


def test_a_resumed_run_judges_as_the_unbroken_one(tmp_path: Path) -> None:
    """The spike comes right after a resume, when a watch that began anew would have no history."""
    poison = {"data_steps": [41], "value": "1e4"}
    unbroken, position, _ = run(tmp_path / "unbroken", poison=poison)
    run(tmp_path / "broken", poison=poison, steps=40)
    resumed, again, _ = run(tmp_path / "broken", poison=poison)
    assert position == again and position["skipped"] == [41]
    assert all(torch.equal(unbroken[name], resumed[name]) for name in unbroken)


def test_going_back_is_bounded(tmp_path: Path) -> None:
    """Bad data without end: more and more is left out, then the run says that it has diverged."""
    with pytest.raises(Diverged, match=r"incidents\.jsonl"):
        run(tmp_path, poison={"data_steps": list(range(55, 200)), "value": "nan"})
    told = list(incidents.recorded(tmp_path))
    assert [line["kind"] for line in told] == ["rewind"] * 3 + ["diverged"]
    assert [line.get("skipped") for line in told] == [[55], [50, 51, 52, 53, 54, 56], [57], None]
    assert json.dumps(told)  # nan is text there


def test_without_snapshots_a_bad_step_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(Diverged, match="snapshot_every is 0"):
        run(tmp_path, poison={"data_steps": [5], "value": "nan"}, watch={"snapshot_every": 0})


def test_the_first_rewind_leaves_out_one_step_and_the_next_ones_what_led_to_it() -> None:
    settings = WatchSettings(window=20, rewinds=2)
    assert decide(57, 50, [], [], settings).skip == (57,)
    assert decide(57, 50, [30], [30], settings).skip == (57,)  # long ago
    assert decide(58, 50, [57], [57], settings).skip == (50, 51, 52, 53, 54, 55, 56, 58)
    assert decide(58, 50, [56, 57], [56, 57], settings).diverged


def test_only_spikes_are_spikes() -> None:
    """Ten thousand healthy steps of a norm that falls and wavers: no alarm. A spike of ten times the median: one."""
    draws = torch.Generator().manual_seed(0)
    watch = Watch()
    norms = torch.exp(0.35 * torch.randn(10_000, generator=draws)) * torch.linspace(2.0, 0.3, 10_000)
    loss = 0.5 + 0.2 * torch.rand(10_000, generator=draws)
    assert not [step for step in range(10_000) if watch.judge(loss[step].item(), norms[step].item())]
    assert "gradient norm" in watch.judge(0.6, 10.4 * 0.3)
    assert watch.judge(0.6, 0.3) is None, "the spike is no part of the history"
    assert "loss" in watch.judge(0.6 * 2.8 * 2, 0.3)
    assert "inf" in watch.judge(float("inf"), 0.3)

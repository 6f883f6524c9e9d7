"""`goku plan train --gpus N`: on a laptop, in seconds, without data; and it refuses what cannot fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from latent_workspace import make_workspace
from typer.testing import CliRunner

from goku_core import config
from goku_core.cli import app
from goku_core.cli_forecast import Asked, forecasts
from goku_core.forecast.devices import DEVICES, measured, published
from goku_core.forecast.lengths import from_index, stated
from goku_core.pipeline.errors import GokuError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with no data and no params.yaml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_presets_fit_the_gpus_they_name(elsewhere: Path) -> None:
    for preset, gpus in (("goku-2b", 256), ("goku-8b", 512), ("pilot-1b", 8)):
        found = forecasts(Asked(gpus, "h100", preset), elsewhere)
        assert [one.phase for one in found] == list(config.load_params(ROOT / f"params/{preset}.yaml").train.phases)
        for one in found:
            assert one.obstacle is None, f"{preset} {one.phase}: {one.obstacle}"
            assert one.packs.idle_groups == 0 and one.packs.imbalance < 0.1, f"{preset} {one.phase}: {one.packs}"
            assert 0 < one.step.mfu < 0.7 and one.days > 0
            assert "stated, as there is no index" in one.lengths


def test_what_cannot_fit_is_refused_with_the_least_change_that_fits(elsewhere: Path) -> None:
    asked = Asked(
        1024, "h100", "goku-8b", "joint_high", sequence=1, shard=8, reshard="after_block", recomputation="none"
    )
    (one,) = forecasts(asked, elsewhere)
    assert one.obstacle is not None and "GiB of a GPU" in one.obstacle and one.advice
    changes = dict(line.split(": ") for line in one.advice)
    numbers = {key: int(value) for key, value in changes.items() if value.isdigit()}
    words = {key: value for key, value in changes.items() if not value.isdigit()}
    (again,) = forecasts(Asked(**{**vars(asked), **numbers, **words}), elsewhere)
    assert again.obstacle is None and again.memory.total <= again.free < one.memory.total
    # No single change does: then it would have been the advice.
    assert len(one.advice) > 0
    for key in changes if len(changes) > 1 else ():
        alone = {key: {**numbers, **words}[key]}
        (part,) = forecasts(Asked(**{**vars(asked), **alone}), elsewhere)
        assert part.obstacle is not None


def test_one_gpu_is_not_enough_for_8b_and_it_says_so(elsewhere: Path) -> None:
    (one,) = forecasts(Asked(1, "h100", "goku-8b", "text_semantic", sequence=1, shard=1), elsewhere)
    assert one.obstacle is not None and not one.advice


def test_a_pack_must_hold_the_longest_sample(elsewhere: Path) -> None:
    (one,) = forecasts(Asked(512, "h200", "goku-8b", "joint_high", pack_tokens=50_000), elsewhere)
    assert one.obstacle is not None and "longest sample has" in one.obstacle
    assert [line.split(":")[0] for line in one.advice] == ["pack_tokens"]


def test_the_command_line(elsewhere: Path) -> None:
    run = CliRunner().invoke
    options = ["--gpus", "512", "--gpu", "h200", "--preset", "goku-8b", "--phase", "joint_low", "--price", "2.5"]
    arranged = ["--sequence", "8", "--shard", "8", "--reshard", "after_block", "--recomputation", "selective"]
    done = run(app, ["plan", "train", *options, *arranged, "--json"])
    assert done.exit_code == 0, done.output
    (one,) = json.loads(done.stdout)
    assert one["cost"] == pytest.approx(2.5 * one["gpu_hours"])
    assert one["arrangement"]["groups"] == 64 and one["arrangement"]["replicas"] == 8
    parts = {k: v for k, v in one["memory_gib"].items() if k not in ("total", "free")}
    assert sum(parts.values()) == pytest.approx(one["memory_gib"]["total"], abs=0.1)
    shown = run(app, ["plan", "train", *options, *arranged])
    assert shown.exit_code == 0 and "joint_low" in shown.output and "GPU-hours" in shown.output
    with pytest.raises(GokuError, match="only with --gpus"):
        run(app, ["plan", "--preset", "goku-8b"], catch_exceptions=False)
    with pytest.raises(GokuError, match="no multiple of shard 8 x sequence 3"):
        run(
            app,
            ["plan", "train", "--gpus", "16", "--preset", "goku-2b", "--sequence", "3", "--shard", "8"],
            catch_exceptions=False,
        )
    refused = [*options[:2], "--preset", "goku-8b", "--phase", "joint_high", "--sequence", "1", "--shard", "8"]
    with pytest.raises(GokuError, match=r"joint_high: needs .* The least change that fits: "):
        run(app, ["plan", "train", *refused, "--recomputation", "none"], catch_exceptions=False)


def test_lengths_come_from_the_index_where_there_is_one(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    found = from_index(workspace / "data/latents/low")
    assert found is not None and "24 samples" in found.source
    assert sorted(found.tokens) == [4] * 16 + [8] * 8 and found.is_clip.sum() == 8
    assert from_index(workspace / "data/latents/none") is None


def test_stated_lengths_are_those_of_the_paper() -> None:
    """288x512, 97 frames: 576 tokens a picture, 14,400 a clip (fact sheet 1.6)."""
    low = config.load_params(ROOT / "params/goku-2b.yaml").precompute.resolutions["low"]
    fixed = stated(low.model_copy(update={"aspect": "fixed"}), 256)
    assert set(fixed.tokens[~fixed.is_clip]) == {576} and set(fixed.tokens[fixed.is_clip]) == {14_400}
    shaped = stated(low, 256)
    assert shaped.tokens[~shaped.is_clip].max() <= 576 and shaped.tokens[~shaped.is_clip].min() > 0.9 * 576


def test_rates_of_a_result_file(tmp_path: Path) -> None:
    """Made by hand: attention's 3 units of time at 300 TFLOP/s are 3.5 units of the kernel's products."""
    rows = [
        {"case": "2b, 14336 tokens", "side": "matmul, one block", "median_s": 1.0, "tflop_per_s": 600.0},
        {
            "case": "2b, 14336 tokens",
            "side": "self-attention varlen, one block (used)",
            "median_s": 1.0,
            "tflop_per_s": 300.0,
        },
        {"case": "2b, 14336 tokens", "side": "self-attention flex, one block", "median_s": 9.0, "tflop_per_s": 30.0},
        {"case": "2b, 14336 tokens", "side": "roofline", "median_s": 2.0},
        {"case": "2b, 14336 tokens", "side": "step", "median_s": 2.5, "tflop_per_s": 400.0},
    ]
    file = tmp_path / "roofline-nvidia-h200.json"
    found = {"benchmark": "roofline", "rows": rows, "machine": {"device": "NVIDIA H200"}, "date": "2026-11-01"}
    file.write_text(json.dumps(found))
    rates = measured(file, "2b")
    assert rates.matmul == 600e12 and rates.everything_else == pytest.approx(0.25)
    assert 1 / rates.attention_forward + 2.5 / rates.attention_backward == pytest.approx(3 / 300e12)
    assert "measured" in rates.source and "H200" in rates.source
    file.write_text("{}")
    with pytest.raises(GokuError, match="no result of"):
        measured(file, "2b")


def test_the_composed_rate_is_that_of_the_reference() -> None:
    """Shares of the peak worked out elsewhere from the same rates: 2B at 37k tokens 40 %, 8B at 8k 52 % (attention kept)."""
    from goku_core.forecast import network, speed
    from goku_core.models import CONFIGS

    for name, tokens, share in (("2b", 37_000, 0.40), ("2b", 14_000, 0.43), ("8b", 8_000, 0.52), ("8b", 90_000, 0.39)):
        shape = CONFIGS[name]
        work = network.operations(shape, tokens, tokens**2, 0, 1)
        seconds = speed.kernel_seconds(work, published(DEVICES["h200"], shape.width, 64), "selective")
        assert 3 * (work.matmul + work.attention) / seconds / 989e12 == pytest.approx(share, abs=0.015)


def test_a_larger_pack_and_more_recomputation_move_memory_as_they_should(elsewhere: Path) -> None:
    def needed(**changes: object) -> float:
        told = {"sequence": 8, "shard": 8, "reshard": "after_block", "recomputation": "selective", **changes}
        (one,) = forecasts(Asked(512, "h100", "goku-8b", "joint_mid", **told), elsewhere)
        return one.memory.total

    plain = needed()
    assert needed(recomputation="full") < plain < needed(recomputation="none")
    assert needed(sequence=4, shard=16) > plain
    assert needed(shard=16) < plain < needed(reshard="after_step")


def test_packs_of_the_forecast_are_within_their_bound(elsewhere: Path) -> None:
    (one,) = forecasts(Asked(256, "h100", "goku-2b", "joint_low", sequence=4, shard=2), elsewhere)
    assert one.packs.fill <= 1 and one.packs.packs >= one.arrangement.groups
    assert one.packs.tokens == pytest.approx(one.packs.samples * np.mean([576, 14_400]), rel=0.1)

"""`goku bench` and every benchmark at tiny sizes: do both sides run, is the ratio that of the seconds, is the file what it says."""

from __future__ import annotations

import importlib
import json
import os
import socket
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.measuring import footage, peer, shapes
from goku_core.cli import app
from goku_core.cli_bench import benchmarks_folder, listed
from goku_core.pipeline.errors import GokuError

ROOT = Path(__file__).resolve().parents[1]
TIMED = {
    **{"attention": "goku sdpa", "block": "goku packed", "step": "goku packed", "sample": "goku", "roofline": "step"},
    **{"latents": "goku shards", "captions": "goku", "checkpoint": "goku"},
    **{"loader": "goku", "cost": ("4 samples", "16 samples"), "eval": "goku"},
    "lineage": "goku lineage",
}
SCORED = {"pilot", "shots", "packing"}  # their ratios are of distances, of F1 and of modelled cost, not of seconds
SERVING = {"orchestration", "up"}  # tests/services/test_service_benches.py
CURATION = {"curate"}  # tests/curate/test_curate_bench.py
SERVICES = {"serve"}  # tests/serve/test_serve_bench.py
NAMES = sorted(listed(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def tiny_result(tmp_path_factory):
    """Runs a benchmark at tiny size, once, and gives its result file."""
    done: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in done:
            out = tmp_path_factory.mktemp(name)
            module = importlib.import_module(f"benchmarks.{name}")
            module.main(["--device", "cpu", "--small", "--out", str(out)])
            (done[name],) = out.glob("*.json")
        return done[name]

    return run


def recomputed_ratio(rows: list[dict], ratio: dict) -> list[float]:
    own, other = (
        next(row["seconds"] for row in rows if (row["case"], row["side"]) == (ratio["case"], side))
        for side in (ratio["side"], ratio["against"])
    )
    return [b / a for a, b in zip(own, other, strict=True)]


def test_every_benchmark_is_tested_here():
    assert set(NAMES) == {*TIMED, *SCORED, *CURATION, *SERVING, *SERVICES, "fuzz", "prescreen", "dedup", "repro"}


# Its kernels are meant for a GPU: a quarter of a minute on a processor, at any size.
SLOW = {"roofline"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in TIMED])
def test_both_sides_run_and_the_ratio_is_that_of_their_seconds(tiny_result, name):
    path = tiny_result(name)
    found = json.loads(path.read_text())
    assert path.name.startswith(f"{name}-") and found["benchmark"] == name
    assert found["ratios"], "no ratio without a peer: install the extra bench"
    for ratio in found["ratios"]:
        each = recomputed_ratio(found["rows"], ratio)
        assert ratio["side"].startswith(TIMED[name]) and ratio["side"] != ratio["against"]
        assert ratio["ratio"] == pytest.approx(statistics.median(each))
        assert (ratio["low"], ratio["high"], ratio["repeats"]) == (min(each), max(each), len(each))
    for row in found["rows"]:
        assert row["median_s"] == pytest.approx(statistics.median(row["seconds"])) and min(row["seconds"]) > 0


@pytest.mark.slow
def test_dedup_counts_recall_and_precision_by_hand(tiny_result):
    """At tiny size every rule is judged on the same clips, and the search agrees with all pairs (or the run ends)."""
    found = json.loads(tiny_result("dedup").read_text())
    rules = [row for row in found["rows"] if "precision" in row]
    assert [row["side"] for row in rules] == ["goku", "ImageHash, middle frame", "former rule"] * 3
    for number, row in enumerate(rules):
        planted = [row[kind] for kind in (footage.PLANTED if number < 3 else shapes.KINDS)]
        clips = 3 if number < 3 else 9
        assert row["recall of planted"] == pytest.approx(statistics.mean(planted))
        assert 0 <= row["precision"] <= 1 and {round(clips * share, 6) for share in planted} <= set(range(clips + 1))
    assert rules[0]["recall of planted"] >= rules[2]["recall of planted"]
    assert all(row["precision"] == 1 for row in rules if row["side"] == "goku")
    for ratio in found["ratios"]:
        assert ratio["ratio"] == pytest.approx(statistics.median(recomputed_ratio(found["rows"], ratio)))
    assert any("precision" in note and "target" in note for note in found["notes"])


def test_eval_counts_decodes_on_both_sides(tiny_result):
    found = json.loads(tiny_result("eval").read_text())
    once, each, *runs = found["rows"]
    assert (once["decodes"], each["decodes"]) == (2, 5 * 2), "five dimensions: one decode against five"
    for row in runs:
        assert row["decodes"] == 2
        assert row["overhead_percent"] == pytest.approx(100 * (1 - row["judges_s"] / row["median_s"]))


@pytest.mark.parametrize("name", ["attention", "block", "step"])
def test_rates_count_tokens_of_samples_on_both_sides(tiny_result, name):
    """One sequence and mixed have the same 56 tokens; padding (to 96) counts for nobody."""
    for row in json.loads(tiny_result(name).read_text())["rows"]:
        assert row["tokens_per_s"] * row["median_s"] == pytest.approx(56)


def test_every_layout_of_latents_delivers_the_same_samples(tmp_path):
    """A side that reads less, or something else, would look fast."""
    from benchmarks import latents

    samples = [latents._sample((4, 2, 4, 6), number) for number in range(5)]
    delivered: dict[str, list[bytes]] = {}
    with pytest.MonkeyPatch.context() as patch, latents.sides(tmp_path, samples) as made:
        copy = np.copyto
        for name, side in made.items():
            if name in ("pt files", "goku shards, float32"):
                continue  # torch copies for them
            delivered[name] = found = []
            patch.setattr(np, "copyto", lambda to, given, found=found: (copy(to, given), found.append(to.tobytes())))
            side()
    assert set(delivered) == {"goku shards", "npz files", "tar stream", "memory copy (limit)"}
    for found in delivered.values():
        assert sorted(found) == sorted(sample.tobytes() for sample in samples)


@pytest.mark.skipif(not peer.installed(), reason="the extra bench (diffusers) is not installed")
@pytest.mark.parametrize(
    ("name", "peers"),
    [
        ("attention", {"diffusers", "diffusers padded"}),
        ("block", {"diffusers", "diffusers padded", "diffusers buckets"}),
        ("step", {"diffusers", "diffusers padded", "diffusers buckets"}),
        ("sample", {"diffusers"}),
    ],
)
def test_the_peer_takes_part(tiny_result, name, peers):
    found = json.loads(tiny_result(name).read_text())
    assert peers <= {ratio["against"] for ratio in found["ratios"]}


def test_without_the_peer_ours_is_measured_and_the_file_says_who_is_missing(tmp_path, monkeypatch):
    from benchmarks import block

    monkeypatch.setattr(peer, "installed", lambda: False)
    result = block.main(["--device", "cpu", "--small", "--repeats", "1", "--out", str(tmp_path)])
    assert {row["side"] for row in result.rows} == {"goku packed", "goku padded"}
    assert {ratio["against"] for ratio in result.ratios} == {"goku padded"}
    assert any("diffusers is not installed" in note for note in result.notes)


def test_a_result_describes_the_machine_and_names_no_host_and_no_place(tiny_result):
    text = tiny_result("block").read_text()
    found = json.loads(text)
    assert {"cpu", "cores", "torch", "threads", "device"} <= set(found["machine"])
    assert len(found["date"]) == 10 and len(found["code"]) == 64
    assert str(ROOT) not in text and str(Path.home()) not in text
    assert socket.gethostname() not in text


@pytest.mark.slow
def test_roofline_is_the_sum_of_its_kernels(tiny_result):
    found = json.loads(tiny_result("roofline").read_text())
    rows = {row["side"]: row["seconds"] for row in found["rows"] if row["case"].startswith("tiny,")}
    kernels = [v for side, v in rows.items() if side == "matmul, one block" or side.endswith("(used)")]
    assert len(kernels) == 3, "products, self-attention, cross-attention"
    layers = next(row["layers"] for row in found["rows"] if "layers" in row)
    for repeat, total in enumerate(rows["roofline"]):
        assert total == pytest.approx(layers * sum(k[repeat] for k in kernels) + rows["edges, whole"][repeat])


def test_bad_inputs_are_counted_by_class(tiny_result):
    found = json.loads(tiny_result("fuzz").read_text())
    *classes, total = found["rows"]
    assert total["files"] == 16 == sum(row["files"] for row in classes) and total["crashes_of_the_run"] == 0
    for row in found["rows"]:
        assert row["lost"] == 0
        assert row["files"] == row["kept"] + row["rejected"] + row["failed"] + row["quarantined"]


def test_prescreen_is_measured_against_the_full_pass(tiny_result):
    found = json.loads(tiny_result("prescreen").read_text())
    looked, full = found["rows"]
    assert (looked["side"], full["side"]) == ("key frames", "full pass") and looked["clips_lost"] == 0
    assert looked["turned_away"] >= 2 and full["clips_kept"] > 0
    (ratio,) = found["ratios"]
    assert ratio["ratio"] == pytest.approx(statistics.median(recomputed_ratio(found["rows"], ratio)))


@pytest.mark.slow
def test_repro_asks_whether_all_is_done(tiny_result):
    found = json.loads(tiny_result("repro").read_text())
    assert [row["side"] for row in found["rows"]] == ["dvc repro", "goku run, no server", "goku run --no-flow"]
    assert all(row["median_s"] > 0 for row in found["rows"]) and len(found["ratios"]) == 2
    assert "10 s are claimed" in found["notes"][0]


def test_pilot_scores_both_and_draws_them(tiny_result):
    from PIL import Image

    path = tiny_result("pilot")
    found = json.loads(path.read_text())
    assert {(row["side"], row["step"]) for row in found["rows"]} == {
        ("real", ""),
        *((side, step) for side in ("rectified flow", "DDPM") for step in (2, 4)),
    }
    for ratio in found["ratios"]:
        step, evaluations = (int(word) for word in ratio["case"].split() if word.isdigit())
        own, other = (
            next(
                row["frechet"]
                for row in found["rows"]
                if (row["side"], row["step"], row.get("evaluations")) == (side, step, evaluations)
            )
            for side in ("rectified flow", "DDPM")
        )
        assert ratio["ratio"] == pytest.approx(other / own) and own > 0
    with Image.open(path.with_suffix(".png")) as picture:
        assert min(picture.size) > 300 and len(set(picture.convert("L").getdata())) > 10


def test_the_command_lists_what_the_folder_holds():
    done = CliRunner().invoke(app, ["bench"])
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.split("\n\n")[0].splitlines()] == NAMES
    assert all(len(line.split()) > 5 for line in done.stdout.split("\n\n")[0].splitlines()), (
        "each says what it measures"
    )


def goku(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "goku_core.cli", "bench", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_the_command_runs_a_benchmark_from_any_folder_and_passes_options_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = goku("attention", "--small", "--device", "cpu", "--repeats", "1", "--out", "found")
    assert done.returncode == 0, done.stderr
    assert "torch padded" in done.stdout
    (path,) = (tmp_path / "found").glob("attention-*.json")
    assert json.loads(path.read_text())["options"]["repeats"] == 1


@pytest.mark.parametrize("name", ["nothing", "measuring", "__init__", "../tests/conftest"])
def test_an_unknown_name_is_one_clear_error(name):
    done = goku(name)
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert name in done.stderr and all(known in done.stderr for known in NAMES)


def test_outside_of_a_repository_the_command_says_what_to_do(tmp_path):
    with pytest.raises(GokuError, match=r"needs the repository.*Clone"):
        benchmarks_folder(tmp_path)


def test_figures_of_the_document_are_those_of_the_committed_results():
    from benchmarks.measuring import document

    text = document.DOCUMENT.read_text(encoding="utf-8")
    assert document.written(text) == document.render(document.RESULTS).strip()
    assert all(f"`{name}`" in text for name in NAMES)


def test_the_document_shows_ratios_as_the_result_file_has_them(tiny_result):
    from benchmarks.measuring import document

    path = tiny_result("block")
    shown = document.render(path.parent)
    for ratio in json.loads(path.read_text())["ratios"]:
        assert f"| {ratio['ratio']:.2f}x | {ratio['side']} | {ratio['against']} | {ratio['case']} |" in shown


RESULT_FILES = sorted((ROOT / "benchmarks/results").glob("*.json"))


@pytest.mark.parametrize("path", RESULT_FILES, ids=lambda path: path.stem)
def test_committed_results_are_valid(path):
    """Of real sizes, both sides, ratios that follow from the rows."""
    found = json.loads(path.read_text())
    assert found["benchmark"] in NAMES and path.name.startswith(found["benchmark"])
    assert not found["options"]["small"] and found["rows"] and (found["ratios"] or found["benchmark"] == "fuzz")
    for ratio in found["ratios"]:
        if found["benchmark"] not in SCORED | SERVICES:  # of the service: of pictures per second
            assert ratio["ratio"] == pytest.approx(statistics.median(recomputed_ratio(found["rows"], ratio)))
        assert ratio["low"] <= ratio["ratio"] <= ratio["high"]

"""Official result files become records, and the tables made of these say what the files say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from goku_core import cli_results
from goku_core.evaluate import manifest
from goku_core.evaluate.benchmarks.benchmark import benchmark_named
from goku_core.evaluate.manifest import Prompt, Sample, plan
from goku_core.evaluate.records import RecordStore
from goku_core.evaluate.results.importing import Imported, import_results
from goku_core.pipeline.errors import GokuError

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
TOLERANCE = 1e-6


def values(benchmark: str, found: Imported, samples: list[Sample], mode: str = "official") -> dict[str, float | None]:
    table = benchmark_named(benchmark).aggregate(list(found.records), samples, mode, 20, 0)
    return {line.name: line.score and line.score.value for line in (*table.lines, table.total)}


# GenEval


def geneval_plan() -> list[Sample]:
    prompts = [Prompt(f"geneval-{i:05d}", f"a photo of {i}", TASKS[i % 6], ("geneval",)) for i in range(18)]
    return plan("geneval", "image", prompts, 4, 0)


def geneval_file(path: Path, samples: list[Sample]) -> float:
    """As pandas writes it; returns the score that `summary_scores.py` would print."""
    rng, lines, tasks = np.random.default_rng(0), [], {}
    for s in rng.permutation(np.array(samples, dtype=object)):
        number = int(s.prompt.prompt_id.rsplit("-", 1)[1])
        correct = bool(rng.random() < 0.3 + 0.1 * TASKS.index(s.task))
        entry = {
            "filename": f"/data/run/{number:05d}/samples/{s.index:04d}.png",
            "tag": s.task,
            "prompt": s.prompt.text,
            "correct": correct,
            "reason": "" if correct else "expected dog>=1, found 0",
            "metadata": json.dumps({"tag": s.task, "prompt": s.prompt.text}),
            "details": json.dumps({"cat": [[1.0, 2.0, 30.0, 40.0, 0.98]]}),
        }
        lines.append(json.dumps(entry).replace("/", "\\/"))
        tasks.setdefault(s.task, []).append(correct)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return float(np.mean([np.mean(v) for v in tasks.values()]))


def test_geneval_lines_give_the_official_score(tmp_path):
    samples = geneval_plan()
    score = geneval_file(tmp_path / "results.jsonl", samples)
    found = import_results("geneval", tmp_path / "results.jsonl", samples)
    assert values("geneval", found, samples)["total"] == pytest.approx(score, abs=TOLERANCE)
    assert found.says["total"] == pytest.approx(score, abs=TOLERANCE) and not found.unmatched
    assert {r.judge for r in found.records} == {found.records[0].judge}
    assert found.records[0].judge.startswith("official:geneval/") and len(found.records[0].judge) == 17 + 12
    wrong = next(r for r in found.records if not r.verdict)
    assert wrong.reason == "expected dog>=1, found 0"
    assert json.loads(wrong.evidence)["detections"]["cat"][0][4] == 0.98


def test_geneval_entries_of_other_prompts_are_named_and_a_lost_picture_is_missing(tmp_path):
    samples, file = geneval_plan(), tmp_path / "results.jsonl"
    geneval_file(file, samples)
    lines = file.read_text().splitlines()
    lines[0] = lines[0].replace("a photo of", "a drawing of")
    file.write_text("\n".join(lines))
    found = import_results("geneval", file, samples)
    assert found.unmatched == (json.loads(lines[0])["filename"],)
    assert values("geneval", found, samples)["total"] is None
    file.write_text('{"image": 1}')
    with pytest.raises(GokuError, match=r"line 1: no filename, tag, prompt, correct"):
        import_results("geneval", file, samples)


# VBench

FRAMEWISE = (
    "subject_consistency",
    "background_consistency",
    "object_class",
    "multiple_objects",
    "spatial_relationship",
)
CLIPWISE = ("temporal_flickering", "motion_smoothness", "dynamic_degree", "aesthetic_quality", "imaging_quality")
REST = ("human_action", "color", "scene", "appearance_style", "temporal_style", "overall_consistency")


def vbench_plan(per_prompt: int = 5) -> list[Sample]:
    twice = (*FRAMEWISE, *CLIPWISE, *REST) * 2
    prompts = [Prompt(f"vbench-{i:05d}", f"a clip for {d}, no. {i}", "", (d,)) for i, d in enumerate(twice)]
    return plan("vbench", "video", prompts, per_prompt, 0)


def vbench_results(samples: list[Sample], gpus: int = 1) -> dict[str, list]:
    """What the official code of each dimension writes on one GPU, or on several: its own sums, loops and keys."""
    rng, results = np.random.default_rng(1), {}
    for dimension in (*FRAMEWISE, *CLIPWISE, *REST):
        entries, total, count = [], 0.0, 0
        for s in (s for s in samples if dimension in s.prompt.dimensions):
            entry: dict = {"video_path": f"videos/{s.prompt.text}-{s.index}.mp4"}
            frames = [float(v) for v in rng.random(int(rng.integers(3, 9)))]
            if dimension == "subject_consistency":
                frames = frames[:3]
            if dimension == "color" and s.index == 3:
                continue
            entry["video_results"] = float(np.mean(frames))
            if dimension == "background_consistency":
                entry |= {"video_sim": sum(frames), "cnt_per_video": len(frames)}
            elif dimension in ("object_class", "multiple_objects", "scene"):
                hits = sum(v > 0.4 for v in frames)
                frames = [float(v > 0.4) for v in frames]
                entry |= {"video_results": hits / len(frames), "success_frame_count": hits, "frame_count": len(frames)}
            elif dimension == "spatial_relationship":
                entry["frame_results"] = frames
            elif dimension == "appearance_style":
                entry |= {"frame_results": frames, "cur_sim": frames[-1]}
            elif dimension in ("dynamic_degree", "human_action"):
                entry["video_results"] = bool(frames[0] > 0.5)
                frames = [float(entry["video_results"])]
            elif dimension == "imaging_quality":
                entry["video_results"] *= 100
            by_frame = dimension in FRAMEWISE or dimension in ("scene", "appearance_style")
            if gpus > 1 and dimension in ("subject_consistency", "spatial_relationship"):
                by_frame = False
            if gpus > 1 and dimension == "appearance_style":
                frames, by_frame = frames[-1:], False
            total += sum(frames) if by_frame else sum(frames) / len(frames)
            count += len(frames) if by_frame else 1
            entries.append(entry)
        results[dimension] = [total / count, entries]
    return results


@pytest.mark.parametrize("gpus", [1, 8])
def test_vbench_files_of_one_and_of_several_gpus_give_their_own_means(tmp_path, gpus):
    samples, file = vbench_plan(), tmp_path / "model_eval_results.json"
    results = vbench_results(samples, gpus)
    file.write_text(json.dumps(results))
    found = import_results("vbench", file, samples)
    table = values("vbench", found, samples)
    for dimension, (mean, _) in results.items():
        assert table[dimension] == pytest.approx(mean, abs=TOLERANCE), dimension
    assert found.says == pytest.approx({d: mean for d, (mean, _) in results.items()}) and not found.unmatched
    assert any("color: 2 clips are not in the file" in doubt for doubt in found.doubts)
    assert any("last frame" in doubt for doubt in found.doubts) == (gpus > 1)
    assert all(r.verdict is not None for r in found.records if r.dimension in ("dynamic_degree", "human_action"))


def test_vbench_total_of_the_file_is_that_of_the_official_script(tmp_path):
    """`cal_final_score.py` in a few lines: its dictionary of (min, max), its lists, its sums."""
    samples, file = vbench_plan(), tmp_path / "model_eval_results.json"
    results = vbench_results(samples)
    file.write_text(json.dumps(results))
    limits = dict.fromkeys(results, (0.0, 1.0)) | {
        "subject_consistency": (0.1462, 1), "background_consistency": (0.2615, 1), "temporal_flickering": (0.6293, 1),
        "motion_smoothness": (0.706, 0.9975), "scene": (0, 0.8222), "appearance_style": (0.0009, 0.2855),
        "temporal_style": (0, 0.364), "overall_consistency": (0, 0.364),
    }  # fmt: skip
    unit = {d: (results[d][0] - low) / (high - low) for d, (low, high) in limits.items()}
    unit["dynamic_degree"] *= 0.5
    quality = [unit[d] for d in (*CLIPWISE, "subject_consistency", "background_consistency")]
    semantic = [unit[d] for d in results if d not in (*CLIPWISE, "subject_consistency", "background_consistency")]
    total = (4 * sum(quality) / 6.5 + sum(semantic) / 9) / 5
    assert values("vbench", import_results("vbench", file, samples), samples)["total"] == pytest.approx(
        total, abs=TOLERANCE
    )


def test_one_file_per_dimension_in_a_folder_and_a_mean_that_cannot_be_made_again(tmp_path):
    """Clips of other lengths: the subject's mean is over frames, whose numbers its file does not hold."""
    samples = [s for s in vbench_plan() if s.prompt.dimensions[0] in ("subject_consistency", "scene")]
    results = vbench_results(vbench_plan())
    results["subject_consistency"][0] += 0.01
    for dimension in ("subject_consistency", "scene"):
        (tmp_path / f"{dimension}_eval_results.json").write_text(json.dumps({dimension: results[dimension]}))
    found = import_results("vbench", tmp_path, samples)
    assert {r.dimension for r in found.records} == {"subject_consistency", "scene"} and len(
        {r.judge for r in found.records}
    ) == 2
    (doubt,) = found.doubts
    assert doubt.startswith("subject_consistency: the file says") and "cannot be made again" in doubt


def test_a_file_of_nothing_is_an_error_and_strangers_are_named(tmp_path):
    samples, file = vbench_plan(), tmp_path / "x_eval_results.json"
    file.write_text('{"scene": [NaN, []]}')
    with pytest.raises(GokuError, match="scene is nan of 0 clips: nothing was judged"):
        import_results("vbench", file, samples)
    file.write_text(json.dumps({"scene": [0.5, [{"video_path": "videos/A Stranger-0.mp4", "video_results": 0.5}]]}))
    assert import_results("vbench", file, samples).unmatched == ("scene: videos/A Stranger-0.mp4",)


def test_flicker_of_a_plan_of_25_is_that_of_the_five_static_clips_in_the_file(tmp_path):
    samples = plan("vbench", "video", [Prompt("vbench-00000", "a still life", "", ("temporal_flickering",))], 25, 0)
    entries = [{"video_path": f"a still life-{k}.mp4", "video_results": 0.9 + k / 100} for k in range(4)]
    (tmp_path / "m_eval_results.json").write_text(json.dumps({"temporal_flickering": [0.915, entries]}))
    found = import_results("vbench", tmp_path / "m_eval_results.json", samples)
    assert values("vbench", found, samples)["temporal_flickering"] == pytest.approx(0.915)


def test_vbench2_long_names_refusals_and_diversity(tmp_path):
    long = "A very long prompt about water that boils " * 6
    prompts = [
        Prompt("vbench2-00000", long, "", ("Thermotics",)),
        Prompt("vbench2-00001", "A dog dances", "", ("Diversity",)),
        Prompt("vbench2-00002", "A dog dances", "", ("Composition",)),
    ]
    samples = plan("vbench2", "video", prompts, {"vbench2-00000": 3, "vbench2-00001": 20, "vbench2-00002": 3}, 0)
    thermal = [
        {"video_path": f"v/Thermotics/{long[:180]}-{k}.mp4", "video_results": v} for k, v in enumerate((1, -1, 0))
    ]
    results = {
        "Thermotics": [0.5, thermal],
        "Diversity": [0.4, [{"video_path": "v/Diversity/A dog dances-0.mp4", "video_results": 0.4}]],
        "Composition": [
            0.3,
            [{"video_path": f"v/Composition/A dog dances-{k}.mp4", "video_results": 0.3} for k in range(3)],
        ],
    }
    (tmp_path / "m_eval_results.json").write_text(json.dumps(results))
    found = import_results("vbench2", tmp_path / "m_eval_results.json", samples)
    table = values("vbench2", found, samples)
    assert (table["Thermotics"], table["Diversity"], table["Composition"]) == pytest.approx((0.5, 0.4, 0.3))
    assert table["Creativity"] == pytest.approx(0.35) and table["total"] is None and not found.unmatched


# DPG

QUESTIONS = [
    {"id": 1, "dependency": [], "tuple": "entity - whole (a)", "question": "Is there a dog, or is there not?"},
    {"id": 2, "dependency": [1], "tuple": "attribute - color (b)", "question": "Is the dog red?"},
    {"id": 3, "dependency": [1, 2], "tuple": "relation - spatial (c)", "question": "Is the dog red?"},
]


def dpg_log(folder: Path, samples: list[Sample], side: int = 256) -> float:
    """Both logs of the official loop over pictures, crops, questions and parents; returns its score in percent."""
    rng, means = np.random.default_rng(2), []
    crops = [(0, 0, side, side), (side, 0, 2 * side, side), (0, side, side, 2 * side), (side, side, 2 * side, 2 * side)]
    main, detail = [], []
    for item in sorted({s.prompt.metadata["item_id"] for s in samples}):
        picture, scores = f"/data/{item}.png", []
        for crop in crops:
            answered = {}
            for q in QUESTIONS:
                answer = rng.choice(["yes", "no", "red, and brown"], p=[0.6, 0.3, 0.1])
                answered[q["id"]] = float(answer == "yes")
                detail.append(f"{picture}, {crop}, {q['question']}, {answer}")
            for q in QUESTIONS:
                if any(answered[p] == 0 for p in q["dependency"]):
                    answered[q["id"]] = 0
            scores.append(sum(answered.values()) / len(answered))
        main.append(", ".join([picture, *map(str, scores), str(sum(scores) / 4)]))
        means.append(sum(scores) / 4)
    main.append(f"Model: m\nL1 category scores:\n\tentity: 1.0\nDPG-Bench score: {np.mean(means) * 100}")
    (folder / "dpg-bench_1_results.txt").write_text("\n".join(main) + "\n")
    (folder / "dpg-bench_1_results_detail.txt").write_text("\n".join(detail) + "\n")
    return float(np.mean(means) * 100)


def dpg_plan(first: bool = False) -> list[Sample]:
    known = [{"item_id": f"item{i}", "questions": QUESTIONS, "first_of_file": first and i == 0} for i in range(5)]
    prompts = [Prompt(f"dpg-{i:05d}", f"text {i}", "", ("dpg",), metadata) for i, metadata in enumerate(known)]
    return plan("dpg", "image", prompts, 4, 0)


@pytest.mark.parametrize("answers", [True, False], ids=["with answers", "scores alone"])
def test_dpg_logs_give_the_official_score(tmp_path, answers):
    samples = dpg_plan()
    score = dpg_log(tmp_path, samples)
    if not answers:
        (tmp_path / "dpg-bench_1_results_detail.txt").unlink()
    found = import_results("dpg", tmp_path / "dpg-bench_1_results.txt", samples)
    table = values("dpg", found, samples)
    assert table["total"] * 100 == pytest.approx(score, abs=TOLERANCE) and found.says["total"] * 100 == pytest.approx(
        score
    )
    assert not found.doubts and not found.unmatched
    assert ("L1 entity" in table) == answers


def test_dpg_prompts_without_a_line_are_missing_but_for_the_one_whose_row_is_dropped(tmp_path):
    samples = dpg_plan(first=True)
    log = tmp_path / "dpg-bench_1_results.txt"
    dpg_log(tmp_path, samples)
    (tmp_path / "dpg-bench_1_results_detail.txt").unlink()
    lines = log.read_text().splitlines()
    log.write_text("\n".join(lines[1:]))
    expected = np.mean([float(entry.rsplit(", ", 1)[1]) for entry in lines[1:5]])
    assert values("dpg", import_results("dpg", log, samples), samples)["total"] == pytest.approx(
        expected, abs=TOLERANCE
    )
    log.write_text("\n".join(lines[:1] + lines[2:]))
    found = import_results("dpg", log, samples)
    assert "1 prompts have no line, first item1" in found.doubts[0] and values("dpg", found, samples)["total"] is None


# the command line


def app() -> typer.Typer:
    made = typer.Typer()
    cli_results.register(made)
    return made


def test_the_command_takes_a_file_in_and_twice_changes_nothing(tmp_path):
    samples, out = geneval_plan(), tmp_path / "eval"
    score = geneval_file(tmp_path / "results.jsonl", samples)
    out.mkdir()
    manifest.write(out / "manifest.parquet", samples)
    for _ in range(2):
        done = CliRunner().invoke(
            app(), ["import-results", "geneval", str(tmp_path / "results.jsonl"), "--out", str(out)]
        )
        assert done.exit_code == 0, done.output
    assert (
        "72 records by official:geneval/" in done.output and f"total                        {score:.6f}" in done.output
    )
    rows = RecordStore(out / "records").rows()
    assert len(rows) == 72 and len(list((out / "records").glob("part-*"))) == 1
    assert values("geneval", Imported(tuple(rows)), samples)["total"] == pytest.approx(score, abs=TOLERANCE)


def test_the_command_says_what_it_lacks(tmp_path):
    (tmp_path / "results.jsonl").write_text("")
    done = CliRunner().invoke(
        app(), ["import-results", "geneval", str(tmp_path / "results.jsonl"), "--out", str(tmp_path)]
    )
    assert isinstance(done.exception, GokuError) and "--suite" in str(done.exception)
    with pytest.raises(GokuError, match="no official result format of 'compbench'"):
        import_results("compbench", tmp_path / "results.jsonl", [])


def test_published_rows_are_printed_with_sources_and_doubts():
    done = CliRunner().invoke(app(), ["published", "geneval"])
    assert "Goku-T2I (2B) (rewritten): total 0.76" in done.output and "arXiv 2501.17811" in done.output
    assert "TokenFlow-XL, total: printed 0.55, but its own numbers give 0.5283" in done.output
    told = json.loads(CliRunner().invoke(app(), ["published", "vbench", "--json"]).output)
    assert len(told["rows"]) == 13 and told["doubts"] == []

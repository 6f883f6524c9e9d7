"""Published rows: as they were printed, with sources, and in agreement with the aggregation and with themselves."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from goku_core.evaluate import published
from goku_core.evaluate.benchmarks.benchmark import benchmark_named
from goku_core.evaluate.manifest import Prompt, plan
from goku_core.evaluate.published.reading import recomputed
from goku_core.evaluate.records import Record
from goku_core.pipeline.errors import GokuError

PAPER = Path(__file__).parents[2] / "../shared/reference/goku-paper.md"
TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
VBENCH = published.rows("vbench")
GENEVAL = [row for row in published.rows("geneval") if "position" in row.values]


@pytest.mark.parametrize("row", VBENCH, ids=lambda row: row.model)
def test_the_aggregation_gives_the_totals_of_table_8(row):
    """The sixteen printed values as records: the printed quality, semantic and total, to what rounding explains."""
    dimensions = [name for name in row.values if name not in ("total", "quality", "semantic")]
    assert len(dimensions) == 16
    prompts = [Prompt(f"vbench-{i:05d}", d, "", (d,)) for i, d in enumerate(dimensions)]
    samples = plan("vbench", "video", prompts, 1, 0)
    rows = [
        Record(s.sample_id, "vbench", d, "", d, 0, "printed", "", row.values[d] / 100, 16, None, "", "{}")
        for s, d in zip(samples, dimensions, strict=True)
    ]
    for mode in ("official", "corrected"):
        table = benchmark_named("vbench").aggregate(rows, samples, mode, 10, 0)
        found = {line.name: line.score.value * 100 for line in (*table.lines, table.total)}
        assert [found[n] for n in ("total", "quality", "semantic")] == pytest.approx(
            [row.values[n] for n in ("total", "quality", "semantic")], abs=0.015
        )


def test_goku_s_own_row_and_thirteen_models():
    goku = {row.model: row.values for row in VBENCH}["Goku-T2V"]
    assert (goku["total"], goku["quality"], goku["semantic"]) == (84.85, 85.60, 81.87)
    assert len(VBENCH) == 13 and published.doubts("vbench") == []


@pytest.mark.parametrize("row", GENEVAL, ids=lambda row: f"{row.model} {row.label}".strip())
def test_geneval_rows_are_the_mean_of_six_or_are_named(row):
    """TokenFlow-XL is printed with 0.55 in several papers; its six tasks give 0.53."""
    mean = sum(row.values[task] for task in TASKS) / 6
    (doubt,) = recomputed("geneval", row) or (None,)
    if row.model == "TokenFlow-XL":
        assert (doubt.printed, round(doubt.found, 4)) == (0.55, 0.5283) and doubt in published.doubts("geneval")
    else:
        assert doubt is None and mean == pytest.approx(row.values["total"], abs=0.01)


def test_there_are_enough_geneval_rows_and_rewritten_ones_are_marked():
    assert len(GENEVAL) >= 35
    marked = {(row.model, row.label): row.values["total"] for row in published.rows("geneval")}
    assert marked["Goku-T2I (2B)", ""] == 0.70 and marked["Goku-T2I (2B)", "rewritten"] == 0.76
    assert marked["BAGEL", ""] == 0.82 and marked["BAGEL", "rewritten"] == 0.88
    assert {row.label for row in published.rows("geneval", label="rewritten")} == {"rewritten"}


def test_a_row_that_is_inconsistent_in_itself_is_named_with_the_difference():
    row = replace(VBENCH[0], values={**VBENCH[0].values, "semantic": 71.0})
    (doubt,) = recomputed("vbench", row)
    assert (doubt.model, doubt.name, doubt.printed) == ("AnimateDiff-V2", "semantic", 71.0)
    assert doubt.found == pytest.approx(69.75, abs=0.015) and "printed 71" in doubt.words()
    wrong = replace(GENEVAL[0], values={**GENEVAL[0].values, "position": 0.5})
    assert [d.name for d in recomputed("geneval", wrong)] == ["total"]


def test_one_name_with_two_scores_is_a_doubt():
    """Show-o is printed with 0.53 and with 0.68, both without a mark."""
    found = {(d.model, d.name): (d.printed, d.found) for d in published.doubts("geneval")}
    assert found["Show-o", "total"] == (0.53, 0.68)
    assert ("SDXL", "total") not in found and ("Goku-T2I (2B)", "total") not in found


def test_series_of_t2i_compbench_are_kept_apart():
    first, second = (published.rows("compbench", series=name) for name in ("first", "second"))
    color = [{row.model: row.values["color"] for row in rows}["SDXL"] for rows in (first, second)]
    assert color == [0.6369, 0.5879]
    assert len(first) + len(second) == len(published.rows("compbench"))


@pytest.mark.parametrize("benchmark", published.benchmarks())
def test_every_row_has_a_source_and_values_in_its_unit(benchmark):
    for row in published.rows(benchmark):
        assert row.source.title and row.source.address.startswith("https://") and row.values
        if row.unit != "own":
            assert all(0 <= row.share(name) <= 1 for name in row.values), row.model


@pytest.mark.skipif(not PAPER.is_file(), reason="needs the fact sheet of the paper in ../shared/reference")
@pytest.mark.parametrize(
    ("heading", "benchmark", "width"), [("### 8.2", "vbench", 19), ("## 6.", "geneval", 6), ("## 7.", "ucf101", 3)]
)
def test_printed_numbers_are_those_of_the_paper(heading, benchmark, width):
    """Every number of the paper's rows stands in ours, model by model."""
    text = PAPER.read_text(encoding="utf-8")
    lines = [entry for entry in text[text.index(heading) :].split("\n\n## ")[0].splitlines() if entry.startswith("|")][
        2:
    ]
    numbers = {}
    for entry in lines:
        cells = [cell.strip().replace("*", "") for cell in entry.strip("|").split("|")]
        if cells[0].startswith(("Goku's rank", "#", "Model")) or len(cells) != width + 1:
            continue
        cells = [cells[0], *cells[2:]] if benchmark == "geneval" else cells  # the text encoder: "Phi-1.5"
        values = re.findall(r"(?<![\dx.])\d+\.\d+", " ".join(cells[1:]))
        numbers.setdefault(re.sub(r"[†]| \(printed.*| \(.*B\)", "", cells[0]), []).append([float(v) for v in values])
    assert len(numbers) >= 11
    kept = published.rows(benchmark)
    if benchmark == "geneval":
        kept = [*kept, *published.rows("compbench", series="first"), *published.rows("dpg")]
    ours = {value for row in kept if "Goku: Flow" in row.source.title for value in row.values.values()}
    printed = {value for rows in numbers.values() for row in rows for value in row}
    assert printed <= ours and len(printed) > 10


def test_an_unknown_benchmark_has_no_rows():
    with pytest.raises(GokuError, match="no published rows of 'wise'"):
        published.rows("wise")

"""Two models side by side: paired differences against a second formulation, refusals by name, the page in a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import PROGRAM, Browser
from evaluation_folder import TASKS, planned, said_of, write_folder
from finished_line import finished_line
from typer.testing import CliRunner

from goku_core import cli_compare
from goku_core.cli import app
from goku_core.evaluate.compare.build import write_comparison
from goku_core.evaluate.compare.comparison import Comparison, Row, compare
from goku_core.evaluate.page.folder import opened
from goku_core.evaluate.page.rows import sample_rows
from goku_core.evaluate.page.tables import tables_of
from goku_core.evaluate.records import RecordStore
from goku_core.pipeline.commit import Workspace
from goku_core.pipeline.errors import GokuError
from goku_core.promote import ledger
from goku_core.promote.bundle import sha256

BEFORE = {"geneval-00006-0", "geneval-00006-1", "geneval-00007-1", "geneval-00001-0", "motion-00001-0"}
AFTER = {"geneval-00006-0", "geneval-00008-0", "geneval-00009-1"}
WORSE, BETTER = AFTER - BEFORE, BEFORE - AFTER


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("pair")
    return write_folder(place / "before", wrong=BEFORE), write_folder(place / "after", wrong=AFTER)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_line(tmp_path_factory.mktemp("line"), curation=False)


@pytest.fixture(scope="module")
def compared(folders: tuple[Path, Path]) -> Comparison:
    return compare(opened(folders[0]), opened(folders[1]), resamples=500)


def rows(comparison: Comparison) -> dict[str, Row]:
    return {f"{row.benchmark}/{row.name}": row for row in comparison.rows}


def test_values_and_counts(compared: Comparison) -> None:
    found = rows(compared)
    assert list(found)[:6] == [f"geneval/{task}" for task in TASKS]
    for number, task in enumerate(TASKS):
        ids = {f"geneval-{k:05d}-{i}" for k in (2 * number, 2 * number + 1) for i in (0, 1)}
        row = found[f"geneval/{task}"]
        assert row.compared.first == pytest.approx(1 - len(ids & BEFORE) / 4)
        assert row.compared.difference.value == pytest.approx((len(ids & BEFORE) - len(ids & AFTER)) / 4)
        assert (row.worse, row.better, row.judged) == (len(ids & WORSE), len(ids & BETTER), 4)
    total = next(row for row in compared.rows if row.total and row.benchmark == "geneval")
    mean = np.mean([found[f"geneval/{task}"].compared.difference.value for task in TASKS])
    assert total.compared.difference.value == pytest.approx(mean)
    assert (total.worse, total.better, total.judged) == (2, 3, 24)
    assert found["motion/flicker"].compared.difference.value == pytest.approx((0.9375 - 0.75) / 2)
    assert compared.turns["motion-00001-0"] == {"direction": "better", "flicker": "better"}
    assert {name for name, turn in compared.turns.items() if "worse" in turn.values()} == WORSE
    assert compared.warnings == ()


def test_the_interval_is_that_of_resampled_prompts(tmp_path: Path) -> None:
    """The same bootstrap written out: draw prompts, subtract the means of both models over them."""
    samples = [s for s in planned(per_task=40, per_prompt=2, clips=0) if s.task == "colors"]
    rng = np.random.default_rng(3)
    scores = {s.sample_id: rng.random(2) < (0.5, 0.7) for s in samples}
    sides = [{name for name, right in scores.items() if not right[k]} for k in (0, 1)]
    for k, name in enumerate(("a", "b")):
        write_folder(tmp_path / name, samples, wrong=sides[k], draw_them=False)
    found = rows(compare(opened(tmp_path / "a"), opened(tmp_path / "b"), resamples=4000))["geneval/colors"].compared
    by_prompt = np.array([[scores[f"{p}-{i}"] for i in (0, 1)] for p in sorted({s.prompt.prompt_id for s in samples})])
    gaps = by_prompt[..., 1].mean(axis=1) - by_prompt[..., 0].mean(axis=1)
    drawn = gaps[np.random.default_rng(0).integers(0, len(gaps), (4000, len(gaps)))].mean(axis=1)
    assert found.difference.value == pytest.approx(gaps.mean())
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (found.difference.low, found.difference.high) == pytest.approx((low, high), abs=0.02)
    assert found.difference.detectable == pytest.approx(2.8016 * drawn.std(), rel=0.1)


def test_second_minus_first(folders: tuple[Path, Path], compared: Comparison) -> None:
    back = rows(compare(opened(folders[1]), opened(folders[0]), resamples=500))
    for name, row in rows(compared).items():
        there, here = back[name].compared.difference, row.compared.difference
        assert (there.value, there.low, there.high) == pytest.approx((-here.value, -here.high, -here.low))
        assert (back[name].worse, back[name].better) == (row.better, row.worse)


def test_words(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """One picture is no finding, every picture of forty prompts is one, of two prompts is none; the same model is equal."""
    same = rows(compare(opened(folders[0]), opened(folders[0]), resamples=200))
    assert {row.words for row in same.values()} == {"equal"}
    samples = planned(per_task=40, clips=0)
    write_folder(tmp_path / "a", samples, wrong={s.sample_id for s in samples if s.task == "colors"}, draw_them=False)
    write_folder(tmp_path / "b", samples, wrong={samples[0].sample_id}, draw_them=False)
    found = rows(compare(opened(tmp_path / "a"), opened(tmp_path / "b"), resamples=2000))
    assert found["geneval/colors"].words == "better" and found["geneval/position"].words == "equal"
    assert found["geneval/single_object"].words == "not a finding"
    assert found["geneval/total"].words == "better"
    few = planned(per_task=2, clips=0)
    write_folder(tmp_path / "c", few, wrong={s.sample_id for s in few if s.task == "colors"}, draw_them=False)
    write_folder(tmp_path / "d", few, draw_them=False)
    found = rows(compare(opened(tmp_path / "c"), opened(tmp_path / "d"), resamples=2000))
    assert found["geneval/colors"].words == "not a finding: 2 prompts are too few"


def test_other_judges_refuse_that_line_alone(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """And what is made of it. Everything else is compared as before."""
    other = write_folder(tmp_path / "other", wrong=AFTER, judges={"direction": "somebody-else/7"}, draw_them=False)
    given = compare(opened(folders[0]), opened(other), resamples=200)
    found = rows(given)
    refused = {name for name, row in found.items() if row.words.startswith("refused")}
    assert refused == {"motion/direction", "motion/total"} | ({"motion/all_right"} & set(found))
    for name in refused:
        assert found[name].compared is None
        assert "direction: judged by known-scenes/1 here and by somebody-else/7 there" in found[name].words
    assert found["motion/flicker"].compared is not None and found["geneval/total"].compared is not None
    assert given.turns["motion-00001-0"] == {"flicker": "better"}  # nor does a sample turn by what two judges say


def test_two_modes_of_a_judge_are_not_mixed(tmp_path: Path) -> None:
    """Each side was judged in both modes; what the other mode said moves neither a number nor a sample."""
    samples = planned(clips=0)
    for name, wrong in (("a", {samples[0].sample_id}), ("b", {samples[1].sample_id, samples[4].sample_id})):
        modes = {"known-1": ["official"], "known-2": ["corrected"]}
        write_folder(tmp_path / name, samples, wrong, judges={"geneval": "known-1"}, modes=modes, draw_them=False)
        other = {s.sample_id for s in samples} if name == "a" else set()
        said = [row for s in samples for row in said_of(s, s.sample_id in other, {"geneval": "known-2"})]
        RecordStore(tmp_path / name / "records").append(said)
    given = compare(opened(tmp_path / "a"), opened(tmp_path / "b"), resamples=200)
    assert given.mode == "geneval official"
    assert {name: turn["geneval"] for name, turn in given.turns.items()} == {
        samples[0].sample_id: "better", samples[1].sample_id: "worse", samples[4].sample_id: "worse"
    }  # fmt: skip
    found = rows(given)
    assert found["geneval/single_object"].compared.difference.value == 0
    assert found["geneval/two_object"].compared.difference.value == -0.25
    (table,) = tables_of(opened(tmp_path / "a"), None, 200, 0)
    assert table.total.score.value == pytest.approx(1 - 1 / 24)
    both = next(row for row in sample_rows(opened(tmp_path / "a")) if row["id"] == samples[0].sample_id)
    assert [entry["by"] for entry in both["said"]] == ["known-1", "known-2"]


def test_what_is_unlike_is_said(folders: tuple[Path, Path], tmp_path: Path) -> None:
    samples = planned(seed=1, height=64, steps=20, rewriting="a-language-model/3")
    stamp = {"torch": "2.11.0", "device": "cpu", "ffmpeg": {"libavcodec": "60.0"}}
    other = write_folder(tmp_path / "other", samples[:-1], stamp=stamp, draw_them=False)
    said = "\n".join(compare(opened(folders[0]), opened(other), resamples=200).warnings)
    for words in (
        "25 of 25 samples have another seed",
        "height: not recorded and 64",
        "steps: not recorded and 20",
        "rewriting: not recorded and a-language-model/3",
        "1 of 26 samples of before have no partner",
        "environment, torch: 2.13.0 and 2.11.0",
        "environment, ffmpeg.libavcodec: 62.1 and 60.0",
    ):
        assert words in said, words
    assert "device" not in said and "width" not in said


def test_nothing_in_common_is_one_clear_error(folders: tuple[Path, Path], tmp_path: Path) -> None:
    only_clips = write_folder(tmp_path / "clips", planned(per_task=0), draw_them=False)
    only_pictures = write_folder(tmp_path / "pictures", planned(clips=0), draw_them=False)
    with pytest.raises(GokuError, match="no prompt in common"):
        compare(opened(only_clips), opened(only_pictures))


def test_the_command(folders: tuple[Path, Path], tmp_path: Path) -> None:
    run = CliRunner().invoke
    told = run(app, ["compare", *map(str, folders), "--resamples", "200", "--html", str(tmp_path / "c.html")])
    assert told.exit_code == 0, told.output
    assert "not a finding" in told.output and "2 samples got worse, 4 got better" in told.output
    assert (tmp_path / "c.html").is_file()
    machine = json.loads(run(app, ["compare", *map(str, folders), "--resamples", "200", "--json"]).stdout)
    assert (machine["first"], machine["second"]) == ("before", "after")
    assert {row["name"]: row["words"] for row in machine["rows"]}["counting"] == "equal"
    assert set(machine["turned"]) == WORSE | BETTER


def test_report_says_what_is_missing(folders: tuple[Path, Path], tmp_path: Path) -> None:
    import typer

    group = typer.Typer()
    group.callback()(lambda: None)
    cli_compare.register(group)
    run = CliRunner().invoke
    whole = run(group, ["report", str(folders[0]), "--resamples", "200", "--strict"])
    assert whole.exit_code == 0, whole.output
    summary = json.loads((folders[0] / "summary.json").read_text())
    scores = {line["name"]: line["score"] for line in summary["tables"][0]["lines"]}
    assert scores["colors"]["value"] == 0.25 and summary["missing"] == []
    assert f"{0.25:.3f}" in whole.output and (folders[0] / "evaluation.html").is_file()
    before = (folders[0] / "summary.json").read_bytes()
    run(group, ["report", str(folders[0]), "--resamples", "200"])
    assert (folders[0] / "summary.json").read_bytes() == before
    samples = planned()
    part = write_folder(tmp_path / "part", samples[:-3], draw_them=False)
    from goku_core.evaluate import manifest

    manifest.write(part / "manifest.parquet", samples)
    lax = run(group, ["report", str(part), "--resamples", "200"])
    assert lax.exit_code == 0 and f"goku evaluate judge {part}" in lax.output
    assert "geneval/geneval: 1 of 24 records missing" in lax.output and "motion/direction: 2 of 2" in lax.output
    assert run(group, ["report", str(part), "--resamples", "200", "--strict"]).exit_code == 1


def test_what_the_line_committed_is_not_written_over(line: Path) -> None:
    folder = line / "reports/evaluation"
    before = sorted((p.name, p.stat().st_mtime_ns) for p in folder.iterdir())
    import typer

    group = typer.Typer()
    group.callback()(lambda: None)
    cli_compare.register(group)
    told = CliRunner().invoke(group, ["report", str(folder)])
    assert told.exit_code == 0 and "chance" in told.output and "belongs to the line" in told.output
    assert sorted((p.name, p.stat().st_mtime_ns) for p in folder.iterdir()) == before


def test_roles_versions_and_runs_have_folders(line: Path) -> None:
    """A challenger and a champion whose evidence lies in the workspace or, for the older one, in the store."""
    workspace = line
    folder = workspace / "reports/evaluation"
    older = sha256(folder / "summary.json")
    with Workspace(workspace) as place:
        tree = place.digests.tree(folder)
        place.store.put(folder, tree)
    text = (folder / "summary.json").read_text()
    (folder / "summary.json").unlink()  # it is the store's file too, and read-only
    (folder / "summary.json").write_text(text.replace('"models"', '"note": "newer", "models"', 1))
    newer = sha256(folder / "summary.json")
    shared = {
        "against": None,
        "score": 0.5,
        "interval": (0.4, 0.6),
        "protocol": "p",
        "reason": "r",
        "champion": "b" * 64,
    }
    for decision, bundle, proof in (("promoted", "b" * 64, older), ("refused", "c" * 64, newer)):
        draft = ledger.Draft(decision=decision, bundle=bundle, evidence=proof, **shared)
        ledger.append(workspace, lambda _, draft=draft: draft)
    laid_out = cli_compare.found(workspace, "champion")
    assert laid_out != folder and sha256(laid_out / "summary.json") == older
    assert cli_compare.found(workspace, "1") == cli_compare.found(workspace, "b" * 12) == laid_out
    with Workspace(workspace) as place:
        record = next(record for record in place.records() if record.stage == "evaluate")
    assert cli_compare.found(workspace, record.fingerprint[:8]) == laid_out
    assert cli_compare.found(workspace, "challenger") == folder
    with pytest.raises(GokuError, match="neither a folder nor"):
        cli_compare.found(workspace, "7")
    assert rows(compare(opened(laid_out), opened(folder), resamples=100))["geneval/total"].words == "equal"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed")
def test_a_browser_shows_what_got_worse(
    browser: Browser, folders: tuple[Path, Path], compared: Comparison, tmp_path: Path
) -> None:
    one, other = map(opened, folders)
    page = write_comparison(compared, one, other, tmp_path / "elsewhere/compare.html")
    ids = "[...new Set([...document.querySelectorAll('#asks .sample')].map(s => s.dataset.id))]"
    browser.open(page, "#turned=worse")
    assert set(browser.ask(ids)) == WORSE
    sides = browser.ask("[...document.querySelectorAll('#asks .pair')].map(p => [...p.children].map(s => s.className))")
    assert sides == [["sample right", "sample wrong"]] * 2  # the same sample of both, right before and wrong after
    assert browser.wait("[...document.querySelectorAll('#asks img')].every(i => i.naturalWidth === 112)")
    files = browser.ask("[...document.querySelectorAll('#asks img')].map(i => i.src)")
    assert ["/before/" in file for file in files] == [True, False] * 2
    browser.open(page, "#turned=better&dimension=flicker")
    assert browser.ask(ids) == ["motion-00001-0"]
    browser.wait("[...document.querySelectorAll('#asks video')].every(v => v.currentTime > 0.2)")
    browser.open(page, "#turned=any")
    assert set(browser.ask(ids)) == WORSE | BETTER
    assert browser.ask("document.querySelector('[data-line=\"geneval/total\"] .words').textContent") == "not a finding"

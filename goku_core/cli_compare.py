"""`goku compare` and `goku evaluate report`: what an evaluation says, and what two of them say beside each other."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table as Grid

from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from goku_core.evaluate.compare.comparison import Comparison
    from goku_core.evaluate.page.folder import Evaluation
    from goku_core.evaluate.page.tables import Gap
    from goku_core.evaluate.tables import Mode, Table
    from goku_core.promote.ledger import Entry


class Modes(StrEnum):
    all = "all"
    official = "official"
    corrected = "corrected"


class YesNo(StrEnum):
    yes = "yes"
    no = "no"


Json = Annotated[bool, typer.Option("--json", help="Print JSON")]
Resamples = Annotated[int, typer.Option(min=100, help="Resamples of the bootstrap")]
Judge = Annotated[
    str, typer.Option(help="Beginning of a judge's fingerprint: its records count where several judged one dimension")
]


def register(app: typer.Typer) -> None:
    """Adds `report` to the group `goku evaluate`."""
    app.command("report")(report)


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The evaluation's folder")],
    mode: Annotated[Modes, typer.Option(help="Modes to show where the official code has a defect")] = Modes.all,
    resamples: Resamples = 2000,
    judge: Judge = "",
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 where records are missing")] = False,
    open_page: Annotated[YesNo, typer.Option("--open", help="Open the page in a browser")] = YesNo.no,
    as_json: Json = False,
) -> None:
    """Make the tables of an evaluation: summary.json, evaluation.html, and here.

    Example: goku evaluate report eval/mine
    """
    from goku_core.evaluate.page.build import write_page
    from goku_core.evaluate.page.folder import opened
    from goku_core.evaluate.page.tables import gaps, tables_of

    evaluation = by_judge(opened(folder), judge)
    made = tables_of(evaluation, None if mode is Modes.all else [mode.value], resamples, seed=0)
    missing = gaps(evaluation)
    if evaluation.summary:
        # what the line committed is not written over: its digest is the evidence of promotions
        page = folder / "evaluation.html"
        typer.echo(f"{folder} belongs to the line: nothing is written into it", err=True)
    else:
        write_summary(folder, evaluation, made, missing, resamples)
        page = write_page(evaluation, made)
    if as_json:
        typer.echo(json.dumps({"page": str(page), "tables": [t.as_json() for t in made], "missing": _missing(missing)}))
    else:
        print_tables(made)
        for gap in missing:
            typer.echo(gap.words())
        if missing:
            typer.echo(f"To complete it: goku evaluate judge {folder} (what each judge needs: goku evaluate judges)")
        typer.echo(str(page))
    if open_page is YesNo.yes and page.is_file():
        typer.launch(page.resolve().as_uri())
    if strict and missing:
        raise typer.Exit(1)


def compare(
    first: Annotated[str, typer.Argument(help="An evaluation: folder, champion, previous, challenger, version, run")],
    second: Annotated[str, typer.Argument(help="The other; differences are this one minus the first")],
    mode: Annotated[Modes, typer.Option(help="Mode of the tables; all: each benchmark's first")] = Modes.all,
    resamples: Resamples = 2000,
    judge: Judge = "",
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page with both side by side")] = None,
    as_json: Json = False,
) -> None:
    """Compare two evaluations of one suite: paired differences with intervals, and what turned.

    Example: goku compare eval/before eval/after --html compare.html
    """
    from goku_core.evaluate.compare.comparison import compare as compared
    from goku_core.evaluate.page.folder import opened

    workspace = Path.cwd()
    one, other = (by_judge(opened(found(workspace, name)), judge) for name in (first, second))
    wanted: Mode | None = None if mode is Modes.all else mode.value
    comparison = compared(one, other, wanted, resamples, names=_called(first, second))
    if html is not None:
        from goku_core.evaluate.compare.build import write_comparison

        write_comparison(comparison, one, other, html)
    if as_json:
        typer.echo(json.dumps(comparison.as_json() | ({"page": str(html)} if html else {})))
        return
    print_comparison(comparison)
    if html is not None:
        typer.echo(str(html))


def found(workspace: Path, name: str) -> Path:
    """The folder of an evaluation: a folder, a role or version of the ledger, or a run of `evaluate` by its fingerprint.

    What is no longer in the workspace is laid out from the store, below .goku/evaluations. Raises GokuError where nothing
    has that name, or its files are gone.
    """
    if Path(name).is_dir():
        return Path(name)
    from goku_core.pipeline.commit import Workspace
    from goku_core.promote import ledger
    from goku_core.promote.bundle import sha256
    from goku_core.promote.evidence import FOLDER, SUMMARY

    evidence = _evidence(workspace, ledger.read(workspace), name)
    present = workspace / FOLDER / SUMMARY
    if present.is_file() and sha256(present) == evidence:
        return workspace / FOLDER
    with Workspace(workspace) as place:
        for record in reversed([record for record in place.records() if record.stage == "evaluate"]):
            tree = record.outputs[FOLDER]
            of_run = len(name) >= 8 and record.fingerprint.startswith(name)
            if not of_run and (evidence is None or tree.files.get(SUMMARY) != evidence):
                continue
            here = place.digests.tree(workspace / FOLDER)
            if here is not None and here.digest == tree.digest:
                return workspace / FOLDER
            laid_out = place.goku / "evaluations" / tree.digest[:16]
            if laid_out.is_dir():
                return laid_out
            if not place.store.holds_tree(tree):
                raise GokuError(f"{name}: the files of run {record.fingerprint[:12]} are no longer in .goku/store.")
            place.store.lay_out(tree, laid_out)
            return laid_out
    raise GokuError(
        f"{name}: neither a folder nor an evaluation that the ledger or .goku/records knows. "
        "`goku registry ls` lists versions; a run is named by 8 or more digits of its fingerprint (`goku status`)."
    )


def _evidence(workspace: Path, entries: list[Entry], name: str) -> str | None:
    """SHA-256 of the summary that the ledger names for a role, a version or the digits of a bundle."""
    from goku_core.promote import ledger

    alias = "champion"
    if (workspace / "params.yaml").is_file():
        from goku_core.config import load_params

        alias = load_params(workspace / "params.yaml").promote.alias
    bundle = ledger.roles(entries).get("champion" if name == alias else name)
    known = [
        entry
        for entry in entries
        if entry.bundle == bundle or str(entry.version) == name or (len(name) >= 12 and entry.bundle.startswith(name))
    ]
    return known[-1].evidence if known else None


def by_judge(evaluation: Evaluation, judge: str) -> Evaluation:
    """With this judge's records alone in every dimension that it judged; as it is where none is named."""
    if not judge:
        return evaluation
    from dataclasses import replace

    from goku_core.evaluate.benchmarks.coverage import chosen

    return replace(evaluation, records=tuple(chosen(evaluation.records, judge)))


def write_summary(
    folder: Path, evaluation: Evaluation, tables: list[Table], missing: list[Gap], resamples: int
) -> Path:
    """summary.json: the tables, what is missing, who judged. A pure function of manifest, records and resamples."""
    told = {
        "format": "goku-evaluation/1",
        "tables": [table.as_json() for table in tables],
        "missing": _missing(missing),
        "judges": evaluation.judges,
        "environments": evaluation.stamp.get("environments", {}),
        "counts": {"samples": len(evaluation.samples), "records": len(evaluation.records)},
        "resamples": resamples,
    }
    place = folder / "summary.json"
    draft = place.with_suffix(".draft")
    draft.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    draft.replace(place)
    return place


def _missing(gaps: list[Gap]) -> list[dict[str, str | int]]:
    return [vars(gap) for gap in gaps]


def _called(first: str, second: str) -> tuple[str, str]:
    """How the two are called: by their folders' names where those differ, else as they were given."""
    names = Path(first).name or first, Path(second).name or second
    return names if names[0] != names[1] else (first, second)


def print_tables(tables: list[Table]) -> None:
    """Per benchmark one grid with both modes side by side."""
    from goku_core.evaluate.page.tables import interval, number, said

    for name in dict.fromkeys(table.benchmark for table in tables):
        of_name = [table for table in tables if table.benchmark == name]
        grid = Grid(name, *[t.mode for t in of_name], "records", "chance", box=None, padding=(0, 2, 0, 0))
        others = [{line.name: line for line in (*t.lines, t.total)} for t in of_name]
        for line in (*of_name[0].lines, of_name[0].total):
            cells = []
            for lines in others:
                one = lines[line.name]
                cells.append(
                    f"{number(one.score.value, one.unit)}  {interval(one)}" if one.score and said(one.score) else "–"
                )
            chance = number(line.more["chance"], line.unit) if "chance" in line.more else ""
            grid.add_row(line.name, *cells, f"{line.have} of {line.want}", chance)
        _print(grid)
        notes = dict.fromkeys(note for table in of_name for note in table.notes)
        lacks = [f"{line.name}: {line.lacks}" for line in (*of_name[0].lines, of_name[0].total) if line.lacks]
        for words in (*lacks, *notes):
            typer.echo(f"  {words}")


def print_comparison(comparison: Comparison) -> None:
    """The differences on the terminal, with what makes the two unlike before them."""
    from goku_core.evaluate.compare.build import row_view

    for words in comparison.warnings:
        typer.echo(f"warning: {words}", err=True)
    one, other = comparison.names
    grid = Grid("line", one, other, "difference", "95 % interval", "could be found from", "right→wrong", "wrong→right",
                "in words", box=None, padding=(0, 2, 0, 0))  # fmt: skip
    for row in map(row_view, comparison.rows):
        grid.add_row(
            f"{row['benchmark']}/{row['name']}", row["first"], row["second"], row["difference"], row["interval"],
            row["detectable"], row["worse"], row["better"], row["words"],
        )  # fmt: skip
    _print(grid)
    worse = sum("worse" in found.values() for found in comparison.turns.values())
    better = sum("better" in found.values() for found in comparison.turns.values())
    typer.echo(f"{worse} samples got worse, {better} got better in some dimension ({comparison.mode})")


def _print(grid: Grid) -> None:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:  # a table into a file or a pipe is not folded
        console.width = 220
    console.print(grid)

"""`goku evaluate judge` and `goku evaluate judges`: scoring a folder of samples, and who can."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from goku_core.evaluate.judging.run import Judged

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output")]
Weights = Annotated[Path, typer.Option(help="Folder of weights; docs/weights.md names the place of each below it")]
SHOWN = 5


def register(app: typer.Typer) -> None:
    """Adds `judge`, `judges` and `during` to `goku evaluate`."""
    from goku_core.cli_during import during

    app.command("judge")(judge)
    app.command("judges")(judges)
    app.command("during")(during)


def judge(
    folder: Annotated[Path, typer.Argument(help="The evaluation: manifest.parquet and samples")],
    name: Annotated[
        list[str] | None,
        typer.Option("--judge", help="Only this one (repeatable); MODULE:FACTORY is one of your own", metavar="NAME"),
    ] = None,
    mode: Annotated[
        Literal["official", "corrected", "both"],
        typer.Option(help="With the defects of the benchmarks' own code, without, or one after the other"),
    ] = "corrected",
    weights: Weights = Path("weights"),
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on CPUs [all cores]; GPUs decide themselves")
    ] = None,
    device: Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where networks run")] = "auto",
    batch: Annotated[
        int, typer.Option(min=1, help="Frames or pictures in a pass; part of the result's last bits")
    ] = 16,
    share: Annotated[float, typer.Option(min=0.01, max=1.0, help="Part of a GPU that one process takes")] = 1.0,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds for one sample by all judges; networks on CPUs take long")
    ] = 600,
    may_be_empty: Annotated[
        bool, typer.Option("--may-be-empty", help="A judge that finds nothing in most samples does not stop the run")
    ] = False,
    as_json: Json = False,
) -> None:
    """Judge the samples of an evaluation. What has a record for its present file is not judged again.

    Exits with 1 where a sample could not be judged or is not drawn yet, and with 0 where only weights are missing: they are
    named, and the dimensions that need them stay without a score.

    Examples: goku evaluate judge eval/mine · goku evaluate judge eval/mine --judge flicker --workers 4
    """
    from goku_core.evaluate.judging.run import Judging, judge_folder
    from goku_core.pipeline.context import available_cores

    how = Judging(
        judges=tuple(name or ()),
        weights=weights,
        mode=mode,
        device=device,
        share=share,
        batch=batch,
        workers=workers or available_cores(),
        timeout_seconds=timeout,
        may_be_empty=may_be_empty,
    )
    report = judge_folder(folder, how, lambda said: typer.echo(said, err=True))
    if as_json:
        typer.echo(json.dumps(_as_json(report), ensure_ascii=False))
    else:
        _tell(folder, report)
    if report.unjudged or report.undrawn:
        raise typer.Exit(1)


def judges(weights: Weights = Path("weights"), as_json: Json = False) -> None:
    """List every judge, what it can answer, and what it lacks.

    Examples: goku evaluate judges · goku evaluate judges --weights weights --json
    """
    from goku_core.evaluate.judging.choice import listed
    from goku_core.evaluate.judging.stamp import sources_of

    rows = []
    for name, one in listed(weights):
        missing = one.missing()
        licences = {source.name: source.licence for source in sources_of(one)}
        rows.append(
            {
                "judge": name,
                "dimensions": sorted(one.dimensions),
                "ready": not missing,
                "missing": missing,
                "licences": licences,
            }
        )
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        typer.echo(f"{row['judge']:<22} {'ready' if row['ready'] else 'weights are missing'}")
        typer.echo(f"  answers  {', '.join(row['dimensions'])}")
        if row["licences"]:
            typer.echo(f"  weights  {'; '.join(f'{of}: {licence}' for of, licence in row['licences'].items())}")
        if row["missing"]:
            typer.echo(f"  needs    {row['missing']}")


def _as_json(report: Judged) -> dict[str, Any]:
    return vars(report) | {"unjudged": [vars(one) for one in report.unjudged]}


def _tell(folder: Path, report: Judged) -> None:
    rate = f", {report.decodes} files decoded" if report.decodes else ""
    typer.echo(f"{report.new} new records, {report.kept} were there{rate}, {report.seconds:.1f} s")
    if report.superseded:
        typer.echo(f"{report.superseded} records are of files that have changed since; they no longer count")
    for note in report.notes:
        typer.echo(f"note: {note}")
    for name, needs in report.left_out.items():
        typer.echo(f"left out: {name} needs {needs}")
    if report.unanswered:
        typer.echo(f"no judge knows: {', '.join(report.unanswered)}")
    if report.undrawn:
        typer.echo(f"{report.undrawn} samples are not drawn yet: goku evaluate sample {folder}")
    for one in report.unjudged[:SHOWN]:
        typer.echo(f"not judged: {one.sample_id} by {one.judge}: {one.message}")
    if len(report.unjudged) > SHOWN:
        typer.echo(f"not judged: {len(report.unjudged) - SHOWN} more, see {folder / 'judging.json'}")

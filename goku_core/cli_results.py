"""`goku evaluate import-results`, `goku evaluate published`: scores that were made elsewhere."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from goku_core.evaluate.manifest import Sample

SHOWN = 5


def register(app: typer.Typer) -> None:
    """Adds the commands of this module to `goku evaluate`."""
    app.command("import-results")(import_results)
    app.command("published")(published)


def import_results(
    benchmark: Annotated[str, typer.Argument(help="geneval, vbench, vbench_i2v, vbench2, dpg")],
    file: Annotated[Path, typer.Argument(help="Official result file, or a folder of them")],
    out: Annotated[Path, typer.Option(help="Folder of the evaluation; it is made where there is none")],
    suite: Annotated[
        Path | None, typer.Option(help="Official prompt files, to plan from where the folder has no manifest")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Take an official result file into the records of an evaluation, so that its model stands in our tables.

    Example: goku evaluate import-results geneval results.jsonl --suite geneval/ --out eval/theirs
    """
    from goku_core.evaluate.records import RecordStore
    from goku_core.evaluate.results.importing import import_results as take

    samples = _planned(benchmark, out, suite)
    found = take(benchmark, file, samples)
    if not found.records:
        raise GokuError(
            f"{file}: none of its {len(found.unmatched)} entries belongs to a planned sample, first {found.unmatched[0]!r}. "
            "Are these the prompts it was made with?"
        )
    store = RecordStore(out / "records")
    known = {row.key for row in store.rows()}
    store.append([row for row in found.records if row.key not in known])
    if as_json:
        told = {"records": len(found.records), "unmatched": found.unmatched, "says": found.says, "doubts": found.doubts}
        typer.echo(json.dumps(told, ensure_ascii=False))
        return
    typer.echo(f"{len(found.records)} records by {found.records[0].judge} in {out / 'records'}")
    for line, value in found.says.items():
        typer.echo(f"  the file says  {line:<28} {value:.6f}")
    for doubt in found.doubts:
        typer.echo(f"  doubt: {doubt}")
    if found.unmatched:
        typer.echo(f"{len(found.unmatched)} entries belong to no planned sample:")
        for name in found.unmatched[:SHOWN]:
            typer.echo(f"  {name}")
        if len(found.unmatched) > SHOWN:
            typer.echo(f"  and {len(found.unmatched) - SHOWN} more (--json names all)")


def published(
    benchmark: Annotated[str, typer.Argument(help="vbench, geneval, dpg, compbench, ucf101, imagenet")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Print the published rows of a benchmark with their sources, and what is inconsistent in them.

    Example: goku evaluate published vbench
    """
    from goku_core.evaluate.published import doubts, rows

    found, doubtful = rows(benchmark), doubts(benchmark)
    if as_json:
        told = {"rows": [asdict(row) for row in found], "doubts": [asdict(doubt) for doubt in doubtful]}
        typer.echo(json.dumps(told, ensure_ascii=False))
        return
    sources = list(dict.fromkeys(row.source for row in found))
    for row in found:
        marks = " ".join(filter(None, (row.label, row.series)))
        values = ", ".join(f"{name} {value:g}" for name, value in row.values.items())
        typer.echo(f"[{sources.index(row.source) + 1}] {row.model}{f' ({marks})' if marks else ''}: {values}")
    for number, source in enumerate(sources, 1):
        typer.echo(f"[{number}] {source.title}, {source.address}")
    typer.echo(f"inconsistent: {len(doubtful) or 'nothing'}")
    for doubt in doubtful:
        typer.echo(f"  {doubt.words()}")


def _planned(benchmark: str, out: Path, suite: Path | None) -> list[Sample]:
    """The samples of the folder's manifest; or planned from the suite, and written there."""
    from goku_core.evaluate import manifest
    from goku_core.evaluate.benchmarks.benchmark import benchmark_named
    from goku_core.evaluate.benchmarks.vbench import PER_PROMPT

    place = out / "manifest.parquet"
    if place.is_file():
        return manifest.read(place)
    if suite is None:
        raise GokuError(f"{place} is missing: name the official prompt files with --suite, so that it can be made.")
    about = benchmark_named(benchmark)
    prompts = about.load(suite)
    many = {p.prompt_id: about.per_prompt(p) for p in prompts}
    if benchmark == "vbench":  # the official file holds what the static filter has left of 25
        many = {prompt: min(count, PER_PROMPT) for prompt, count in many.items()}
    samples = manifest.plan(benchmark, about.media, prompts, many, seed=0)
    out.mkdir(parents=True, exist_ok=True)
    manifest.write(place, samples)
    return samples

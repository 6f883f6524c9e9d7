"""`goku dataset ls|diff|show|export`: published versions of the curated data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from goku_core.pipeline.errors import GokuError

dataset = typer.Typer(help="Published versions of the curated data.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output")]
Which = Annotated[str, typer.Option("--version", help="Which version: an id, current, latest, latest~1")]


@dataset.command("ls")
def ls(as_json: Json = False) -> None:
    """List the versions, newest first, with what each holds.

    Example: goku dataset ls
    """
    from goku_core.dataset import versions

    found = [one.as_json() for one in versions.versions(Path.cwd())]
    if as_json:
        typer.echo(json.dumps(found))
        return
    if not found:
        raise GokuError("no version of the dataset has been published here: run `goku run collect curate` first.")
    table = Table("version", "published (UTC)", "files", "rows", "kept", "rejected", "failed", "")
    for one in found:
        state = "here" if one["current"] else "" if one["stored"] else "bytes are gone"
        numbers = [str(one[name]) for name in ("sources", "rows", "kept", "rejected", "failed")]
        table.add_row(one["version"], one["finished"][:16].replace("T", " "), *numbers, state)
    Console(markup=False).print(table)


@dataset.command("diff")
def diff(
    first: Annotated[str, typer.Argument(metavar="A", help="A version: an id, current, latest, latest~1")],
    second: Annotated[str, typer.Argument(metavar="B", help="The other one")] = "current",
    examples: Annotated[int, typer.Option(min=0, help="Clips named for each change")] = 5,
    as_json: Json = False,
) -> None:
    """Say which clips came, went or changed their outcome from version A to version B, and what made them.

    Examples: goku dataset diff latest~1 latest · goku dataset diff 3f2a91c0 --json
    """
    from goku_core.curate.checks import drift
    from goku_core.dataset import difference, versions

    a, b = versions.version(Path.cwd(), first), versions.version(Path.cwd(), second)
    found = difference.compare(a, b)
    moved = drift.distances(a.table(), b.table())
    if as_json:
        facts = found.as_json(examples) | {"drift": {one.column: round(one.distance, 6) for one in moved}}
        typer.echo(json.dumps({"a": a.id, "b": b.id} | facts, ensure_ascii=False))
        return
    typer.echo(f"{a.id} ({a.finished[:16]}) -> {b.id} ({b.finished[:16]})")
    facts = found.as_json(examples)
    for heading in ("added", "removed", "changed"):
        typer.echo(f"\n{heading}: {facts[heading]['count']}")
        for what, count in facts[heading]["by"].items():
            typer.echo(f"  {count:>8}  {what}")
        for one in facts[heading]["examples"]:
            typer.echo(f"            {one['clip_id']}  {one['uri']}  {one.get('why') or ''}".rstrip())
    _print_reasons(facts)
    if moved:
        typer.echo("\ndrift of kept clips (total variation distance, 0 to 1):")
        typer.echo("  " + ", ".join(f"{one.column} {one.distance:.3f}" for one in moved))


def _print_reasons(facts: dict[str, Any]) -> None:
    typer.echo("\nwhy:")
    for key, values in facts["parameters"].items():
        typer.echo(f"  parameter curate.{key}: {values['a']} -> {values['b']}")
    for line in facts["causes"]:
        typer.echo(f"  {line}")
    if not facts["parameters"] and not facts["causes"]:
        typer.echo("  equal parameters, inputs, revision and code")
    for name, count in facts["columns"].items():
        typer.echo(f"  column {name} differs in {count} clips of both")
    for name, where in facts["schema"].items():
        typer.echo(f"  column {name}: {where}")


@dataset.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="ID", help="Clip id, sample id, start of a source's id, or file name")],
    version: Which = "current",
    frames: Annotated[Path | None, typer.Option(metavar="DIR", help="Write frames of its clips there, as PNG")] = None,
    count: Annotated[int, typer.Option(min=1, max=100, help="Frames of each clip")] = 4,
    as_json: Json = False,
) -> None:
    """Say everything that is known of a clip, a source or a sample: scores, verdict, captions, where it came from.

    Examples: goku dataset show good-3.mp4 · goku dataset show 3f2a91c0 --frames look
    """
    from goku_core.dataset import details, versions

    found = details.details(Path.cwd(), versions.version(Path.cwd(), version), name)
    if frames is not None:
        found["frames"] = [str(path) for path in details.write_frames(Path.cwd(), found["clips"], frames, count)]
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False))
        return
    for row in found["sources"]:
        _print_row("source", row)
    for row in found["clips"]:
        _print_row("clip", row)
    for row in found["samples"]:
        _print_row("sample", row)
    typer.echo("lineage")
    lineage = found["lineage"]
    typer.echo(f"  version {found['version']} of {lineage['finished'][:16]}, fingerprint {lineage['fingerprint'][:12]}")
    for path, digest in lineage["inputs"].items():
        typer.echo(f"  made from {path} {digest[:12]}")
    for path in found.get("frames", []):
        typer.echo(path)


def _print_row(heading: str, row: dict[str, Any]) -> None:
    typer.echo(heading)
    for name, value in row.items():
        if value is not None and value != "" and value != []:
            typer.echo(f"  {name:<18}{f'{value:.6g}' if isinstance(value, float) else value}")
    typer.echo("")


@dataset.command("export")
def export(
    webdataset: Annotated[Path, typer.Option("--webdataset", metavar="DIR", help="Folder of the tar shards")],
    version: Which = "current",
    per_shard: Annotated[int, typer.Option(min=1, help="Samples of a shard")] = 256,
    as_json: Json = False,
) -> None:
    """Write the kept clips as WebDataset shards: mp4 or picture, json and txt of each. Goes on where it was stopped.

    Examples: goku dataset export --webdataset out · goku dataset export --webdataset out --version latest~1
    """
    from goku_core.dataset import versions
    from goku_core.dataset.webdataset import export as write
    from goku_core.pipeline.progress import Bar

    chosen = versions.version(Path.cwd(), version)
    total = chosen.record.report.get("kept")
    with Bar(f"export version {chosen.id}", total, "samples") as bar:
        done = write(Path.cwd(), chosen, webdataset, per_shard, bar.advance)
    facts = {
        "version": chosen.id,
        "folder": str(done.folder),
        "shards": done.shards,
        "written": done.written,
        "samples": done.samples,
        "cut": done.cut,
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    made = ", ".join(f"{count} {how}" for how, count in done.cut.items()) or "nothing was missing"
    typer.echo(f"{done.folder}: {done.samples} samples in {done.shards} shards, {done.written} written now ({made})")

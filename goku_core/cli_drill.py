"""`goku drill`: harms a small real training in every way that is prepared for, and says what became of it."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.progress import console

HEADS = ("fault", "detected after", "recovered after", "steps lost", "outcome")


def drill(
    only: Annotated[list[str] | None, typer.Option("--only", help="Names of faults; none: all")] = None,
    self_check: Annotated[
        bool, typer.Option("--self-check", help="Examine this machine instead, as the launcher does")
    ] = False,
    store: Annotated[str | None, typer.Option(help="With --self-check: an object store, s3://bucket/prefix")] = None,
    post_mortem: Annotated[
        bool,
        typer.Option("--post-mortem", help="Say what became of the newest failed attempt instead; null: none failed"),
    ] = False,
    run: Annotated[str, typer.Option(help="With --post-mortem: of this flow run")] = "",
    keep: Annotated[
        Path | None, typer.Option(help="Folder that stays, with logs and stacks; default: a temporary one")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output")] = False,
) -> None:
    """Inject faults into a small training of two ranks; measure detection, recovery, loss. Exit code 1 when one is not survived.

    Examples: goku drill; goku drill --only hang --only kill-one; goku drill --self-check; goku drill --post-mortem
    """
    if post_mortem:
        _tell_failure(run, as_json)
        return
    if self_check:
        _examine(store, as_json)
        return
    from goku_core.train.drill.faults import FAULTS

    unknown = [name for name in only or [] if name not in FAULTS]
    if unknown:
        raise GokuError(f"there is no fault {unknown[0]!r}. There are: {', '.join(FAULTS)}.")
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise GokuError(f"--keep {keep}: the folder is not empty.")
    with tempfile.TemporaryDirectory(prefix="goku-drill-") as temporary:
        rows = run_drill(keep or Path(temporary), only or list(FAULTS))
    if as_json:
        typer.echo(json.dumps(rows))
    else:
        for line in table(rows):
            typer.echo(line)
    if any(row["outcome"] == "fail" for row in rows):
        raise typer.Exit(1)


def run_drill(folder: Path, names: list[str]) -> list[dict[str, object]]:
    """One row per fault: name, what, outcome (pass, fail, left out), seconds, and what was seen of it."""
    from goku_core.train.drill.faults import FAULTS, Drill, LeftOut, Seen
    from goku_core.train.drill.training import DrillFailed

    drill, rows = Drill(folder.resolve()), []
    try:
        _say("the run that nothing befalls")
        drill.prepare()
        for name in names:
            started = time.monotonic()
            _say(f"{name}: {FAULTS[name].__doc__}")
            try:
                seen, outcome = FAULTS[name](drill), "pass"
            except LeftOut as error:
                seen, outcome = Seen(note=str(error)), "left out"
            except DrillFailed as error:
                seen, outcome = Seen(note=str(error)), "fail"
            finally:
                drill.close()
            row = {"fault": name, "what": FAULTS[name].__doc__, "outcome": outcome, **asdict(seen)}
            rows.append(row | {"seconds": round(time.monotonic() - started, 1)})
            _say(f"{name}: {outcome}{f' ({seen.note})' if seen.note else ''}")
    finally:
        drill.close()
    return rows


def table(rows: list[dict[str, object]]) -> list[str]:
    """The rows as lines of text."""

    def shown(value: object, unit: str = "") -> str:
        return "-" if value is None else f"{value:.1f}{unit}" if isinstance(value, float) else str(value)

    cells = [
        (str(r["fault"]), shown(r["detected"], " s"), shown(r["recovered"], " s"), shown(r["lost"]), str(r["outcome"]))
        for r in rows
    ]
    widths = [max(len(row[column]) for row in [HEADS, *cells]) for column in range(len(HEADS))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in [HEADS, *cells]]
    return [f"{line}  {note}".rstrip() for line, note in zip(lines, ["", *(str(r["note"]) for r in rows)], strict=True)]


def _examine(store: str | None, as_json: bool) -> None:
    from goku_core.train.health.selfcheck import examine_in_child

    found = examine_in_child(Path.cwd(), store)
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in found]))
    else:
        for finding in found:
            typer.echo(f"{'ok' if finding.ok else 'BAD':<4} {finding.what:<24} {finding.found}")
    if not all(finding.ok for finding in found):
        raise typer.Exit(1)


def _tell_failure(run: str, as_json: bool) -> None:
    from goku_core.train.postmortem import last_failure

    failure = last_failure(Path.cwd(), run)
    if as_json:
        typer.echo(json.dumps(failure))
        return
    if failure is None:
        typer.echo("nothing has failed here")
        return
    for key, value in failure.items():
        if isinstance(value, str) and "\n" in value:
            value = "\n" + value
        typer.echo(f"{key:<15} {value}")


def _say(message: str) -> None:
    console().print(f"drill: {message}", soft_wrap=True, markup=False)

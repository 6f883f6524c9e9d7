"""`goku curate --what-if`: what another threshold would keep, from the published table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from goku_core.curate.what_if import Answer

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output")]


def curate(
    what_if: Annotated[
        list[str] | None, typer.Option("--what-if", metavar="KEY=VALUE[,KEY=VALUE]", help="Thresholds to ask about")
    ] = None,
    version: Annotated[str, typer.Option(help="Which published version: an id, current, latest, latest~1")] = "current",
    examples: Annotated[int, typer.Option(min=0, help="Clips named for each change")] = 5,
    as_json: Json = False,
) -> None:
    """Say what other thresholds would keep, from the table, without decoding anything. To curate: goku run curate

    Short keys (ocr, motion_min, motion_max, quality, hamming, ...) stand for all tiers, full ones (tiers.720p.ocr_max) for
    one value. A wrong key is answered with the list of keys.

    Examples: goku curate --what-if ocr=0.005 · goku curate --what-if quality=4.5,hamming=-1 --json
    """
    from goku_core import config
    from goku_core.curate import Request
    from goku_core.curate.what_if import ANSWERED, ask, parse
    from goku_core.dataset import versions

    if not what_if:
        raise GokuError("goku curate answers --what-if KEY=VALUE (see --help). To curate: goku run curate")
    request = config.load_params().curate
    changes = parse(what_if, request)
    published = versions.version(Path.cwd(), version)
    try:
        made_with = Request.model_validate(published.request)
    except ValueError:  # of an older release, whose keys were others
        made_with = request
        typer.echo(f"note: version {published.id} was made with parameters that are no longer known", err=True)
    answer = ask(published.table().to_pylist(), made_with, request, changes)
    edited = {} if made_with == request else _edited(made_with, request)
    if as_json:
        facts = {"version": published.id, "params_edited": edited} | answer.as_json(examples)
        typer.echo(json.dumps(facts, ensure_ascii=False))
        return
    _print(answer, published.id, examples)
    counted = [key for key in edited if key.startswith(ANSWERED)]
    for names, said in (
        (counted, "that is in `after` too"),
        ([k for k in edited if k not in counted], "that is not in `after`"),
    ):
        if names:
            typer.echo(
                f"note: changed in params.yaml since this version was made: {', '.join(names)}; {said}.", err=True
            )


def _edited(before: object, now: object) -> dict[str, list[object]]:
    from goku_core.dataset.difference import parameters

    return {
        key: [a, b] for key, (a, b) in parameters(before.model_dump(mode="json"), now.model_dump(mode="json")).items()
    }


def _print(answer: Answer, version: str, examples: int) -> None:
    from goku_core.curate.what_if import spread

    for name, (old, new) in answer.changes.items():
        typer.echo(f"{name}: {old} -> {new}")
    typer.echo(f"\n{'version ' + version:<28}{'before':>10}{'after':>10}")
    lines: list[tuple[str, object, object]] = [("kept", answer.before["kept"], answer.after["kept"])]
    for group, indent in (("kept_by_kind", "kept, "), ("kept_by_tier", "kept, tier "), ("rejected_by", "rejected, ")):
        before, after = answer.before[group], answer.after[group]
        lines += [
            (indent + name, before.get(name, 0), after.get(name, 0)) for name in sorted(before.keys() | after.keys())
        ]
    for name, old, new in [*lines, ("failed", answer.before["failed"], answer.after["failed"])]:
        typer.echo(f"{name:<28}{old:>10}{new:>10}{'' if old == new else '  *'}")
    for heading, rows in (
        ("comes in", answer.comes_in),
        ("goes out", answer.goes_out),
        ("other tier", answer.other_tier),
        ("uncertain: text this small was not read when the version was made, and counts as text here", answer.unread),
        ("uncertain: models have not captioned or labelled these yet, and balance counts labels", answer.unlabelled),
    ):
        if rows:
            typer.echo(f"\n{heading}: {len(rows)}")
            for row in spread(rows, examples):
                typer.echo(f"  {row['clip_id']}  {row['message'] or 'tier ' + str(row['tier'])}")

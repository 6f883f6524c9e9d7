"""`goku tune`, `goku ablate`: one phase trained many times, compared by the loss of held-out samples."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from goku_core.config import Params
    from goku_core.pipeline.executor import OpenTracker

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output")]
PARENT_SECONDS = 60.0


def tune(
    name: Annotated[str, typer.Option(help="Name of the study: one that is there goes on")] = "study",
    trials: Annotated[int | None, typer.Option(min=1, help="Trials in all, in place of tune.trials")] = None,
    write_best: Annotated[
        bool, typer.Option("--write-best", help="Write params/tuned-NAME.yaml with the values of the best trial")
    ] = False,
    as_json: Json = False,
) -> None:
    """Search better parameters of a phase: `tune` in params.yaml says which. Goes on where it was stopped or killed.

    Examples: goku tune --name rates · goku tune --name rates --trials 40 --write-best · goku params use tuned-rates
    """
    from goku_core import config
    from goku_core.tune import summary
    from goku_core.tune.study import Search

    workspace, params = Path.cwd(), config.load_params()
    _refuse_name(name)
    with _parent(workspace, params, "tune", name, params.tune.model_dump(mode="json")) as (opened, parent):
        search = Search(name, workspace, params, opened, parent)
        search.run(trials, on_trial=lambda one: summary.report(search))
        page = summary.report(search)
    found = summary.facts(search)
    if write_best:
        found["preset"] = str(summary.write_preset(search).relative_to(workspace.resolve()))
    if as_json:
        typer.echo(json.dumps(found))
        return
    best = search.best()
    typer.echo(f"best: trial {best.number}, validation loss {best.value:.5f}: {found['best']['values']}")
    typer.echo(f"{page.relative_to(workspace.resolve())}" + (f", {found['preset']}" if write_best else ""))


def _refuse_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}", name):
        raise GokuError(f"--name {name!r}: letters, digits, - and _, as it names a folder and a preset.")


@contextmanager
def _parent(
    workspace: Path, params: Params, kind: str, name: str, request: dict[str, Any]
) -> Iterator[tuple[OpenTracker, str]]:
    """What opens trackers for the trainings, and the MLflow run whose children they are ("" where MLflow does not answer)."""
    from goku_core import tracking
    from goku_core.pipeline.files import digest_json

    absolute = params.tracking.model_copy(update={"uri": tracking.resolve_uri(params.tracking.uri, workspace)})
    own = digest_json({kind: name})
    parent = tracking.MlflowTracker(workspace, own, f"{kind} {name}", request, absolute, {f"goku.{kind}": name})
    status = "FAILED"
    try:
        until = time.monotonic() + PARENT_SECONDS
        while (run := tracking.run_id(workspace, own)) is None and time.monotonic() < until:
            time.sleep(0.2)
        if run is None:
            typer.echo("MLflow does not answer: its runs will stand side by side, not below one.", err=True)
        yield tracking.opener(absolute), run or ""
        status = "FINISHED"
    finally:
        parent.finish(status)


def ablate(
    name: Annotated[str, typer.Argument(help="joint, position, qk-norm or scale")],
    steps: Annotated[int, typer.Option(min=2, help="Steps of each training")] = 300,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each arm, by different seeds")] = 2,
    tokens: Annotated[int, typer.Option(min=16, help="Token budget of a step")] = 900,
    as_json: Json = False,
) -> None:
    """Compare two ways of training, from scratch on this workspace's latents, by the loss of held-out samples.

    Made for the sample corpus and the network nano: minutes on two cores. Example: goku ablate position
    """
    from goku_core import config
    from goku_core.tune import ablations

    workspace, params = Path.cwd(), config.load_params()
    asked = {"steps": steps, "seeds": seeds, "tokens": tokens}
    with _parent(workspace, params, "ablation", name, asked) as (opened, parent):
        page = ablations.run(
            name,
            workspace,
            params,
            opened,
            steps=steps,
            seeds=range(seeds),
            tokens=tokens,
            parent=parent,
            say=lambda what: typer.echo(what, err=True),
        )
    found = json.loads((workspace / ablations.REPORTS / name / "facts.json").read_text(encoding="utf-8"))["facts"]
    typer.echo(json.dumps(found) if as_json else f"{found['verdict']}\n{page.relative_to(workspace.resolve())}")

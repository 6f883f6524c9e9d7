"""`goku evaluate during`: a light evaluation of the checkpoints of a training under way, beside it.

Training knows nothing of it: it writes checkpoints, this reads them, and the scores land in the metrics of the training's own
run. So it needs no rank's time, works for any arrangement of ranks, and may be stopped and started at will.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from goku_core.train.checkpoint.listing import Entry

PATIENCE = 15.0  # s between two looks at the folder of checkpoints


def during(
    every: Annotated[int, typer.Option(min=1, help="Only checkpoints whose step is a multiple of this")] = 1,
    once: Annotated[
        bool, typer.Option("--once", help="Evaluate what is there and end, without waiting for more")
    ] = False,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda or cuda:N; not the one that trains, if it is full")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for every checkpoint")] = False,
) -> None:
    """Evaluate the newest checkpoint of every training under way on fixed prompts, as long as there is one.

    Averaged weights draw 24 pictures, and 8 clips where the phase trains on clips; GenEval's rule and the direction of motion
    judge them. The scores land in the training's MLflow run as light/... at the checkpoint's step. How often there is
    something to evaluate: train.checkpoint.every. Older checkpoints that were missed are left out.

    Examples: goku evaluate during · goku evaluate during --every 1000 --device cuda:1
    """
    from goku_core.train.checkpoint.listing import local

    root = Path.cwd()
    while True:
        found = [one for one in local(root) if one.wrong is None]
        newest = {one.fingerprint: one for one in sorted(found, key=lambda e: e.step) if one.step % every == 0}
        for entry in newest.values():
            if (scores := _evaluated(root, entry, device)) is not None:
                told = {"phase": entry.phase, "step": entry.step} | {k: round(v, 6) for k, v in scores.items()}
                typer.echo(json.dumps(told) if as_json else "  ".join(f"{k} {v}" for k, v in told.items()))
        if once or not found:
            if not found:
                typer.echo("no training is under way here (a finished phase keeps no checkpoints)", err=True)
            return
        time.sleep(PATIENCE)


def _evaluated(root: Path, entry: Entry, device: str) -> dict[str, float] | None:
    """Scores of a checkpoint, logged with its step; None where that was done before, or where the checkpoint has gone."""
    from goku_core import config, tracking
    from goku_core.evaluate import light
    from goku_core.generate import Generator
    from goku_core.train.checkpoint.export import export_goku

    logged = tracking.last_steps(root, entry.fingerprint)
    if max((step for name, step in logged.items() if name.startswith(light.PREFIX)), default=-1) >= entry.step:
        return None
    params = config.load_params(root / "params.yaml")
    if entry.phase not in params.train.phases:
        raise GokuError(
            f"params.yaml has no phase {entry.phase}, which is under way: it was started with other parameters"
        )
    phase = params.train.phases[entry.phase]
    place = Path(tempfile.mkdtemp(prefix="goku-during-"))
    try:
        export_goku(Path(entry.path), place / "model")
        generator = Generator.from_model(place / "model", root / "models/vae", device)
        scores: dict[str, float] = {}
        if phase.images > 0:
            scores |= light.pictures(generator, params.evaluate.photo_prefix)
        if phase.clips > 0:
            scores |= light.clips(generator, generator.frames, phase.image_condition)
    except FileNotFoundError:  # training has removed the checkpoint meanwhile; the next one is there already
        return None
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if not tracking.log_beside(root, entry.fingerprint, scores, entry.step):
        typer.echo(f"{entry.phase} has ended: the scores of step {entry.step} are not logged", err=True)
    return scores

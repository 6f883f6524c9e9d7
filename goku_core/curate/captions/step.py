"""The captions of a table: sidecars for every row, models for the rows that are kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from goku_core.chat.answers import FOLDER, Answers
from goku_core.curate.captions.recipe import Caption, Frames, Recipe
from goku_core.curate.captions.request import Captions, Role
from goku_core.curate.captions.sidecar import caption_of, training_text
from goku_core.curate.captions.templates import Templates
from goku_core.curate.request import Request
from goku_core.curate.tiers import judged_motion
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError

PREPARED = 2  # rows in hand per request that may be under way
TEMPLATES: dict[Role, tuple[str, ...]] = {"keyframes": ("image", "keyframes"), "clip": ("clip",), "merge": ("merge",)}


def caption(rows: list[dict[str, Any]], raw: pa.Table, request: Request, context: Context, proxies: Path) -> None:
    """Fills caption, caption_source, caption_problem and text of all rows, in place.

    raw      data/raw.parquet: sidecar texts by media_id
    proxies  folder of the survey's sampled frames; read only where a model is asked
    Raises `GokuError` where models cannot be asked; answers given so far are kept for the next run.
    """
    _from_sidecars(rows, raw)
    settings = request.captions
    if settings.configured:
        chosen = [row for row in rows if row["outcome"] == "kept"]
        if settings.sidecars == "keep":
            chosen = [row for row in chosen if not row["caption"]]
        with context.progress("curate: captions", len(chosen), "clips") as bar:
            recipe = describe(chosen, settings, context.workspace, _frames_of(proxies), bar.advance)
        context.say(f"captions: {recipe.asked} questions asked, {recipe.known} answered before")
    for row in rows:
        row["text"] = training_text(row["caption"], judged_motion(row))


def check(request: Request, context: Context) -> None:
    """What can be wrong before anything is decoded: prompts, folders of models, keys, servers. Raises `GokuError`."""
    settings = request.captions
    if settings.configured:
        Templates(context.workspace / settings.templates if settings.templates else None)
    for role in settings.configured:
        own = getattr(settings, role)
        if own.kind == "server":
            from goku_core.chat import server

            server.check(own)
        elif not (context.workspace / own.model / "config.json").is_file():
            raise GokuError(f"curate.captions.{role}.model: {own.model} is no model folder; see docs/captions.md")


def _from_sidecars(rows: list[dict[str, Any]], raw: pa.Table) -> None:
    texts = {row["media_id"]: row for row in raw.select(["media_id", "caption", "captions"]).to_pylist()}
    for row in rows:
        given = texts[row["media_id"]]
        span = (row["start_seconds"] or 0.0, row["seconds"] or 0.0)
        row["caption"] = caption_of(*span, given["caption"], given["captions"])
        row["caption_source"] = "sidecar" if row["caption"] else "none"
        row["caption_problem"] = None


def _frames_of(proxies: Path) -> Frames:
    from goku_core.curate.proxies import read

    def frames(row: Any, most: int) -> Sequence[np.ndarray]:
        return [image for _, image in read(proxies, row["media_id"], row["start_pts"], row["end_pts"], most)]

    return frames


def describe(
    rows: list[dict[str, Any]], settings: Captions, workspace: Path, frames: Frames, on_progress: Callable[[int], None]
) -> Recipe:
    """Models' captions of the rows, in place; answers are kept below `workspace`. See `caption` for what it raises.

    frames       (row, most) -> at most so many uint8 (H, W, 3) RGB frames of a row, evenly spread
    on_progress  called with the number of rows that were finished
    """
    return asyncio.run(_describe(rows, settings, workspace, frames, on_progress))


async def _describe(
    rows: list[dict[str, Any]], settings: Captions, workspace: Path, frames: Frames, on_progress: Callable[[int], None]
) -> Recipe:
    """Rows beyond those under way are prepared meanwhile, so that a free place at the server is taken at once."""
    templates = Templates(workspace / settings.templates if settings.templates else None)
    async with AsyncExitStack() as stack:
        models = {role: await stack.enter_async_context(model) for role, model in _models(settings, workspace).items()}
        answers = {
            (role, name): stack.enter_context(
                Answers(workspace / FOLDER, name, models[role].identity, templates.digests[name])
            )
            for role in models
            for name in TEMPLATES[role]
        }
        recipe = Recipe(settings, models, answers, templates, frames)
        losses = _Losses(settings, len(rows))
        waiting = iter(rows)  # shared: each worker takes the next row when it is done with one
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(PREPARED * settings.concurrency, len(rows))):
                    group.create_task(_work(waiting, recipe, losses, on_progress))
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors
    return recipe


def _models(settings: Captions, workspace: Path) -> dict[Role, Any]:
    slots = asyncio.Semaphore(settings.concurrency)
    loaded: dict[tuple[str, bool], Any] = {}
    models: dict[Role, Any] = {}
    for role in settings.configured:
        own = getattr(settings, role)
        if own.kind == "server":
            from goku_core.chat.server import Server

            models[role] = Server(own, settings, slots)
        else:
            from goku_core.curate.captions.in_process import InProcess, Network

            name = (own.model, own.frames > 0)
            if name not in loaded:
                loaded[name] = Network(workspace / own.model, settings.device, sees=own.frames > 0)
            models[role] = InProcess(loaded[name], own)
    return models


async def _work(
    waiting: Iterator[dict[str, Any]], recipe: Recipe, losses: _Losses, on_progress: Callable[[int], None]
) -> None:
    for row in waiting:
        sidecar = row["caption"] if recipe.settings.sidecars == "hint" else ""
        found = await recipe.caption(row, sidecar)
        losses.count(row["clip_id"], found)
        if found.text:
            row["caption"], row["caption_source"] = found.text, found.source
        row["caption_problem"] = "; ".join(found.problems) or None
        on_progress(1)


class _Losses:
    """Counts clips without an answer and stops the stage when it is the server that fails, not single clips."""

    def __init__(self, settings: Captions, rows: int) -> None:
        self.most = int(settings.failures_max * rows)
        self.most_in_row = 2 * PREPARED * settings.concurrency  # a server that died, in a table of millions
        self.rows, self.lost, self.in_row = rows, 0, 0

    def count(self, clip: str, found: Caption) -> None:
        """Raises `GokuError` as soon as more than `failures_max` of the clips are lost, or too many one after another."""
        self.lost += found.unanswered
        self.in_row = self.in_row + 1 if found.transient else 0
        if self.lost > self.most or self.in_row > self.most_in_row:
            raise GokuError(
                f"{self.lost} of {self.rows} clips got no answer, {self.most} may (curate.captions.failures_max). "
                f"The last one, {clip}: {'; '.join(found.problems)}. Answers so far are kept: mend the server, then "
                "run again, and only what is missing is asked."
            )


def _first(errors: BaseExceptionGroup) -> BaseException:
    """The error to tell: a `GokuError` where one is among them."""
    flat: list[BaseException] = []
    for error in errors.exceptions:
        flat.append(_first(error) if isinstance(error, BaseExceptionGroup) else error)
    return next((error for error in flat if isinstance(error, GokuError)), flat[0])

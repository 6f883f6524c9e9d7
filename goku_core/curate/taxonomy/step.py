"""The labels of a table: by the captions' words for every row that has one, by CLIP for the rows that are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from goku_core.curate.request import Request
from goku_core.curate.taxonomy.request import Taxonomy
from goku_core.curate.taxonomy.tree import OWN, SubClass, load
from goku_core.curate.taxonomy.words import Label, WordClassifier
from goku_core.curate.taxonomy.zero_shot import FRAMES, ZeroShot
from goku_core.pipeline.context import Context
from goku_core.pipeline.errors import GokuError

CLIPS_PER_BATCH = 16  # of CLIP: 64 frames


def label(rows: list[dict[str, Any]], request: Request, context: Context, proxies: Path) -> None:
    """Fills primary, label and label_score, in place. Raises `GokuError` where a file or weights are missing or wrong."""
    settings = request.taxonomy
    classes = check(request, context)
    for row in rows:
        row["primary"] = row["label"] = row["label_score"] = None
    if settings.classifier == "words":
        classifier = WordClassifier(classes)
        for row in rows:
            _put(row, classifier.label(row["caption"]), settings)
    elif settings.classifier == "clip":
        _by_frames([row for row in rows if row["outcome"] == "kept"], classes, settings, context, proxies)


def check(request: Request, context: Context) -> tuple[SubClass, ...]:
    """The classes, once everything that can be wrong before anything is decoded is seen to be right."""
    settings = request.taxonomy
    classes = load(context.input(settings.file) if settings.file else OWN)
    known = {one.name for one in classes} | {one.primary for one in classes}
    if strange := sorted(set(request.balance.weights) - known):
        raise GokuError(f"curate.balance.weights: {strange[0]!r} is no class of the taxonomy; see docs/captions.md")
    if settings.classifier == "words":
        WordClassifier(classes)
    elif settings.classifier == "clip" and not settings.weights:
        raise GokuError(
            "curate.taxonomy.classifier: clip needs curate.taxonomy.weights, a CLIP folder (docs/weights.md)"
        )
    elif settings.classifier == "clip" and not context.input(settings.weights).is_dir():
        raise GokuError(f"curate.taxonomy.weights: {settings.weights} is no folder; see docs/weights.md")
    return classes


def _by_frames(
    rows: list[dict[str, Any]], classes: tuple[SubClass, ...], settings: Taxonomy, context: Context, proxies: Path
) -> None:
    from goku_core.curate.proxies import read
    from goku_core.scorers.clip import Clip

    model = ZeroShot(classes, Clip(context.input(settings.weights), settings.device))
    with context.progress("curate: labels", len(rows), "clips") as bar:
        for begin in range(0, len(rows), CLIPS_PER_BATCH):
            batch = rows[begin : begin + CLIPS_PER_BATCH]
            clips = [
                [frame for _, frame in read(proxies, row["media_id"], row["start_pts"], row["end_pts"], FRAMES)]
                for row in batch
            ]
            for row, found in zip(batch, model.label(clips), strict=True):
                _put(row, found, settings)
            bar.advance(len(batch))


def _put(row: dict[str, Any], found: Label | None, settings: Taxonomy) -> None:
    if found is not None and found.score >= settings.least_score:
        row["primary"], row["label"], row["label_score"] = found.primary, found.name, found.score

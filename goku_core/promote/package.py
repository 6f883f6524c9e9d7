"""What MLflow's registry is given for a bundle: a folder that `mlflow models serve` understands, around the bundle.

    MLmodel            names `goku_core.promote.serving` as the loader, and the bundle's digest
    bundle/            the bundle, as links; nothing but its own files, so it verifies as it does in its own place
    MODEL_CARD.md      and pictures/

The folder is no part of the bundle: MLflow writes into what it loads. No code travels with it and nothing is pickled: the
loader is the installed package's own, which checks every byte first.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from goku_core.pipeline.files import link
from goku_core.promote import bundle, card, signature

STORE = ".goku/registered"
MODEL = "MLmodel"
BUNDLE = "bundle"
LOADER = "goku_core.promote.serving"
CARD_TAG = "goku.card"
DESCRIPTION = 4900  # characters; the registry's column takes 5000


def location(workspace: Path, digest: str) -> Path:
    return workspace / STORE / digest


def make(workspace: Path, digest: str) -> Path:
    """Make the folder, or bring its card and signature up to date; safe to repeat and to interrupt."""
    place, source = location(workspace, digest), bundle.location(workspace, digest)
    place.mkdir(parents=True, exist_ok=True)
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    inside = place / BUNDLE
    for path in [path for path in inside.rglob("*") if path.is_file()]:
        if path.relative_to(inside) not in wanted:
            path.unlink()
    for name in sorted(wanted):
        if not ((inside / name).is_file() and (inside / name).samefile(source / name)):
            (inside / name).parent.mkdir(parents=True, exist_ok=True)
            link(source / name, inside / name)
    if not card.holds(workspace, digest, place):
        card.write(workspace, digest, place)
    if not (place / MODEL).is_file():  # last: without it the folder is no model
        _describe(place, digest)
    return place


def remove(workspace: Path, digest: str) -> None:
    """Remove the folder; the bundle stays."""
    shutil.rmtree(location(workspace, digest), ignore_errors=True)


def description(place: Path) -> str:
    """The card as far as the registry's field takes it, cut between lines; pictures cannot be shown there."""
    lines = (place / card.CARD).read_text(encoding="utf-8").split("\n")
    text = "\n".join(line for line in lines if not line.startswith(("![", "<!--")))
    if len(text) <= DESCRIPTION:
        return text
    more = f"\n\n(The rest: {card.CARD}, `goku registry card`)"
    return text[: DESCRIPTION - len(more)].rpartition("\n")[0] + more


def tags(workspace: Path, digest: str) -> dict[str, str]:
    """What a version is tagged with beside its scores; a change of one says that files must be sent again."""
    signed = signature.check(bundle.location(workspace, digest), digest, [])
    return {
        CARD_TAG: bundle.sha256(location(workspace, digest) / card.CARD),
        "goku.signed_by": signed.key if signed else "nobody",
    }


def _describe(place: Path, digest: str) -> None:
    from mlflow import pyfunc
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    from goku_core.promote.serving import COLUMNS, RESULT

    kinds = {"text": DataType.string, "whole": DataType.long, "number": DataType.double}
    asked = Schema([ColSpec(kinds[kind], name, required=name == "prompt") for name, kind in COLUMNS.items()])
    told = Schema([ColSpec(kinds[kind], name) for name, kind in RESULT.items()])
    model = Model(signature=ModelSignature(inputs=asked, outputs=told), model_uuid=digest[:32])
    pyfunc.add_to_model(model, loader_module=LOADER, data=BUNDLE, model_config={"bundle": digest})
    partial = place / f".{MODEL}.partial"
    model.save(str(partial))
    partial.replace(place / MODEL)

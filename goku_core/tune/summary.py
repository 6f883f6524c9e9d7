"""A study told: its plots, its table, its best trial as a preset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from goku_core.params_text import with_value
from goku_core.pipeline.errors import GokuError
from goku_core.tune import pages
from goku_core.tune.study import Search, values_of

REPORTS = Path("reports/tune")
STATES = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped early", TrialState.FAIL: "failed"}


def report(search: Search) -> Path:
    """Writes reports/tune/<study> and the page of all studies; returns the page."""
    folder = search.workspace / REPORTS / search.name
    ended = search.ended
    done = [one for one in ended if one.state == TrialState.COMPLETE]
    pictures = []
    if done:
        pages.draw_history([(one.number, one.value) for one in done], folder / "history.png")
        curves = {
            f"trial {one.number}": [sorted(one.intermediate_values.items())] for one in ended if one.intermediate_values
        }
        pages.draw_curves(curves, folder / "curves.png")
        pictures = ["history.png", "curves.png"]
    for number, (key, one) in enumerate(search.request.space.items()):
        values = [(values_of(trial, search.request.space)[key], trial.value) for trial in done if key in trial.params]
        if values:
            pages.draw_parameter(key, values, one.log, folder / f"parameter-{number}.png")
            pictures.append(f"parameter-{number}.png")
    keys = list(search.request.space)
    rows = [_row(one, keys, search) for one in sorted(ended, key=_order)]
    text = (
        f"Phase {search.phase}, {len(ended)} trials, {len(done)} to the end. Loss of held-out samples, lower is better."
    )
    found = pages.Found(
        search.name,
        f"Study {search.name}",
        text,
        ["trial", "validation loss", "end", *keys, "seconds", "why"],
        rows,
        pictures,
    )
    return pages.write(found, facts(search), search.workspace / REPORTS)


def facts(search: Search) -> dict[str, Any]:
    """What a program may want to know."""
    trials = [
        {
            "trial": one.number,
            "state": STATES[one.state],
            "validation_loss": one.value if one.state == TrialState.COMPLETE else None,
            "losses": sorted(one.intermediate_values.items()),
            "values": values_of(one, search.request.space),
            "fingerprint": one.user_attrs.get("fingerprint", ""),
            "why": one.user_attrs.get("why", ""),
        }
        for one in search.ended
    ]
    best = min(
        (t for t in trials if t["validation_loss"] is not None), key=lambda t: t["validation_loss"], default=None
    )
    return {"study": search.name, "phase": search.phase, "trials": trials, "best": best}


def _order(one: Any) -> tuple[bool, float, int]:
    return (one.state != TrialState.COMPLETE, one.value if one.state == TrialState.COMPLETE else 0.0, one.number)


def _row(one: Any, keys: list[str], search: Search) -> list[str]:
    values = values_of(one, search.request.space)
    loss = f"{one.value:.5f}" if one.state == TrialState.COMPLETE else ""
    seconds = f"{one.user_attrs['seconds']:.0f}" if one.user_attrs.get("seconds") else ""
    shown = [str(values.get(key, "")) for key in keys]
    return [str(one.number), loss, STATES[one.state], *shown, seconds, one.user_attrs.get("why", "").split("\n")[0]]


def write_preset(search: Search, source: Path = Path("params.yaml")) -> Path:
    """params/tuned-<study>.yaml: params.yaml with the values of the best trial, comments and all. Returns its path."""
    best = search.best()
    text = (search.workspace / source).read_text(encoding="utf-8")
    for key, value in values_of(best, search.request.space).items():
        try:
            text = with_value(text, key, value)
        except GokuError as error:
            raise GokuError(f"{source}: {error}") from error
    head = f"# Preset tuned-{search.name}: best of study {search.name} (trial {best.number}, validation loss {best.value:.5f}).\n"
    target = search.workspace / "params" / f"tuned-{search.name}.yaml"
    target.parent.mkdir(exist_ok=True)
    draft = target.with_suffix(".draft")
    draft.write_text(head + text, encoding="utf-8")
    draft.replace(target)
    return target

"""Fixed comparisons of what the paper claims and does not measure (section 5.4; RoPE and query-key norm: section 2.2).

Each arm is a training of the same phase, from scratch, on the same data, steps, token budget and validation samples; only what the
arm names differs. Arms of one seed share initial draws, samples, noise and times as far as their networks allow.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goku_core.models.config import CONFIGS
from goku_core.pipeline.errors import GokuError
from goku_core.pipeline.executor import OpenTracker
from goku_core.tune import pages, place, trial

if TYPE_CHECKING:
    from goku_core.config import Params

REPORTS = Path("reports/ablations")
PHASE = "ablation"
TOKENS, RATE = 900, 3e-3
HIGH_RATE = 10  # times the rate at which the network trains well
JOINT = {"images": 0.6, "clips": 0.4}


@dataclass(frozen=True)
class Ablation:
    """arms: label -> changes; `of`: samples that losses are taken of."""

    title: str
    question: str
    arms: dict[str, dict[str, Any]]
    of: str = "mix"


def phase(**changes: Any) -> dict[str, Any]:
    """The phase of an arm, by its keys."""
    return {f"train.phases.{PHASE}.{key}": value for key, value in changes.items()}


def _model(name: str = "nano", **changes: Any) -> dict[str, Any]:
    """The whole section `train.model`."""
    empty = {"depth": None, "width": None, "heads": None, "ffn": None, "position": "rope", "qk_norm": True}
    return {"train.model": {"name": name, **empty, **changes}}


_NANO = CONFIGS["nano"]
ABLATIONS = {
    "joint": Ablation(
        "Joint training on pictures and clips against clips alone",
        "Paper section 5.4: without pictures, frames of clips are of low quality. Equal steps and tokens; loss on held-out clips.",
        {"pictures and clips": _model() | phase(**JOINT), "clips alone": _model() | phase(images=0.0, clips=1.0)},
        of="clips",
    ),
    "position": Ablation(
        "3D RoPE against sinusoidal positions",
        "Paper section 2.2: RoPE converges faster. Sinusoids over the same three axes are added to the tokens, as in DiT.",
        {"3D RoPE": _model(), "sinusoidal": _model(position="sinusoidal")},
    ),
    "qk-norm": Ablation(
        "Query-key norm against none at a high learning rate",
        f"Paper section 2.2: the norm prevents loss spikes. Both at {HIGH_RATE} times the learning rate of the other comparisons.",
        {
            "query-key norm": _model() | phase(learning_rate=HIGH_RATE * RATE),
            "none": _model(qk_norm=False) | phase(learning_rate=HIGH_RATE * RATE),
        },
    ),
    "scale": Ablation(
        "nano against a network of four times the parameters",
        "Paper section 5.4 compares 2B with 8B by pictures. Equal steps and tokens; the larger one computes four times as long.",
        {
            "nano": _model(),
            "four times larger": _model(
                "custom", depth=_NANO.depth, width=2 * _NANO.width, heads=2 * _NANO.heads, ffn=2 * _NANO.ffn
            ),
        },
    ),
}  # fmt: skip


def setting(params: Params, steps: int, of: str, tokens: int = TOKENS) -> dict[str, Any]:
    """What all arms share: a phase of its own at the first resolution, and validation."""
    resolution = next(iter(params.precompute.resolutions))
    own = {
        "init_from": "vae",
        "resolution": resolution,
        "steps": steps,
        **JOINT,
        "tokens": tokens,
        "learning_rate": RATE,
        "warmup": max(1, steps // 10),
        "decay": 0.3,
    }
    validation = {"share": 0.1, "every": max(1, steps // 15), "samples": 64, "weights": "ema", "of": of}
    return {
        f"train.phases.{PHASE}": own,
        "train.validation": validation,
        "train.previews": {"images": [], "clips": []},
        "train.ema_decay": 0.98,  # short trainings: an average over the last fifty steps
        "train.log_every": validation["every"],
    }


def run(
    name: str,
    workspace: Path,
    params: Params,
    open_tracker: OpenTracker,
    *,
    steps: int = 300,
    seeds: Sequence[int] = (0, 1),
    tokens: int = TOKENS,
    parent: str = "",
    say: Callable[[str], None] = print,
) -> Path:
    """Trains all arms (or finds them done), writes reports/ablations, returns the page. Raises `GokuError` for an unknown name."""
    if name not in ABLATIONS:
        raise GokuError(f"there is no ablation {name!r}. There are: {', '.join(ABLATIONS)}.")
    asked = ABLATIONS[name]
    results: dict[str, list[trial.Result]] = {}
    for label, changes in asked.arms.items():
        for seed in seeds:
            say(f"{name}: {label}, seed {seed}")
            shared = setting(params, steps, asked.of, tokens)
            work = place.work(params, shared | changes, PHASE, seed)
            tags = {"goku.ablation": name, "goku.arm": label} | ({"mlflow.parentRunId": parent} if parent else {})
            folder = workspace.resolve() / ".goku" / "tune" / "ablations" / f"{name}-{len(results)}-{seed}"
            result = trial.run(work, workspace.resolve(), folder, open_tracker, _never, tags)
            if result.state == "failed" and result.retriable:
                raise GokuError(f"{name}, {label}: {result.why}")
            results.setdefault(label, []).append(result)
    return _report(name, asked, results, steps, tokens, list(seeds), workspace.resolve())


def _never(step: int, loss: float) -> bool:
    return False


def _report(
    name: str,
    asked: Ablation,
    results: dict[str, list[trial.Result]],
    steps: int,
    tokens: int,
    seeds: list[int],
    root: Path,
) -> Path:
    folder = root / REPORTS / name
    pages.draw_curves({label: [one.losses for one in ones] for label, ones in results.items()}, folder / "curves.png")
    rows = [_row(label, ones) for label, ones in results.items()]
    text = f"{asked.question} {steps} steps of {tokens} tokens, seeds {', '.join(map(str, seeds))}. {verdict(results)}"
    columns = ["arm", "validation loss at the end", "of each seed", "least on the way", "seconds", "what happened"]
    facts = {
        "name": name,
        "steps": steps,
        "tokens": tokens,
        "seeds": seeds,
        "verdict": verdict(results),
        "arms": {
            label: [{"losses": one.losses, "state": one.state, "why": one.why} for one in ones]
            for label, ones in results.items()
        },
    }
    return pages.write(pages.Found(name, asked.title, text, columns, rows, ["curves.png"]), facts, root / REPORTS)


def _row(label: str, ones: Sequence[trial.Result]) -> list[str]:
    ends = [one.loss for one in ones if one.state == "done" and one.losses]
    least = [min(loss for _, loss in one.losses) for one in ones if one.losses]
    mean = f"{statistics.fmean(ends):.4f}" if len(ends) == len(ones) else "none: not every training came to its end"
    each = ", ".join(f"{one.loss:.4f}" if one.state == "done" and one.losses else one.state for one in ones)
    best = f"{min(least):.4f}" if least else ""
    whys = "; ".join(dict.fromkeys(one.why.split("\n")[0] for one in ones if one.why))
    return [label, mean, each, best, f"{sum(one.seconds for one in ones):.0f}", whys]


def verdict(results: dict[str, list[trial.Result]]) -> str:
    """One sentence: which arm ends lower, and whether all its seeds lie below all of the other's."""
    ends = {label: [one.loss for one in ones if one.state == "done" and one.losses] for label, ones in results.items()}
    broken = [label for label, ones in results.items() if len(ends[label]) < len(ones)]
    if broken:
        return f"Not every training of {' and '.join(broken)} came to its end."
    (first, a), (second, b) = ends.items()
    low, high = ((first, a), (second, b)) if statistics.fmean(a) <= statistics.fmean(b) else ((second, b), (first, a))
    share = 100 * (1 - statistics.fmean(low[1]) / statistics.fmean(high[1]))
    if max(low[1]) < min(high[1]):
        return f"{low[0]} ends {share:.1f} % below {high[0]}, with every seed."
    return f"{low[0]} ends {share:.1f} % below {high[0]} in the mean, but the seeds overlap: no difference is shown."

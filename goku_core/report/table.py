"""The line in numbers, for the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from goku_core.report import cost
from goku_core.report.facts import Facts, gather


def print_summary(workspace: Path, console: Console | None = None) -> None:
    """One table: data, VAE, training phases, score, champion, wall times."""
    facts = gather(workspace)
    out = console or Console(highlight=False)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), title="goku", title_justify="left")
    table.add_column(style="bold")
    table.add_column()
    table.add_column(justify="right", style="dim")
    for name, text, seconds in rows(facts):
        table.add_row(name, text, seconds)
    out.print(table)


def rows(facts: Facts) -> list[tuple[str, str, str]]:
    """(what, figures, wall time) in the order of the line."""
    lines = [
        ("media in", _media(facts), _wall(facts, "collect")),
        ("clips kept", _kept(facts), _wall(facts, "curate")),
        ("VAE", _vae(facts), _wall(facts, "vae")),
        ("latents", _latents(facts), _wall(facts, "precompute")),
    ]
    lines += [(f"train {phase.name}", training(phase), _wall(facts, f"train@{phase.name}")) for phase in facts.phases]
    lines += [
        ("score", _score(facts), _wall(facts, "evaluate")),
        ("champion", champion(facts), _wall(facts, "promote")),
        ("cost", cost.sentence(facts, facts.plan), ""),
        ("total", "", duration(facts.total_seconds)),
    ]
    return lines


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {seconds % 60:02.0f} s"


def training(phase: Any) -> str:
    """Steps, first and last logged loss, samples/s of a phase."""
    losses = [entry["loss"] for entry in phase.metrics if "loss" in entry]
    if not losses:
        return "no log"
    parts = [f"{phase.metrics[-1].get('step', len(losses))} steps", f"loss {losses[0]:.3f} to {tail_mean(losses):.3f}"]
    if (speed := phase.report.get("samples_per_second")) is not None:
        parts.append(f"{speed:.1f} samples/s")
    return ", ".join(parts)


def tail_mean(values: list[float], share: float = 0.1) -> float:
    """Mean of the last tenth: a single batch's loss says little."""
    last = values[-max(1, round(len(values) * share)) :]
    return sum(last) / len(last)


def champion(facts: Facts) -> str:
    told = facts.promotion
    if told is None:
        return "not decided yet"
    return f"version {told['version']}, {told['decision']} ({told['reason']})"


def _wall(facts: Facts, name: str) -> str:
    piece = facts.piece(name)
    return duration(piece.record.seconds) if piece and piece.record else "not run"


def _media(facts: Facts) -> str:
    if facts.raw is None:
        return "not collected yet"
    kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(facts.raw["kinds"].items()))
    why = "".join(f"; {w['count']} {w['filter']}" for w in facts.raw["why"])
    return f"{facts.raw['files']} files ({kinds}){why}"


def _kept(facts: Facts) -> str:
    if facts.curation is None:
        return "not curated yet"
    total = facts.curation["total"]
    why = ", ".join(f"{w['count']} {w['filter']}" for w in facts.curation["why"])
    return f"{total['kept']} of {total['in']} candidates" + (f"; went: {why}" if why else "")


def _vae(facts: Facts) -> str:
    if facts.vae is None:
        return "not trained yet"
    parts = [f"PSNR {facts.vae['psnr']:.1f} dB on held-out media"] if facts.vae.get("psnr") else []
    for name, key in (("pictures", "psnr_images"), ("clips", "psnr_clips")):
        if facts.vae.get(key) is not None:
            parts.append(f"{name} {facts.vae[key]:.1f} dB")
    return ", ".join(parts)


def _latents(facts: Facts) -> str:
    piece = facts.piece("precompute")
    if piece is None or piece.record is None:
        return "not made yet"
    said = [f"{key.replace('_', ' ')} {value}" for key, value in piece.report.items() if isinstance(value, int)]
    return ", ".join(said[:4])


def _score(facts: Facts) -> str:
    if facts.evaluation is None:
        return "not evaluated yet"
    overall = facts.evaluation["overall"]
    low, high = overall["interval"]
    text = f"{overall['score']:.3f} (95 % interval {low:.3f} to {high:.3f}; chance {overall['chance']:.3f})"
    if motion := facts.evaluation["clips"].get("motion"):
        text += f"; direction of motion {motion['direction']['score']:.2f} (chance 0.25)"
    return text

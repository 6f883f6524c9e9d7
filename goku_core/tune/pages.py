"""What searches and comparisons found: plots as PNG, figures as JSON, one page that holds all of them and loads nothing."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from goku_core.pipeline.files import write_json
from goku_core.report.template import rendered

PAGE, FACTS = "index.html", "facts.json"
Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Found:
    """One study or ablation. `columns` and `rows` are its table; `pictures` file names in its own folder, in order."""

    name: str
    title: str
    text: str
    columns: list[str]
    rows: list[list[str]]
    pictures: list[str] = field(default_factory=list)


def write(found: Found, facts: Mapping[str, Any], reports: Path) -> Path:
    """Into `reports/<name>`, then the page of all that lies in `reports` anew. Returns the page."""
    write_json(reports / found.name / FACTS, {"found": asdict(found), "facts": dict(facts)})
    return build(reports)


def build(reports: Path) -> Path:
    import json

    entries = []
    for file in sorted(reports.glob(f"*/{FACTS}")):
        entry = json.loads(file.read_text(encoding="utf-8"))["found"]
        entry["pictures"] = [_uri(file.parent / name) for name in entry["pictures"] if (file.parent / name).is_file()]
        entries.append(entry)
    text = rendered(Path(__file__).parent, {"entries": entries, "title": reports.name}, {})
    page = reports / PAGE
    draft = page.with_suffix(".draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(page)
    return page


def _uri(file: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"


def draw_curves(curves: Mapping[str, Iterable[Curve]], path: Path, label: str = "validation loss") -> None:
    """One colour per name, one line per curve of it; a single point is a dot."""
    figure, axes, save = _figure()
    for number, (name, lines) in enumerate(curves.items()):
        for first, line in enumerate(lines):
            steps, losses = [point[0] for point in line], [point[1] for point in line]
            style = {"color": f"C{number % 10}", "marker": "." if len(line) < 2 else None, "linewidth": 1.2}
            axes.plot(steps, losses, label=name if first == 0 else None, **style)
    axes.set(xlabel="training steps", ylabel=label)
    if len(curves) <= 12:
        axes.legend(fontsize=8)
    save(figure, path)


def draw_history(values: Sequence[tuple[int, float]], path: Path) -> None:
    """(trial, loss) of finished trials, and the best so far."""
    figure, axes, save = _figure()
    numbers, losses = [one[0] for one in values], [one[1] for one in values]
    axes.plot(numbers, losses, "o", color="C0", label="trial")
    best = [min(losses[: place + 1]) for place in range(len(losses))]
    axes.step(numbers, best, where="post", color="C1", label="best so far")
    axes.set(xlabel="trial", ylabel="validation loss")
    axes.legend(fontsize=8)
    save(figure, path)


def draw_parameter(key: str, values: Sequence[tuple[Any, float]], log: bool, path: Path) -> None:
    """Loss over the value of one key."""
    figure, axes, save = _figure()
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value, _ in values)
    axes.plot([value if numeric else str(value) for value, _ in values], [loss for _, loss in values], "o", color="C0")
    axes.set(xlabel=key, ylabel="validation loss")
    if log and numeric:
        axes.set_xscale("log")
    save(figure, path)


def _figure():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.6), layout="constrained")

    def save(figure: Any, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110)
        pyplot.close(figure)

    return figure, axes, save

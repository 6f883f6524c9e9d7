"""What the form offers: models, kinds, sizes and settings, read off the models that are there. No Gradio in here."""

from __future__ import annotations

from collections.abc import Sequence

from goku_core.serve.limits import Limits
from goku_core.serve.orders import GROUP, ModelCard, Size, Task, TaskCard

KINDS: dict[Task, str] = {"t2i": "Picture", "t2v": "Clip", "i2v": "Clip from a first frame"}
LEAST_FRAMES = 1 + GROUP


def names(cards: Sequence[ModelCard]) -> list[tuple[str, str]]:
    """(what is shown, what an order says) of every model: the champion first, then by version."""
    ordered = sorted(cards, key=lambda card: ("champion" not in card.aliases, -card.version))
    return [(title(card), name(card)) for card in ordered]


def name(card: ModelCard) -> str:
    """What an order calls the model: its part where it has one, else its version."""
    return card.aliases[0] if card.aliases else str(card.version)


def title(card: ModelCard) -> str:
    part = ", ".join(card.aliases) or card.decision
    return f"{part} · version {card.version} · {card.digest[:12]}"


def named(cards: Sequence[ModelCard], wanted: str) -> ModelCard | None:
    """The model of that alias or version."""
    return next((card for card in cards if wanted in card.aliases or wanted == str(card.version)), None)


def kinds(card: ModelCard) -> list[tuple[str, Task]]:
    return [(shown, task) for task, shown in KINDS.items() if task in card.tasks]


def sizes(task: TaskCard) -> list[tuple[str, str]]:
    """Height x width; the one the model was trained on says so."""
    own = Size(height=task.height, width=task.width)
    every = [own, *(size for size in task.sizes if size != own)]
    return [(f"{written(size)}{' (trained on)' if size == own else ''}", written(size)) for size in every]


def written(size: Size) -> str:
    return f"{size.height}x{size.width}"


def parsed(size: str) -> tuple[int, int]:
    """``64x112`` -> (64, 112). Raises ValueError for what is not of that form."""
    height, width = size.split("x")
    return int(height), int(width)


def frames(task: TaskCard, limits: Limits) -> tuple[int, int]:
    """What a clip has by default, and at most."""
    most = max(LEAST_FRAMES, (limits.frames - 1) // GROUP * GROUP + 1)
    return min(max(task.frames, LEAST_FRAMES), most), most


def pace(fps: float | None) -> str:
    """What a number of frames means in time."""
    return f"a first one and groups of four; {fps:g} are a second" if fps else "a first one and groups of four"

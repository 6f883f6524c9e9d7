"""What is known of a finished file, in the order in which a person asks: model, decision, data, settings, command."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from goku_core.lineage import chain
from goku_core.lineage.chain import DATASET
from goku_core.pipeline.errors import GokuError
from goku_core.promote import bundle
from goku_core.serve.orders import Ticket

NO_RECORD = "not on record in this workspace"
DIGITS = 12  # of a dataset version's name, as `goku dataset` has it


@dataclass(frozen=True)
class Origin:
    """Where a model's weights come from. None where this workspace has no record of it.

    dataset  version of the dataset, as `goku dataset ls` names it
    commit   git commit of the training, "+ changes" where the tree was not clean
    """

    dataset: str | None = None
    commit: str | None = None


@dataclass(frozen=True)
class Origins:
    """facts: (name, value) for people. command: draws the same again. document: all of it as JSON, for programs."""

    facts: tuple[tuple[str, str], ...]
    command: str
    document: dict[str, Any]

    @property
    def download(self) -> str:
        """The document as a link's address."""
        text = json.dumps(self.document, indent=1, sort_keys=True, ensure_ascii=False)
        return "data:application/json;base64," + base64.b64encode(text.encode()).decode()


def origins(workspace: Path, told: Mapping[str, Any], ticket: Ticket, parts: str) -> Origins:
    """Of a finished order.

    told   what `Desk.provenance` says of it
    parts  what the model is called now: "champion", "challenger", ...; empty for none
    """
    made, entry, result = told["provenance"], told["ledger"], ticket.result
    origin = origin_of(workspace, ticket.digest, ticket.task)
    facts = [
        ("Model", f"version {ticket.version}{f', {parts}' if parts else ''}"),
        ("Bundle", ticket.digest),
    ]
    if entry is not None:
        facts += [
            ("Decision", f"{entry['decision']} {when(entry['time'])} by {entry['by']}: {entry['reason']}"),
            ("Ledger", f"entry {entry['number']}, evidence {entry['evidence'][:DIGITS]}"),
            ("Score", score(entry["score"], entry["interval"], entry["protocol"])),
        ]
    facts += [
        ("Dataset", f"version {origin.dataset}" if origin.dataset else NO_RECORD),
        ("Commit", origin.commit or NO_RECORD),
        ("Prompt", made["prompt"]),
        ("Seed", str(made["seed"])),
        ("Settings", settings(made)),
    ]
    if made["first_frame"]:
        facts.append(("First frame", f"SHA-256 {made['first_frame']}"))
    facts.append(("Drawn", f"{when(ticket.ended)} by goku {made['goku']}"))
    if result is not None:
        facts.append(("File", f"SHA-256 {result.sha256}"))
    document = {
        **told,
        "ticket": ticket.model_dump(mode="json"),
        "dataset": origin.dataset,
        "training_commit": origin.commit,
    }
    return Origins(tuple(facts), told["again"]["command"], document)


def settings(made: Mapping[str, Any]) -> str:
    """One line of what was asked for."""
    parts = [f"{made['height']}x{made['width']} px", f"{made['steps']} steps", f"guidance {made['guidance']:g}"]
    if made["upscale"] > 1:
        parts[0] += f" (enlarged {made['upscale']}x)"
    if made["fps"] is not None:
        parts.insert(1, f"{made['frames']} frames at {made['fps']:g}/s")
    if made["image_guidance"] is not None:
        parts.append(f"image guidance {made['image_guidance']:g}")
    if made["negative"]:
        parts.append(f"without: {made['negative']}")
    return ", ".join(parts)


def score(value: float, interval: tuple[float, float], protocol: str | None) -> str:
    said = f"{value:.3f} (95 % interval {interval[0]:.3f} to {interval[1]:.3f})"
    return f"{said}, {protocol}" if protocol else said


def when(time: str | None) -> str:
    """``2026-11-21 13:44 UTC`` of an ISO 8601 time in UTC."""
    return "at an unknown time" if time is None else f"{time[:16].replace('T', ' ')} UTC"


@lru_cache(maxsize=256)  # the bytes of a bundle have one origin, and finding it reads every record of the workspace
def origin_of(workspace: Path, digest: str, task: str) -> Origin:
    """Of the weights with which the bundle does the task, from the lineage records on disk alone."""
    folder = bundle.location(workspace, digest)
    try:
        served = json.loads((folder / bundle.SETTINGS).read_text(encoding="utf-8"))["tasks"][task]
        manifest = json.loads((folder / bundle.MANIFEST).read_text(encoding="utf-8"))
        weights = manifest["files"][f"{served}/{bundle.WEIGHTS}"]["sha256"]
        found = chain(workspace, weights)
    except (OSError, KeyError, ValueError, GokuError):
        return Origin()  # trained elsewhere, or its records are gone: the ledger's entry holds all the same
    training = found.asked[-1]
    tables = [node.outputs[DATASET] for node in found.made_from if DATASET in node.outputs]
    return Origin(
        dataset=tables[0][:DIGITS] if tables else None,
        commit=f"{training.git} + changes" if training.git and training.dirty else training.git,
    )

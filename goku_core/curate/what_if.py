"""What another threshold would do, from the published table alone: nothing is decoded, nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from goku_core.curate.decide import Row, decide, measured
from goku_core.curate.request import Request
from goku_core.curate.taxonomy.balance import balance
from goku_core.pipeline.errors import GokuError

# Short name -> key of `curate`; a star stands for every tier.
SHORT = {
    "aesthetic": "tiers.*.aesthetic_min",
    "ocr": "tiers.*.ocr_max",
    "motion_min": "tiers.*.motion_min",
    "motion_max": "tiers.*.motion_max",
    "side": "tiers.*.min_side",
    "quality": "quality_heuristic_min",
    "nsfw": "nsfw_max",
    "watermark": "watermark_max",
    "hamming": "dedup.max_hamming",
    "difference": "dedup.max_difference",
    "color": "dedup.max_color",
    "edges": "dedup.max_edges",
    "cosine": "dedup.semantic.min_cosine",
}
ANSWERED = ("tiers.", "dedup.", "quality_heuristic_min", "nsfw_max", "watermark_max", "balance.")
# What else there is, and why the table does not know.
UNANSWERED = {
    "gate.": "what the gate refused was never decoded, so nobody knows its clips",
    "shots.": "it moves the bounds of clips, and other clips have other scores",
    "prescreen.": "what was refused by its key frames was never decoded whole",
    "refine.": "it moves the bounds of clips, and other clips have other scores",
    "max_clip_seconds": "it moves the bounds of clips, and other clips have other scores",
    "min_clip_seconds": "shorter clips were never measured",
}
ELSE = "it is not among the demands that are made on the finished scores"
GATE_SCORES = {"gate.min_seconds": "seconds", "gate.min_side": "side", "gate.min_kbps": "kbps", "gate.min_fps": "fps"}


@dataclass(frozen=True)
class Answer:
    """What would be different.

    changes           full key -> (value of the request, value asked about)
    before, after     see `counts`
    comes_in          rows kept only after the change, as they would be
    goes_out          rows kept only before it, with the verdict against them
    other_tier        rows kept by both, in another tier
    unread            rows whose text was never read so closely, so that their new verdict may be too strict
    unlabelled        rows that pass only now, whose captions or labels a model would have to make first: balance, which
                      counts labels, may turn out otherwise
    """

    changes: dict[str, tuple[Any, Any]]
    before: dict[str, Any]
    after: dict[str, Any]
    comes_in: list[Row]
    goes_out: list[Row]
    other_tier: list[Row]
    unread: list[Row]
    unlabelled: list[Row]

    def as_json(self, examples: int) -> dict[str, Any]:
        def some(rows: Sequence[Row]) -> dict[str, Any]:
            names = ("clip_id", "uri", "tier", "filter", "score", "threshold", "message")
            return {
                "count": len(rows),
                "examples": [{name: row[name] for name in names} for row in spread(rows, examples)],
            }

        return {
            "changes": {key: {"from": old, "to": new} for key, (old, new) in self.changes.items()},
            "before": self.before,
            "after": self.after,
            "comes_in": some(self.comes_in),
            "goes_out": some(self.goes_out),
            "other_tier": some(self.other_tier),
            "unread": some(self.unread),
            "unlabelled": some(self.unlabelled),
        }


def ask(rows: Sequence[Row], made_with: Request, request: Request, changes: Mapping[str, Any]) -> Answer:
    """rows: the published table; made_with: the request it was made with; request: the one to be changed.

    Raises `GokuError` for keys that are not there and for those that the table cannot answer.
    """
    _refuse_unanswerable(rows, request, changes)
    new = changed(request, changes)
    passing = decide(rows, new)
    after = balance(passing, new)
    pairs = list(zip(rows, after, strict=True))
    # Boxes no larger than this were not read (`scores.text`): below it they count as text although they may be none.
    read, wanted = _strictest(made_with), _strictest(new)
    return Answer(
        changes={key: (_get(request, key), value) for key, value in changes.items()},
        before=counts(rows),
        after=counts(after),
        comes_in=[b for a, b in pairs if a["outcome"] != "kept" and b["outcome"] == "kept"],
        goes_out=[b for a, b in pairs if a["outcome"] == "kept" and b["outcome"] != "kept"],
        other_tier=[b for a, b in pairs if a["outcome"] == b["outcome"] == "kept" and a["tier"] != b["tier"]],
        unread=[b for b in after if measured(b) and wanted < (b["ocr_coverage"] or 0.0) <= read],
        unlabelled=_unlabelled(rows, passing, new),
    )


def _unlabelled(rows: Sequence[Row], passing: Sequence[Row], request: Request) -> list[Row]:
    """Models are asked about rows that pass, so those that did not pass before were never shown to them."""
    by_models = bool(request.captions.configured) or request.taxonomy.classifier == "clip"
    if (
        not by_models
        or sum(1 for row in passing if row["outcome"] == "kept" and row["label"]) < request.balance.least_labelled
    ):
        return []
    pairs = zip(rows, passing, strict=True)
    return [b for a, b in pairs if b["outcome"] == "kept" and a["outcome"] != "kept" and a["filter"] != "balance"]


def counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Kept, by kind and tier, and what the others were rejected by."""
    kept = [row for row in rows if row["outcome"] == "kept"]
    return {
        "rows": len(rows),
        "kept": len(kept),
        "kept_by_kind": _sorted(Counter(row["kind"] for row in kept)),
        "kept_by_tier": _sorted(Counter(row["tier"] for row in kept)),
        "kept_seconds": round(sum(row["seconds"] or 0.0 for row in kept), 3),
        "rejected_by": _sorted(Counter(row["filter"] for row in rows if row["outcome"] == "rejected")),
        "failed": sum(1 for row in rows if row["outcome"] == "failed"),
    }


def spread(rows: Sequence[Row], count: int) -> list[Row]:
    """``count`` of the rows, evenly spread: neighbours come from one source."""
    if len(rows) <= count:
        return list(rows)
    return [rows[index * len(rows) // count] for index in range(count)]


def parse(texts: Sequence[str], request: Request) -> dict[str, Any]:
    """ "aesthetic=4.5,ocr=0.01" -> full keys of `curate` with their values; a short key stands for all tiers."""
    found: dict[str, Any] = {}
    leaves = keys(request)
    for part in (part.strip() for text in texts for part in text.split(",") if part.strip()):
        name, equals, value = part.partition("=")
        if not equals or not value.strip():
            raise GokuError(f"--what-if {part}: write KEY=VALUE, for example ocr=0.01. {_allowed(leaves)}")
        name = name.strip().removeprefix("curate.")
        full = _expand(SHORT.get(name, name), leaves)
        if not full:
            raise GokuError(f"--what-if {name}: there is no such key. {_allowed(leaves)}")
        found |= dict.fromkeys(full, yaml.safe_load(value.strip()))
    if not found:
        raise GokuError(f"--what-if: nothing is asked. {_allowed(leaves)}")
    return found


def keys(request: Request) -> list[str]:
    """Full keys of all values of `curate`: gate.min_seconds, tiers.480p.ocr_max, ..."""
    return list(_leaves(request.model_dump(mode="json"), ""))


def changed(request: Request, changes: Mapping[str, Any]) -> Request:
    """The request with other values. Raises `GokuError` where they are impossible."""
    values = request.model_dump(mode="json")
    for key, value in changes.items():
        *path, last = key.split(".")
        place = values
        for name in path:
            place = place[name]
        place[last] = value
    try:
        return Request.model_validate(values)
    except ValidationError as error:
        where = [(".".join(map(str, one["loc"])) or "curate", one["msg"]) for one in error.errors()]
        raise GokuError("\n".join(f"--what-if {key}: {message}" for key, message in where)) from error


def _refuse_unanswerable(rows: Sequence[Row], request: Request, changes: Mapping[str, Any]) -> None:
    lines = []
    for key, value in changes.items():
        if key.startswith(ANSWERED):
            continue
        why = next((why for start, why in UNANSWERED.items() if key.startswith(start)), ELSE)
        lines.append(f"{key}: cannot be answered from the table: {why}.{_refused_sources(rows, key, value, request)}")
    if lines:
        lines.append(
            "Set it in params.yaml and run `goku run curate`; every older version is kept (`goku dataset ls`)."
        )
        raise GokuError("\n".join(lines))


def _refused_sources(rows: Sequence[Row], key: str, value: Any, request: Request) -> str:
    """How many files a loosened gate would let in, as far as this one demand goes."""
    if key not in GATE_SCORES or not isinstance(value, int | float) or value >= _get(request, key):
        return ""
    gone = [row for row in rows if row["outcome"] == "rejected" and row["filter"] == GATE_SCORES[key]]
    passing = sum(1 for row in gone if row["score"] >= value)
    return f" {passing} of the {len(gone)} files it refused would then be decoded."


def _strictest(request: Request) -> float:
    return min(tier.ocr_max for tier in request.tiers.values())


def _get(request: Request, key: str) -> Any:
    value: Any = request.model_dump(mode="json")
    for name in key.split("."):
        value = value[name]
    return value


def _leaves(value: Mapping[str, Any], before: str) -> Any:
    for name, inner in value.items():
        if isinstance(inner, dict):
            yield from _leaves(inner, f"{before}{name}.")
        else:
            yield f"{before}{name}"


def _expand(pattern: str, leaves: Sequence[str]) -> list[str]:
    start, star, end = pattern.partition("*")
    if not star:
        return [pattern] if pattern in leaves else []
    return [
        key for key in leaves if key.startswith(start) and key.endswith(end) and key.count(".") == pattern.count(".")
    ]


def _allowed(leaves: Sequence[str]) -> str:
    short = [name for name, pattern in SHORT.items() if _expand(pattern, leaves)]
    full = [key for key in leaves if key.startswith(ANSWERED)]
    return f"Short keys: {', '.join(short)} (for all tiers). Full keys: {', '.join(full)}."


def _sorted(counter: Counter[Any]) -> dict[str, int]:
    return dict(sorted(counter.items()))

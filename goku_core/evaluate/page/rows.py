"""The samples as data of a page: what was asked, where it lies, and what every judge said, short enough for 5000 of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from goku_core.evaluate.manifest import Sample
from goku_core.evaluate.page.folder import Evaluation, Medium
from goku_core.evaluate.records import Record

MOST_BOXES = 60
MOST_WORDS = 40
LONGEST = 300
MOST_OF_A_SET = 400
CHUNK = 400
"""Samples of one JSON element: a browser parses it in a few milliseconds."""
SHOWN_ELSEWHERE = {"detections", "centres", "frames"}


def sample_rows(evaluation: Evaluation, base: str = "") -> list[dict[str, Any]]:
    """One entry per planned sample, in the order of the plan. base: the evaluation's folder as seen from the page."""
    said: dict[str, list[Record]] = {}
    for record in evaluation.records:
        said.setdefault(record.sample_id, []).append(record)
    return [
        _row(sample, evaluation.media.get(sample.sample_id), said.get(sample.sample_id, ()), base)
        for sample in shown(evaluation.samples)
    ]


def shown(samples: Sequence[Sample]) -> list[Sample]:
    """All of them; of a set that is only measured as a whole (FID: 50,000 pictures) some, evenly spread."""
    whole = [sample for sample in samples if not sample.prompt.dimensions]
    step = max(1, -(-len(whole) // MOST_OF_A_SET))
    left_out = {sample.sample_id for place, sample in enumerate(whole) if place % step}
    return [sample for sample in samples if sample.sample_id not in left_out]


def _row(sample: Sample, medium: Medium | None, said: Sequence[Record], base: str) -> dict[str, Any]:
    often = Counter(record.dimension for record in said)
    row: dict[str, Any] = {
        "id": sample.sample_id,
        "benchmark": sample.benchmark,
        "task": sample.task or sample.benchmark,
        "prompt": sample.prompt.text,
        "seed": sample.seed,
        "said": [_said(record, often[record.dimension] > 1) for record in said],
    }
    if sample.asked != sample.prompt.text:
        row["asked"] = sample.asked
    if medium is not None:
        row["file"] = quote(base + medium.file)
        row |= {"moving": True} if medium.moving else {}
        row |= {"tile": list(medium.tile)} if medium.tile else {}
    judged = {entry["dimension"] for entry in row["said"]}
    if lacking := [name for name in sample.prompt.dimensions if name not in judged]:
        row["lacking"] = lacking
    return row


def _said(record: Record, one_of_several: bool) -> dict[str, Any]:
    seen = json.loads(record.evidence or "{}")
    entry: dict[str, Any] = {"dimension": record.dimension, "score": round(record.score, 6)}
    if one_of_several:
        entry["by"] = record.judge
    if record.verdict is not None:
        entry["right"] = record.verdict
    if record.reason:
        entry["reason"] = record.reason[:LONGEST]
    if boxes := boxes_of(seen):
        entry["boxes"] = boxes
    if path := [point for point in seen.get("centres", ()) if point is not None]:
        entry["path"] = path
    if words := words_of(seen):
        entry["words"] = words
    return entry


def boxes_of(seen: Mapping[str, Any]) -> list[dict[str, Any]]:
    """evidence.detections: label, score, colour, box (left, top, right, bottom in pixels of the sample).

    Where they are given by frame, those of the middle frame.
    """
    found = seen.get("detections") or []
    if found and isinstance(found[0], list):
        found = found[len(found) // 2]
    boxes = []
    for one in found[:MOST_BOXES]:
        if "box" not in one:
            continue
        words = [one.get("color"), one.get("label"), f"{one['score']:.2f}" if "score" in one else None]
        box = {"at": one["box"], "name": " ".join(str(word) for word in words if word)}
        boxes.append(box | ({"frame": one["frame"]} if "frame" in one else {}))
    return boxes


def words_of(seen: Mapping[str, Any]) -> list[str]:
    """Answers, captions and single numbers of the evidence as short lines; long lists of numbers are left out."""
    lines: list[str] = []
    for name, value in seen.items():
        if name in SHOWN_ELSEWHERE:
            continue
        if isinstance(value, Mapping):
            lines += [f"{key}: {_word(each)}" for key, each in value.items() if _short(each)]
        elif isinstance(value, list):
            if value and all(isinstance(each, Mapping) for each in value):
                lines += [", ".join(f"{_word(v)}" for v in each.values() if _short(v)) for each in value]
            elif value and all(isinstance(each, str) for each in value):
                lines += [f"{name}: {each}" for each in dict.fromkeys(value)]
            elif value and len(value) <= 4 and all(_short(each) for each in value):
                lines.append(f"{name}: {', '.join(_word(each) for each in value)}")
        elif _short(value):
            lines.append(f"{name}: {_word(value)}")
    return [line[:LONGEST] for line in lines[:MOST_WORDS]]


def chunks(rows: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """The rows as JSON for script elements. "<" is spelled out, so that no prompt can end the element or open another."""
    return [embedded(rows[start : start + CHUNK]) for start in range(0, len(rows), CHUNK)]


def embedded(value: Any) -> Markup:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    # U+2028 and U+2029 end a line for some parsers.
    text = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return Markup(text)


def _short(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)

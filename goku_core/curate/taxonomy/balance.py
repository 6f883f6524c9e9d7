"""Balance: within each primary class the sub-classes are evened out, by leaving clips out and by repeating others.

Paper section 4.4: from a long tail to uniform within a primary, human content on purpose stronger; target shares and
limits are not public. Our choices: each kind (clips, pictures) is balanced by itself, since training draws them by
shares of their own; an epoch keeps its size as far as the limits allow; what the paper makes by artificial data
generation is left out by name: nothing is invented here.

Decisions are stable: a clip has a place in the draw by the hash of its name alone, and the first so many of a class
are taken. One more clip moves the border of its class by one place.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from goku_core.curate.request import Request
from goku_core.curate.taxonomy.request import Balance
from goku_core.packing import uniform

FILTER = "balance"


def balance(rows: Sequence[dict[str, Any]], request: Request) -> list[dict[str, Any]]:
    """The rows with `repeats` set, and rejected by `balance` where that is 0. A pure function; rows stay as they are.

    Only kept rows with a label take part. Nothing happens below `least_labelled` of them.
    """
    settings = request.balance
    result = [row | {"repeats": 1} for row in rows]
    labelled = [row for row in result if row["outcome"] == "kept" and row["label"]]
    if len(labelled) < settings.least_labelled:
        return result
    groups: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for row in labelled:
        groups[row["kind"], row["primary"]][row["label"]].append(row)
    for (_, primary), classes in groups.items():
        wanted = targets({name: len(found) for name, found in classes.items()}, primary, settings)
        for name, found in classes.items():
            _draw(found, wanted[name])
    return result


def targets(counts: Mapping[str, int], primary: str, settings: Balance) -> dict[str, int]:
    """How many times clips of each sub-class shall be walked per epoch.

    Wanted is weight * count^(1 - strength), scaled so that the sum is that of `counts` times the primary's weight;
    held between least_kept and most_repeats times the count, what a limit takes away going to the others.
    """
    shape = {name: settings.weights.get(name, 1.0) * n ** (1 - settings.strength) for name, n in counts.items()}
    low = {name: settings.least_kept * n if shape[name] else 0.0 for name, n in counts.items()}
    high = {name: float(settings.most_repeats * n) if shape[name] else 0.0 for name, n in counts.items()}
    total = sum(counts.values()) * settings.weights.get(primary, 1.0)

    def at(scale: float) -> dict[str, float]:
        return {name: min(max(scale * shape[name], low[name]), high[name]) for name in counts}

    least, most = 0.0, max((high[name] / shape[name] for name in counts if shape[name]), default=0.0)
    for _ in range(100):  # the sum grows with the scale: halve the interval until floats end
        middle = (least + most) / 2
        if sum(at(middle).values()) < total:
            least = middle
        else:
            most = middle
    return {name: round(value) for name, value in at(most).items()}


def _draw(found: list[dict[str, Any]], wanted: int) -> None:
    """Deals `wanted` walks to the clips of one class, in the order of their hashes."""
    found.sort(key=lambda row: (uniform(0, FILTER, row["clip_id"], 0), row["clip_id"]))
    every, more = divmod(wanted, len(found))
    for place, row in enumerate(found):
        row["repeats"] = every + (place < more)
        if row["repeats"] == 0:
            row |= {
                "outcome": "rejected",
                "tier": None,
                "filter": FILTER,
                "score": place / len(found),
                "threshold": wanted / len(found),
                "message": f"{len(found)} of {row['label']}, {wanted} are wanted within {row['primary']}: "
                f"its place in the draw is {place + 1}",
            }


def summary(rows: Sequence[Mapping[str, Any]], request: Request) -> dict[str, Any]:
    """Counts for the chart: clips before, clips kept, and after, which is walks per epoch. Unlabelled ones apart."""
    chosen = [row for row in rows if row["outcome"] == "kept" or row["filter"] == FILTER]
    labelled = [row for row in chosen if row["label"]]
    before = Counter((row["kind"], row["primary"], row["label"]) for row in labelled)
    kept = Counter((row["kind"], row["primary"], row["label"]) for row in labelled if row["outcome"] == "kept")
    walked: Counter[tuple[str, str, str]] = Counter()
    for row in labelled:
        walked[row["kind"], row["primary"], row["label"]] += row["repeats"] if row["outcome"] == "kept" else 0
    balanced = len(labelled) >= request.balance.least_labelled
    return {
        "classifier": request.taxonomy.classifier,
        "labelled": len(labelled),
        "unlabelled": len(chosen) - len(labelled),
        "balanced": balanced,
        "why_not": None
        if balanced
        else f"{len(labelled)} labelled clips, balance begins at {request.balance.least_labelled}",
        "labels": [
            {"kind": k, "primary": p, "label": n, "before": count, "kept": kept[k, p, n], "after": walked[k, p, n]}
            for (k, p, n), count in sorted(before.items())
        ],
    }

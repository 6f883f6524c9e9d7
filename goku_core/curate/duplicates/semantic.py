"""Clips that mean the same, by their embeddings (SemDeDup): k-means, then cosine within a cluster. numpy, seeded.

Two clips of different clusters are not compared: that is what makes it affordable, and what it may miss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from goku_core.curate.duplicates.choice import Duplicate, ranked
from goku_core.curate.duplicates.request import Semantic
from goku_core.curate.gate import Verdict

PER_CLUSTER = 500  # clips of a cluster where the number of clusters is not given
ROWS = 4096  # compared at a time


def find(rows: Sequence[Mapping[str, Any]], bounds: Semantic) -> list[Duplicate]:
    """Kept rows that go, in order of position. Rows without an embedding are not compared: what has no score has no verdict."""
    if bounds.min_cosine >= 1:
        return []
    found = []
    for order in ranked(rows):
        chosen = [i for i in order if rows[i].get("clip_embedding") is not None]
        if len(chosen) < 2:
            continue
        embeddings = np.stack([np.asarray(rows[i]["clip_embedding"], np.float32) for i in chosen])
        for position, (better, cosine) in better_one(embeddings, bounds).items():
            text = (
                f"means the same as {rows[chosen[better]]['clip_id']}, which is at least as good (cosine {cosine:.3f})"
            )
            score = round(cosine, 6)
            found.append(Duplicate(chosen[position], Verdict("semantic_duplicate", score, bounds.min_cosine, text)))
    return sorted(found, key=lambda duplicate: duplicate.row)


def better_one(embeddings: np.ndarray, bounds: Semantic, seed: int = 0) -> dict[int, tuple[int, float]]:
    """Of clips ranked best first: position of each that goes -> (position of the better one, cosine).

    embeddings: float32 (n, d), any length but zero. As with near-duplicates, a clip is compared with those that stay.
    """
    if bounds.min_cosine >= 1 or len(embeddings) < 2:
        return {}
    units = _units(embeddings)
    clusters = bounds.clusters or max(1, len(units) // PER_CLUSTER)
    places = k_means(units, min(clusters, len(units)), bounds.iterations, seed)
    found: dict[int, tuple[int, float]] = {}
    for cluster in np.unique(places):
        found |= _within(units, np.flatnonzero(places == cluster), bounds.min_cosine)
    return found


def k_means(units: np.ndarray, clusters: int, iterations: int, seed: int) -> np.ndarray:
    """Cluster of each row, int (n,). Spherical: nearest by cosine. Starts from rows drawn by ``seed``."""
    rng = np.random.default_rng(seed)
    centres = units[np.sort(rng.choice(len(units), clusters, replace=False))]
    places = np.full(len(units), -1)
    for _ in range(iterations):
        nearest = np.concatenate([(units[k : k + ROWS] @ centres.T).argmax(1) for k in range(0, len(units), ROWS)])
        if np.array_equal(nearest, places):
            break
        places = nearest
        sums = np.zeros_like(centres)
        np.add.at(sums, places, units)
        filled = np.linalg.norm(sums, axis=1) > 0
        centres = np.where(filled[:, None], sums, centres)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    return places


def _within(units: np.ndarray, members: Sequence[int], least: float) -> dict[int, tuple[int, float]]:
    """``members``: positions in order of rank."""
    staying: list[int] = []
    found: dict[int, tuple[int, float]] = {}
    for position in map(int, members):
        if staying:
            cosines = units[staying] @ units[position]
            near = np.flatnonzero(cosines >= least)
            if near.size:
                found[position] = (staying[int(near[0])], float(cosines[near[0]]))
                continue
        staying.append(position)
    return found


def _units(embeddings: np.ndarray) -> np.ndarray:
    rows = np.asarray(embeddings, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

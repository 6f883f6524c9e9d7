"""FID and its family of a folder of pictures, FVD of a folder of clips, against a reference."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from goku_core.evaluate.frechet.extract import extract, network_fingerprint
from goku_core.evaluate.frechet.flavours import Flavour, Measurement, Setting, flavour_named
from goku_core.evaluate.frechet.inception_score import class_probabilities, inception_score
from goku_core.evaluate.frechet.kernel import SUBSET_SIZE, kernel_distance
from goku_core.evaluate.frechet.manifold import NEIGHBOURS, precision_recall
from goku_core.evaluate.frechet.members import Member, members
from goku_core.evaluate.frechet.moments import Moments, frechet_distance, moments
from goku_core.evaluate.frechet.reference import holds_pictures, published
from goku_core.evaluate.frechet.store import Features, FeatureStore
from goku_core.evaluate.tables import Mode
from goku_core.pipeline.errors import GokuError
from goku_core.scorers.devices import resolved

NETWORK = {"fid": "inception", "fvd": "i3d", "video-is": "c3d"}


@dataclass(frozen=True)
class Report:
    """What was measured, and in words what limits it. media: SHA-256 over the ids and files of the set."""

    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...]
    media: str

    def as_json(self) -> dict[str, Any]:
        return {
            "measurements": [m.as_json() for m in self.measurements],
            "notes": list(self.notes),
            "media": self.media,
        }


@dataclass(frozen=True)
class Reference:
    """What is measured against. features: None where statistics are all there is."""

    statistics: Mapping[str, Moments]
    features: Features | None
    pictures: int


def run(
    folder: Path,
    reference: Path | None,
    flavour: str = "adm",
    *,
    kind: Literal["fid", "fvd", "video-is"] = "fid",
    weights: Path = Path("weights"),
    device: str = "auto",
    batch: int = 0,
    workers: int = 1,
    mode: Mode = "corrected",
    features: Path | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Report:
    """Every measure of the flavour for the set at `folder`.

    folder     pictures or clips, the folder of an evaluation, or an .npz with `arr_0`
    reference  another such set, or an .npz of published statistics; None: what needs no reference (the Inception Score)
    features   where features are kept [default: see `features_of`]; a second run computes nothing again
    mode       of precision and recall; the other measures know one arithmetic

    Raises GokuError where weights, files or samples are missing.
    """
    chosen = flavour_named(flavour, NETWORK[kind])
    network = network_fingerprint(chosen, weights)
    clips, machine = chosen.frames > 0, resolved(device)

    def drawn(place: Path, there: Sequence[Member], real: bool) -> tuple[Features, tuple[str, ...]]:
        return extract(
            there,
            chosen,
            weights,
            FeatureStore((features or features_of(place)) / ("drawn" if real and clips else "first"), network),
            device=machine,
            batch=batch,
            workers=workers,
            drawn_start=real and clips,
            on_progress=on_progress,
        )

    own = members(folder, clips)
    found, _ = drawn(folder, own, real=False)
    notes = []
    against = None
    if reference is not None:
        against, short = _reference(reference, chosen, lambda place: drawn(place, members(place, clips), real=True))
        if short:
            notes.append(f"{len(short)} clips of the reference are too short and left out, as the flavour has it")
    lines = "".join(f"{member.sample_id} {member.media}\n" for member in own)
    results, said = _measured(found, against, chosen, network, weights, mode, notes)
    return Report(results, said, hashlib.sha256(lines.encode()).hexdigest())


def features_of(place: Path) -> Path:
    """`features` inside the folder of an evaluation; beside any other set, so that nothing is written into it."""
    if (place / "manifest.parquet").is_file():
        return place / "features"
    return place.with_name(f"{place.name}.features")


def _reference(
    place: Path, flavour: Flavour, drawn: Callable[[Path], tuple[Features, tuple[str, ...]]]
) -> tuple[Reference, tuple[str, ...]]:
    stored = published(place) if place.is_file() else {}
    wanted = set(flavour.distances.values())
    needs_rows = flavour.manifold or flavour.kernel or not wanted <= set(stored)
    if not needs_rows or not holds_pictures(place):
        if missing := sorted(wanted - set(stored)):
            raise GokuError(f"{place} holds no statistics of {', '.join(missing)}, and no pictures to take them from")
        return Reference(stored, None, 0), ()
    rows, short = drawn(place)
    statistics = {name: stored[name] if name in stored else moments(rows.vectors[name]) for name in wanted}
    return Reference(statistics, rows, len(rows.ids)), short


def _measured(
    found: Features,
    against: Reference | None,
    flavour: Flavour,
    network: str,
    weights: Path,
    mode: Mode,
    notes: Sequence[str],
) -> tuple[tuple[Measurement, ...], tuple[str, ...]]:
    count = len(found.ids)
    said, results = list(notes), []
    if count != flavour.expected:
        said.append(
            f"{count} samples; published values of this flavour rest on {flavour.expected}, and fewer give a higher one"
        )

    def add(metric: str, value: float, reference: str = "", rows: int = 0, deviation: float | None = None) -> None:
        manifold = metric in ("precision", "recall")
        setting = Setting(
            flavour.name,
            network,
            mode if manifold else "corrected",
            flavour.resize,
            flavour.antialias,
            flavour.crop,
            flavour.frames,
            flavour.stride,
            flavour.fps,
            count,
            reference,
            rows,
        )
        results.append(Measurement(metric, value, setting, deviation))

    if against is not None:
        for metric, feature in flavour.distances.items():
            real = against.statistics[feature]
            if count <= len(real.mean):
                said.append(
                    f"{metric}: {count} samples are fewer than the {len(real.mean)} numbers of a feature; the value is high"
                )
            add(metric, frechet_distance(moments(found.vectors[feature]), real), real.digest, real.count)
        _against_rows(found, against, flavour, mode, add, said)
    if flavour.splitting is not None:
        score = inception_score(_odds(found, weights), flavour.splitting)
        add("is", score.mean, deviation=score.deviation if score.splits > 1 else None)
    return tuple(results), tuple(said)


def _odds(found: Features, weights: Path) -> np.ndarray:
    """Class probabilities (n, classes): those of C3D, or Inception's without the bias."""
    if "probabilities" in found.vectors:
        return found.vectors["probabilities"]
    from goku_core.evaluate.networks.inception import classifier

    return class_probabilities(found.vectors["pool"], classifier(weights).numpy())


def _against_rows(
    found: Features,
    against: Reference,
    flavour: Flavour,
    mode: Mode,
    add: Callable[..., None],
    said: list[str],
) -> None:
    """What needs the reference's samples one by one; left out by name where there are none or too few."""
    if against.features is None:
        left = [
            name for name, wanted in (("precision and recall", flavour.manifold), ("KID", flavour.kernel)) if wanted
        ]
        said += [f"{name}: not measured, the reference holds statistics and no pictures" for name in left]
        return
    real, made = against.features.vectors, found.vectors
    fewest = min(len(found.ids), against.pictures)
    if flavour.manifold and fewest > NEIGHBOURS:
        overlap = precision_recall(real["pool"], made["pool"], mode)
        name = digest(real["pool"])
        add("precision", overlap.precision, name, against.pictures)
        add("recall", overlap.recall, name, against.pictures)
    elif flavour.manifold:
        said.append(f"precision and recall: not measured, more than {NEIGHBOURS} samples are needed on both sides")
    if flavour.kernel and fewest >= SUBSET_SIZE:
        distance = kernel_distance(real["pool"], made["pool"])
        add("kid", distance.mean, digest(real["pool"]), against.pictures, distance.deviation)
    elif flavour.kernel:
        said.append(f"KID: not measured, its subsets need {SUBSET_SIZE} samples on both sides")


def digest(rows: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()

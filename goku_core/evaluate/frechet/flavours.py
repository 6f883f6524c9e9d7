"""Which FID, which FVD: every setting that moves the number, under the name by which papers cite it.

A distance without its flavour is no number: other weights, another resize or another count of frames move it by more
than models differ. So every result carries its setting, and results of different settings are not compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from goku_core.evaluate.frechet.inception_score import Splitting
from goku_core.evaluate.tables import Mode
from goku_core.pipeline.errors import GokuError


@dataclass(frozen=True)
class Flavour:
    """A way to measure.

    network    whose features: "inception", "i3d", "c3d"
    distances  metric -> name of the feature it is taken on
    splitting  of the Inception Score; None where the flavour has none
    manifold   precision and recall are part of it
    kernel     KID is part of it
    resize     how a picture comes to the network's size; antialias: whether a low-pass goes before it
    crop       what of the picture is seen
    frames     of a clip, taken from its start; 0 for pictures
    stride     every how many-th frame; 0 for pictures
    fps        to which a clip is resampled first; 0: it is taken as it is
    expected   samples of the published protocol: another number is said, not refused
    """

    name: str
    network: Literal["inception", "i3d", "c3d"]
    distances: Mapping[str, str]
    splitting: Splitting | None
    manifold: bool
    kernel: bool
    resize: str
    antialias: bool
    crop: str
    frames: int
    stride: int
    fps: float
    expected: int
    source: str


_PICTURE = {"frames": 0, "stride": 0, "fps": 0.0, "crop": "none"}
_TF = "bilinear as TensorFlow 1 (corners not aligned, no half-pixel shift) to 299 x 299"
FLAVOURS: dict[str, Flavour] = {
    flavour.name: flavour
    for flavour in (
        Flavour(
            "adm",
            "inception",
            {"fid": "pool", "sfid": "spatial"},
            "adm",
            manifold=True,
            kernel=False,
            resize=_TF,
            antialias=False,
            expected=50_000,
            source="openai/guided-diffusion evaluations/evaluator.py at 22e0df8",
            **_PICTURE,
        ),
        Flavour(
            "torch-fidelity",
            "inception",
            {"fid": "pool"},
            "torch-fidelity",
            manifold=False,
            kernel=True,
            resize=_TF,
            antialias=False,
            expected=50_000,
            source="toshas/torch-fidelity 0.4.0 at 5e211a9",
            **_PICTURE,
        ),
        Flavour(
            "stylegan-v",
            "i3d",
            {"fvd": "logits"},
            None,
            manifold=False,
            kernel=False,
            resize="bilinear to 224 x 224",
            antialias=False,
            crop="none",
            frames=16,
            stride=1,
            fps=0.0,
            expected=2048,
            source="universome/stylegan-v at 3fecd69, fvd2048_16f; clips of the reference that are shorter are dropped",
        ),
        Flavour(
            "svd",
            "i3d",
            {"fvd": "logits"},
            None,
            manifold=False,
            kernel=False,
            resize="bilinear until 240 x 320 is covered, centre cut; then bilinear to 224 x 224 without antialias",
            antialias=True,
            crop="centre 240 x 320",
            frames=16,
            stride=1,
            fps=25.0,
            expected=13_320,
            source="zero-shot UCF-101 (one clip per clip of the set, class name as prompt) as the appendix of Stable Video "
            "Diffusion has it; neither it nor Goku's paper gives every detail, the rest is our reading",
        ),
        Flavour(
            "tgan2",
            "c3d",
            {},
            "stylegan-v",
            manifold=False,
            kernel=False,
            resize="bilinear with aligned corners to 112 x 112",
            antialias=False,
            crop="none",
            frames=16,
            stride=1,
            fps=0.0,
            expected=2048,
            source="weights and way to 112 x 112 of pfnet-research/tgan2 at d83018c; splits of universome/stylegan-v at 3fecd69",
        ),
    )
}


def flavour_named(name: str, network: str) -> Flavour:
    """Raises GokuError where there is none of that name for that network's family."""
    known = [flavour.name for flavour in FLAVOURS.values() if flavour.network == network]
    if name not in known:
        raise GokuError(f"there is no flavour {name!r} of this distance. Known: {', '.join(known)}")
    return FLAVOURS[name]


@dataclass(frozen=True)
class Setting:
    """Everything a number depends on beside the samples.

    network    fingerprint: architecture, digest of the weights, preprocessing
    samples    how many were measured; reference_samples: 0 where the file of statistics does not say
    reference  SHA-256 of the statistics it was measured against; "" for a number without a reference (IS)
    """

    flavour: str
    network: str
    mode: Mode
    resize: str
    antialias: bool
    crop: str
    frames: int
    stride: int
    fps: float
    samples: int
    reference: str
    reference_samples: int


@dataclass(frozen=True)
class Measurement:
    """One number. metric: "fid", "sfid", "is", "precision", "recall", "kid", "fvd"; deviation: over splits or subsets."""

    metric: str
    value: float
    setting: Setting
    deviation: float | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Measurement:
        return cls(said["metric"], said["value"], Setting(**said["setting"]), said.get("deviation"))


def difference(first: Measurement, second: Measurement) -> float:
    """first - second. Raises GokuError where they are not numbers of one kind, naming every setting that differs."""
    if first.metric != second.metric:
        raise GokuError(f"{first.metric} and {second.metric} are different measures")
    apart = [
        f"{field.name}: {getattr(first.setting, field.name)!r} and {getattr(second.setting, field.name)!r}"
        for field in fields(Setting)
        if getattr(first.setting, field.name) != getattr(second.setting, field.name)
    ]
    if apart:
        raise GokuError(
            f"two values of {first.metric} cannot be compared, they were measured differently ({'; '.join(apart)}). "
            "Measure both with the same command."
        )
    return first.value - second.value

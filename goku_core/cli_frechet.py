"""`goku evaluate fid`, `fvd` and `video-is`: what is measured on a set of samples as a whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

Set = Annotated[Path, typer.Argument(help="Folder of samples, folder of an evaluation, or an .npz with arr_0")]
Weights = Annotated[Path, typer.Option(help="Folder of weights; see docs/weights.md")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where networks run")]
Batch = Annotated[int, typer.Option(min=0, help="Samples in one pass; 0: 32 pictures, 4 clips")]
Workers = Annotated[int, typer.Option(min=1, help="Processes that read and pass samples; the result is the same")]
Kept = Annotated[Path | None, typer.Option("--features", help="Where features are kept [default: beside the set]")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output")]


def register(app: typer.Typer) -> None:
    """Adds the commands to `goku evaluate`."""
    app.command("fid")(fid)
    app.command("fvd")(fvd)
    app.command("video-is")(video_is)


def fid(
    place: Set,
    reference: Annotated[
        Path | None,
        typer.Option(help="ADM's reference .npz, or a folder of real pictures [default: Inception Score alone]"),
    ] = None,
    flavour: Annotated[
        str, typer.Option(help="adm (FID, sFID, IS, precision, recall) or torch-fidelity (FID, KID, IS)")
    ] = "adm",
    mode: Annotated[
        Literal["official", "corrected"], typer.Option(help="Of precision and recall; official: in half precision")
    ] = "corrected",
    weights: Weights = Path("weights"),
    device: Device = "auto",
    batch: Batch = 0,
    workers: Workers = 1,
    features: Kept = None,
    as_json: Json = False,
) -> None:
    """Measure FID and its family of a set of pictures.

    Example: goku evaluate fid samples/ --reference VIRTUAL_imagenet256_labeled.npz
    """
    _measure("fid", place, reference, flavour, mode, weights, device, batch, workers, features, as_json)


def fvd(
    place: Set,
    reference: Annotated[Path, typer.Option(help="Folder of real clips")],
    flavour: Annotated[str, typer.Option(help="stylegan-v (fvd2048_16f) or svd (zero-shot UCF-101)")] = "stylegan-v",
    weights: Weights = Path("weights"),
    device: Device = "auto",
    batch: Batch = 0,
    workers: Workers = 1,
    features: Kept = None,
    as_json: Json = False,
) -> None:
    """Measure the Frechet Video Distance of a set of clips.

    Example: goku evaluate fvd clips/ --reference UCF-101/ --flavour stylegan-v
    """
    _measure("fvd", place, reference, flavour, "corrected", weights, device, batch, workers, features, as_json)


def video_is(
    place: Set,
    weights: Weights = Path("weights"),
    device: Device = "auto",
    batch: Batch = 0,
    workers: Workers = 1,
    features: Kept = None,
    as_json: Json = False,
) -> None:
    """Measure the Inception Score of clips by C3D on UCF-101: first 16 frames, 10 splits shuffled with seed 42.

    Example: goku evaluate video-is clips/
    """
    _measure("video-is", place, None, "tgan2", "corrected", weights, device, batch, workers, features, as_json)


def _measure(
    kind: Literal["fid", "fvd", "video-is"],
    place: Path,
    reference: Path | None,
    flavour: str,
    mode: Literal["official", "corrected"],
    weights: Path,
    device: Literal["auto", "cpu", "cuda"],
    batch: int,
    workers: int,
    features: Path | None,
    as_json: bool,
) -> None:
    from goku_core.evaluate.frechet.measure import run
    from goku_core.evaluate.frechet.recorded import keep

    report = run(
        place,
        reference,
        flavour,
        kind=kind,
        weights=weights,
        device=device,
        batch=batch,
        workers=workers,
        mode=mode,
        features=features,
    )
    if as_json:
        typer.echo(json.dumps(report.as_json()))
        keep(place, report)
        return
    for one in report.measurements:
        spread = "" if one.deviation is None else f" +- {one.deviation:.4f}"
        typer.echo(f"{one.metric:<12}{one.value:.4f}{spread}")
    if report.measurements:
        setting = report.measurements[0].setting
        clips = f", {setting.frames} frames at stride {setting.stride}" if setting.frames else ""
        typer.echo(f"flavour {setting.flavour}, {setting.samples} samples{clips}, network {setting.network}", err=True)
    for note in report.notes:
        typer.echo(note, err=True)
    if kept := keep(place, report):
        typer.echo(f"{len(kept)} numbers are now records of {place}", err=True)

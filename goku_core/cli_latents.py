"""`goku latents ls`, `goku latents verify`: what is stored, whether it is whole, and what it decodes to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from goku_core.precompute.comparison import Compared
    from goku_core.shards.verification import Damage

latents = typer.Typer(help="Latents and text features in data/latents.", no_args_is_help=True)

FOLDER = Path("data/latents")
DAMAGES_SHOWN = 20
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output")]


@latents.command("ls")
def ls(as_json: Json = False) -> None:
    """List the resolutions: samples, tokens, shards, bytes, sizes and the encoders they were made with.

    Example: goku latents ls
    """
    found = [_summary(name) for name in _resolutions(None)]
    if as_json:
        typer.echo(json.dumps(found))
        return
    for one in found:
        typer.echo(
            f"{one['resolution']:<12}{one['pictures']} pictures, {one['clips']} clips, {one['tokens']} tokens; "
            f"{one['shards']} shards, {one['bytes'] / 1e6:.1f} MB; {_sizes(one['sizes'])}"
        )
    encoders = found[0]["encoders"]
    typer.echo(f"encoders    vae {encoders.get('vae', '?')[:12]}, text {encoders.get('text', '?')}")


@latents.command("verify")
def verify(
    resolution: Annotated[str | None, typer.Option(help="One of `goku latents ls` [default: all]")] = None,
    samples: Annotated[int, typer.Option(min=0, help="Latents of each resolution that are decoded and compared")] = 4,
    out: Annotated[Path | None, typer.Option(help="Show sources beside decoded latents: FILE.html or FILE.png")] = None,
    as_json: Json = False,
) -> None:
    """Read every byte of the shards against the index, and decode a sample of them beside the source.

    The sample is the same at every call. Exit code 1 where something is damaged; shard and sample are named.

    Example: goku latents verify --samples 8 --out latents.html
    """
    from goku_core.precompute.comparison import compare
    from goku_core.precompute.sheet import write_sheet
    from goku_core.shards.verification import verify_shards

    damages: list[Damage] = []
    compared: list[Compared] = []
    names = _resolutions(resolution)
    for name in names:
        found = verify_shards(FOLDER / name)
        damages += found
        if samples:
            compared += compare(Path.cwd(), name, samples, {one.sample_id for one in found if one.sample_id})
    if out is not None:
        write_sheet(out, compared, damages)
    if as_json:
        told = {
            "resolutions": names,
            "damaged": [d.as_json() for d in damages],
            "samples": [c.as_json() for c in compared],
        }
        typer.echo(json.dumps(told))
    else:
        _print(names, damages, compared, out)
    if damages:
        raise typer.Exit(1)


def _print(names: list[str], damages: list[Damage], compared: list[Compared], out: Path | None) -> None:
    for one in compared:
        frames, height, width, _ = one.source.shape
        typer.echo(f"{one.resolution:<12}{one.psnr:6.2f} dB  {frames}x{height}x{width}  {one.sample_id}")
    if out is not None:
        typer.echo(f"written: {out}", err=True)
    for damage in damages[:DAMAGES_SHOWN]:
        sample = f", sample {damage.sample_id}" if damage.sample_id else ""
        typer.echo(f"{damage.resolution}/{damage.shard}{sample}: {damage.message}", err=True)
    if len(damages) > DAMAGES_SHOWN:
        typer.echo(f"and {len(damages) - DAMAGES_SHOWN} more; all of them: goku latents verify --json", err=True)
    if damages:
        typer.echo("Run `goku run precompute`: damaged outputs are restored from the store or made again.", err=True)
    else:
        typer.echo(f"{', '.join(names)}: every shard is what its index says")


def _resolutions(wanted: str | None) -> list[str]:
    found = sorted(index.parent.name for index in FOLDER.glob("*/index.parquet"))
    if not found:
        raise GokuError(f"{FOLDER} holds no index. Run `goku run precompute` first, in the folder of params.yaml.")
    if wanted is None:
        return found
    if wanted not in found:
        raise GokuError(f"{FOLDER} has no resolution {wanted!r}. It has: {', '.join(found)}.")
    return [wanted]


def _summary(name: str) -> dict[str, Any]:
    from goku_core.shards import ShardReader
    from goku_core.shards.encoders import ENCODERS
    from goku_core.shards.verification import unnamed_shards

    reader = ShardReader(FOLDER / name)
    index = reader.index
    shards = sorted(set(index["shard"]))
    sizes = sorted({(int(h), int(w)) for h, w in zip(index["height"], index["width"], strict=True)})
    return {
        "resolution": name,
        "pictures": int((index["kind"] == "image").sum()),
        "clips": int((index["kind"] == "video").sum()),
        "tokens": int(index["tokens"].sum()),
        "shards": len(shards),
        "unnamed_shards": len(unnamed_shards(FOLDER / name)),
        "bytes": sum(path.stat().st_size for shard in shards if (path := FOLDER / name / shard).is_file()),
        "sizes": sizes,
        "encoders": {kind: reader.metadata.get(kind) for kind in ENCODERS},
    }


def _sizes(sizes: list[tuple[int, int]]) -> str:
    shown = ", ".join(f"{height}x{width}" for height, width in sizes[:3])
    return f"sizes {shown}" + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else "")

"""`goku doctor`: what is installed, what is missing for which feature, and whether ports, disk and memory suffice."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from goku_core.pipeline.context import available_cores

GIB = 2**30
DISK_GIB, MEMORY_GIB = 5.0, 4.0  # what the demo takes, with room: measured on the embedded default
PACKAGES = {
    "prefect": "goku run (flows)",
    "mlflow": "metrics, registry",
    "dvc": "dvc repro",
    "transformers": "T5 text encoder",
    "great_expectations": "validation of curation",
    "scenedetect": "shot detection",
    "boto3": "S3",
}
CODECS = {
    "h264": "usual videos; what the sample corpus and clips are written in",
    "hevc": "videos of newer cameras and phones",
    "vp9": "WebM",
    "av1": "newer WebM and MP4",
}
PORTS = {4200: ("Prefect's server", "PREFECT_API_URL"), 5000: ("MLflow's server", "MLFLOW_TRACKING_URI")}


@dataclass(frozen=True)
class Finding:
    """state: ``ok``; ``missing`` (one feature is not available, the line runs); ``bad`` (the line cannot run)."""

    what: str
    state: Literal["ok", "missing", "bad"]
    found: str
    needed_for: str
    remedy: str = ""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON on standard output")] = False) -> None:
    """Say what is installed, what is missing for which feature, and what to do. Exit code 1 when the line cannot run.

    Example: goku doctor
    """
    findings = list(examine(Path.cwd()))
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings]))
    else:
        for f in findings:
            mark = {"ok": "ok", "missing": "-", "bad": "BAD"}[f.state]
            typer.echo(f"{mark:<4} {f.what:<20} {f.found:<34} for {f.needed_for}")
            if f.remedy:
                typer.echo(f"{'':<26}-> {f.remedy}")
    if any(finding.state == "bad" for finding in findings):
        raise typer.Exit(1)


def examine(workspace: Path) -> Iterator[Finding]:
    yield _python()
    yield from _packages()
    yield from _torch()
    yield from _codecs()
    yield _ocr()
    yield _signing()
    yield from _weights()
    yield from _machine(workspace)
    yield from _ports()


def _python() -> Finding:
    version = platform.python_version()
    fits = (3, 11) <= sys.version_info[:2] < (3, 13)
    return Finding(
        "Python", "ok" if fits else "bad", version, "everything", "" if fits else "Install Python 3.11 or 3.12"
    )


def _packages() -> Iterator[Finding]:
    remedy = "pip install -c constraints.txt -e ."
    names = importlib.metadata.packages_distributions()
    for name, use in PACKAGES.items():
        if importlib.util.find_spec(name) is None:
            yield Finding(name, "bad", "not installed", use, remedy)
        else:
            yield Finding(name, "ok", importlib.metadata.version(names[name][0]), use)
    twice = {d for d in names.get("cv2", []) if d.startswith("opencv")}
    if len(twice) > 1:
        remedy = "pip uninstall opencv-python, then reinstall opencv-python-headless: both write one folder"
        yield Finding("OpenCV", "bad", ", ".join(sorted(twice)), "decoding, curation", remedy)
    for package, use, extra in OPTIONAL:
        yield _optional(package, use, extra)


# Packages of the extras: package, what for, name of the extra.
OPTIONAL = (
    ("ray", "the big maps on several machines", "cluster"),
    ("peft", "LoRA", "lora"),
    ("diffusers", "the VAEs of CogVideoX and Wan (vae.kind), peers of goku bench", "pretrained"),
)


def _optional(package: str, use: str, extra: str) -> Finding:
    if importlib.util.find_spec(package.replace("-", "_")) is None:
        return Finding(package, "missing", "not installed", use, f'pip install -c constraints.txt -e ".[{extra}]"')
    return Finding(package, "ok", importlib.metadata.version(package), use)


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("torch", "bad", str(error), "training", "pip install -c constraints.txt -e .")
        return
    yield Finding("torch", "ok", torch.__version__, "training")
    if torch.cuda.is_available():
        cards = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        found = ", ".join(f"{card.name} {card.total_memory / GIB:.0f} GiB" for card in cards)
        yield Finding("GPU", "ok", found, "models beyond nano")
    else:
        built = "CPU build of torch" if torch.version.cuda is None else "no device visible"
        yield Finding("GPU", "missing", built, "models beyond nano", "A CUDA build of torch on a machine with a GPU")
    yield _optional("flash-attn", "attention on a GPU; without it torch's own kernels serve", "gpu")


def _codecs() -> Iterator[Finding]:
    try:
        import av
    except (ImportError, OSError) as error:
        yield Finding("PyAV", "bad", str(error), "reading and writing videos", "pip install -c constraints.txt -e .")
        return
    for name, use in CODECS.items():
        can = [mode for mode, letter in (("decode", "r"), ("encode", "w")) if _has_codec(av, name, letter)]
        need = {"decode", "encode"} if name == "h264" else {"decode"}
        state = "ok" if need <= set(can) else "bad" if name == "h264" else "missing"
        remedy = "" if state == "ok" else "Install a PyAV wheel from PyPI (it carries its own ffmpeg)"
        yield Finding(f"codec {name}", state, ", ".join(can) or "neither decode nor encode", use, remedy)


def _has_codec(av: object, name: str, mode: str) -> bool:
    try:
        av.codec.Codec(name, mode)  # type: ignore[attr-defined]
    except (ValueError, LookupError):
        return False
    return True


def _ocr() -> Finding:
    found = importlib.util.find_spec("rapidocr")
    if found is None or found.origin is None:
        return Finding("RapidOCR", "bad", "not installed", "text filter", "pip install -c constraints.txt -e .")
    models = list((Path(found.origin).parent / "models").glob("*.onnx"))
    if not models:
        return Finding(
            "RapidOCR", "bad", "no models", "text filter", "Reinstall rapidocr: its wheel carries its models"
        )
    size = sum(model.stat().st_size for model in models) / 1e6
    return Finding("RapidOCR", "ok", f"{len(models)} models, {size:.0f} MB", "text filter of curation")


def _signing() -> Finding:
    """Does the configured key serve, as `goku generate` would find out? No key is no fault."""
    from goku_core.media.credentials import INSTALL, KEY, Signer
    from goku_core.pipeline.errors import GokuError

    what, use = "content credentials", "signing what is generated (C2PA)"
    try:
        signer = Signer.from_environment()
    except GokuError as error:
        return Finding(what, "bad", "the key does not serve", use, str(error))
    if signer is not None:
        return Finding(what, "ok", "a key is configured", use)
    if importlib.util.find_spec("c2pa") is None:
        return Finding(what, "missing", "c2pa-python is not installed", use, INSTALL)
    return Finding(what, "missing", "no key is configured", use, f"Set {KEY} and what docs/generate.md names with it")


def _weights() -> Iterator[Finding]:
    """Pretrained weights in the Hugging Face cache. None is needed for the embedded default."""
    home = Path(os.environ.get("HF_HUB_CACHE") or Path(os.environ.get("HF_HOME", "~/.cache/huggingface")) / "hub")
    for repository, use in {"google/flan-t5-xl": "text encoder of the paper (precompute.text.kind: t5)"}.items():
        folder = home.expanduser() / f"models--{repository.replace('/', '--')}"
        if folder.is_dir():
            yield Finding(repository, "ok", str(folder), use)
        else:
            remedy = "Put them into the Hugging Face cache, or name a local folder in params.yaml"
            yield Finding(repository, "missing", "no weights", f"{use}; the word encoder serves without", remedy)


def _machine(workspace: Path) -> Iterator[Finding]:
    free = shutil.disk_usage(workspace).free / GIB
    enough = free >= DISK_GIB
    yield Finding(
        "disk",
        "ok" if enough else "bad",
        f"{free:.0f} GiB free",
        f"the demo, {DISK_GIB:.0f} GiB",
        "" if enough else "Free some space, or work in another folder",
    )
    memory = _available_memory()
    if memory is not None:
        enough = memory >= MEMORY_GIB
        state, remedy = ("ok", "") if enough else ("bad", "Close other programs")
        yield Finding("memory", state, f"{memory:.1f} GiB available", f"the demo, {MEMORY_GIB:.0f} GiB", remedy)
    yield Finding("cores", "ok", str(available_cores()), "the demo; 2 are enough (GOKU_CORES sets another number)")
    git = shutil.which("git")
    yield Finding(
        "git", "ok" if git else "missing", git or "not installed", "lineage, dvc", "" if git else "Install git"
    )


def _available_memory() -> float | None:
    """GiB; None where /proc is not there (macOS)."""
    info = Path("/proc/meminfo")
    if not info.is_file():
        return None
    values = dict(line.split(":") for line in info.read_text().splitlines())
    return int(values["MemAvailable"].split()[0]) / 2**20


def _ports() -> Iterator[Finding]:
    for port, (server, variable) in PORTS.items():
        with socket.socket() as probe:
            taken = probe.connect_ex(("127.0.0.1", port)) == 0
        found = "something answers" if taken else "free"
        remedy = f"If that is {server}: export {variable}=http://127.0.0.1:{port}{'/api' if port == 4200 else ''}"
        yield Finding(f"port {port}", "ok", found, f"{server} (none is needed; goku up)", remedy if taken else "")

"""Weights on disk: finding them, saying how to get them, naming them by digest and licence."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from goku_core.pipeline.errors import GokuError

_KINDS = " ".join(f'--include "{kind}"' for kind in ("*.json", "*.txt", "*.safetensors", "README.md"))


def folder_command(hub: str, place: str) -> str:
    """The command that fetches a model of the hub to weights/place, without its pickled files."""
    return f"hf download {hub} {_KINDS} --local-dir weights/{place}"


# What each scorer was written for. Another model of the same kind is welcome; the messages name these.
SOURCES = {
    "clip": folder_command("openai/clip-vit-large-patch14", "clip-vit-large-patch14"),
    "aesthetic": "curl -L -o weights/sac+logos+ava1-l14-linearMSE.pth https://github.com/christophschuhmann/"
    "improved-aesthetic-predictor/raw/main/sac%2Blogos%2Bava1-l14-linearMSE.pth",
    "nsfw": folder_command("Falconsai/nsfw_image_detection", "nsfw_image_detection"),
    "watermark": folder_command("prithivMLmods/Watermark-Detection-SigLIP2", "watermark-siglip2"),
    "raft": "curl -L -o weights/raft_large_C_T_SKHT_V2-ff5fadd5.pth "
    "https://download.pytorch.org/models/raft_large_C_T_SKHT_V2-ff5fadd5.pth",
    "dinov2": folder_command("facebook/dinov2-base", "dinov2-base"),
}
FILES = {"aesthetic", "raft"}  # the others are folders
_FILE_KINDS = (".safetensors", ".pth", ".pt")
_PARTS = 1 << 20


def locate(name: str, path: Path, key: str) -> Path:
    """``path`` where it holds weights. name: one of `SOURCES`; key: the parameter that named it.

    Raises GokuError saying what is missing and how to get it.
    """
    what = f"{key}: {path}"
    advice = (
        f"Get it where the network allows, for example\n  {SOURCES[name]}\nand see docs/weights.md; or empty the key."
    )
    if name in FILES:
        if path.suffix not in _FILE_KINDS:
            raise GokuError(f"{what} is no weights file ({', '.join(_FILE_KINDS)}). {advice}")
        if not path.is_file():
            raise GokuError(f"{what} is not there. {advice}")
        return path
    for part in ("config.json", "preprocessor_config.json"):
        if not (path / part).is_file():
            missing = f"{part} is missing in it" if path.is_dir() else "the folder is not there"
            raise GokuError(f"{what}: {missing}. {advice}")
    if not any(path.glob("*.safetensors")):
        raise GokuError(f"{what} holds no *.safetensors; pickled weights of a folder are not read. {advice}")
    return path


def digest(path: Path) -> str:
    """SHA-256 of the weights: of the one file, or over the digests of several in the order of their names."""
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    stamps = [(file, file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    digests = [_digest(*stamp) for stamp in stamps]
    if len(digests) == 1:
        return digests[0]
    lines = "".join(f"{found}  {file.name}\n" for found, file in zip(digests, files, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


@lru_cache(maxsize=64)
def _digest(file: Path, changed: int, size: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def licence(path: Path) -> str:
    """What the model card beside the weights states (`license:` in the head of README.md), else "not stated"."""
    card = (path.parent if path.is_file() else path) / "README.md"
    if not card.is_file():
        return "not stated"
    import yaml

    parts = card.read_text(encoding="utf-8").split("---\n", 2)
    try:
        head = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0].strip() else None
    except yaml.YAMLError:
        head = None  # not a model card of the hub
    stated = head.get("license") if isinstance(head, dict) else None
    return str(stated) if stated else "not stated"


def pretrained(kind: Any, folder: Path, device: str, **config: Any) -> Any:
    """A model of transformers in float32, for inference. kind: its class. config: what differs from the folder's.

    Raises GokuError where the folder lacks tensors of the model: transformers would draw them at random.
    """
    import torch
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, info = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # named below, with those that are missing
            **config,
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise GokuError(f"{folder} does not hold a {kind.__name__}: {reason}. See docs/weights.md") from error
    lost = sorted(info["missing_keys"]) + sorted(str(key) for key in info.get("mismatched_keys", ()))
    if lost:
        raise GokuError(
            f"{folder} lacks {len(lost)} tensors of {kind.__name__}, the first is {lost[0]}: its weights belong to "
            "another model. See docs/weights.md"
        )
    return model.eval().requires_grad_(False).to(device)

"""Networks on disk: a folder with config.json and safetensors weights. No pickle."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from goku_core.models.config import GokuConfig, VideoVAEConfig
from goku_core.models.text import TextEncoder, WordEncoder
from goku_core.models.transformer import Goku
from goku_core.models.vae import VideoVAE
from goku_core.models.vae_interface import CausalVAE, LatentConfig

WEIGHTS = "model.safetensors"


def read_config(folder: Path, kind: str) -> dict[str, Any]:
    """config.json of a model folder. Raises FileNotFoundError or ValueError naming the folder."""
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} is no model folder: config.json is missing")
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.get("kind") != kind:
        raise ValueError(f'{path}: kind is "{config.get("kind")}", expected "{kind}"')
    return config


def weights_digest(folder: Path) -> str:
    """SHA-256 of a model folder's weights."""
    with (folder / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_vae(folder: Path, digest: str | None = None) -> CausalVAE:
    """The VAE of `models/vae`, trained here or pretrained, ready for encoding and decoding.

    With `digest`, that of the VAE whose latents a model was trained on, another VAE raises ValueError.
    """
    config = read_config(folder, "goku-vae")
    if digest is not None and (found := weights_digest(folder)) != digest:
        raise ValueError(
            f"{folder} is not the VAE whose latents the model learns from: its weights are {found[:12]}, those were "
            f"{digest[:12]}. Run the stages from vae on again, or use the model with its own VAE (a bundle holds both)."
        )
    weights = load_file(folder / WEIGHTS)
    vae: CausalVAE
    if "kind" in config["vae"]:
        from goku_core.models.vae_config import PretrainedVAEConfig
        from goku_core.models.vae_pretrained import build

        vae = build(PretrainedVAEConfig.from_json(config["vae"]))
        vae.load_state_dict(weights, assign=True)
    else:
        vae = VideoVAE(VideoVAEConfig.from_json(config["vae"]))
        vae.load_state_dict(weights)
    return vae.eval().requires_grad_(False)


def load_vae_config(folder: Path) -> LatentConfig:
    """Shape of the latent space of `models/vae`, without its weights."""
    described = read_config(folder, "goku-vae")["vae"]
    if "kind" in described:
        from goku_core.models.vae_config import PretrainedVAEConfig

        return PretrainedVAEConfig.from_json(described)
    return VideoVAEConfig.from_json(described)


def load_goku(folder: Path, weights: str = WEIGHTS) -> tuple[Goku, dict[str, Any]]:
    """The transformer of `models/<phase>` and its config.json."""
    config = read_config(folder, "goku")
    model = Goku(GokuConfig.from_json(config["model"]))
    model.load_state_dict(load_file(folder / weights))
    return model, config


def text_encoder(spec: dict[str, Any], fingerprint: str | None = None, folder: Path | str | None = None) -> TextEncoder:
    """The encoder that a request or config.json describes: {"kind": "words" | "t5", ...}.

    folder   from which a relative folder of weights counts (the workspace); None: from the current one

    With `fingerprint`, the one that the latents or the model were made with, an encoder that would give other vectors raises
    ValueError: a model is deaf to them, and nothing else would say so.
    """
    encoder = _text_encoder(spec, folder)
    if fingerprint is not None and encoder.fingerprint != fingerprint:
        raise ValueError(
            f"text encoder: the texts were encoded by {fingerprint}, this installation has {encoder.fingerprint}. Use the "
            "version of goku and the weights they were made with, or run precompute and training again."
        )
    return encoder


def _text_encoder(spec: dict[str, Any], folder: Path | str | None) -> TextEncoder:
    if spec["kind"] == "words":
        return WordEncoder(spec["width"], spec["max_tokens"])
    if spec["kind"] == "t5":
        from goku_core.models.text_t5 import T5Encoder

        local = Path(folder or "") / spec["weights"]
        return T5Encoder(str(local) if local.is_dir() else spec["weights"], spec["max_tokens"])
    raise ValueError(f'text encoder "{spec["kind"]}": known are "words" and "t5"')

"""A model of transformers in this process: a local folder, one question at a time. For one machine without a server."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from goku_core.chat.answers import Answer
from goku_core.curate.captions.request import Captioner
from goku_core.pipeline.errors import GokuError

_TURN = threading.Lock()  # of the process: torch has one generator, which two models would draw from in any order


class Network:
    """Weights and processor of one folder; several roles may share them."""

    def __init__(self, folder: Path, device: str, sees: bool) -> None:
        """sees: `AutoModelForImageTextToText`, else `AutoModelForCausalLM` (for the merge).

        Raises `GokuError` where the folder holds no such model or needs what is not installed.
        """
        import torch
        from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

        if not (folder / "config.json").is_file():
            raise GokuError(f"{folder} is no model folder (config.json is missing); see docs/captions.md")
        self.sees = sees
        self.device = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        reader, network = (
            (AutoProcessor, AutoModelForImageTextToText) if sees else (AutoTokenizer, AutoModelForCausalLM)
        )
        try:
            self.processor = reader.from_pretrained(folder, local_files_only=True)
            # Safetensors only: a pickle could run code. Nor does the folder's own code run (trust_remote_code is off).
            model = network.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype="auto")
        except ImportError as error:
            raise GokuError(f"{folder}: its processor needs a package that is missing: {error}") from error
        except (OSError, ValueError) as error:
            raise GokuError(f"{folder}: {error}") from error
        self.model = model.to(self.device).eval()
        self.identity = f"{folder.name} {_digest(folder)}"


class InProcess:
    """Asks a `Network` on behalf of one role."""

    def __init__(self, network: Network, captioner: Captioner) -> None:
        self.network, self.max_tokens, self.identity = network, captioner.max_tokens, network.identity

    async def __aenter__(self) -> InProcess:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ):
        return None

    async def ask(self, prompt: str, images: Sequence[np.ndarray], temperature: float, seed: int) -> Answer:
        """One answer; the same one for the same seed on the same machine."""
        return await asyncio.to_thread(self._generate, prompt, images, temperature, seed)

    def _generate(self, prompt: str, images: Sequence[np.ndarray], temperature: float, seed: int) -> Answer:
        import torch
        from PIL import Image

        net = self.network
        pictures = [{"type": "image", "image": Image.fromarray(image)} for image in images]
        content: Any = [*pictures, {"type": "text", "text": prompt}] if net.sees else prompt
        inputs = net.processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(net.device)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(net.model.dtype)
        sampling = {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
        devices = [net.device] if net.device.startswith("cuda") else []
        with _TURN, torch.no_grad(), torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            made = net.model.generate(**inputs, max_new_tokens=self.max_tokens, **sampling)
        new = made[0, inputs["input_ids"].shape[1] :]
        ended = len(new) < self.max_tokens
        return Answer(net.processor.decode(new, skip_special_tokens=True), "stop" if ended else "length")


def _digest(folder: Path) -> str:
    """SHA-256 of the configuration and of all weights, shortened to 16 digits."""
    whole = hashlib.sha256()
    for path in sorted([*folder.glob("*.safetensors"), folder / "config.json"]):
        with path.open("rb") as file:
            whole.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()[:16]

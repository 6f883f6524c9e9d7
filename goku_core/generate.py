"""From prompts to pixels with a trained model: used by previews, evaluation and `goku generate`.

Noise is a function of each sample's seed alone, so that a picture does not depend on what else is in its batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from goku_core.models import Goku, VideoVAE
from goku_core.models.folders import load_goku, load_vae, text_encoder
from goku_core.models.patches import grid_coords, to_latent, to_tokens, token_grid
from goku_core.models.text import TextEncoder, pack_texts
from goku_core.packing import philox
from goku_core.pipeline.errors import GokuError
from goku_core.transport import guided, integrate, time_grid

TOKENS_PER_BATCH = 8192


class Generator:
    """A transformer, its VAE and its text encoder.

    size    default (height, width) in px: what the model was trained at
    frames  default frames of a clip
    fps     frames per second of clips
    """

    def __init__(self, model: Goku, vae: VideoVAE, encoder: TextEncoder, config: dict[str, Any]) -> None:
        self.model, self.vae, self.encoder, self.config = model.eval(), vae, encoder, config
        resolution = config["resolution"]
        self.size: tuple[int, int] = (resolution["height"], resolution["width"])
        self.frames: int = resolution["frames"]
        self.fps: float = resolution["fps"]
        self.sampling: dict[str, Any] = config["sampling"]

    @staticmethod
    def from_model(folder: Path, vae: Path) -> Generator:
        """From `models/<phase>` and `models/vae`. Raises `GokuError` where a folder is no model."""
        try:
            model, config = load_goku(Path(folder))
            encoder = text_encoder(config["text"], config["encoders"]["text"])
            return Generator(model, load_vae(Path(vae), config["encoders"]["vae"]), encoder, config)
        except (FileNotFoundError, ValueError) as error:
            raise GokuError(str(error)) from error

    @staticmethod
    def from_bundle(folder: Path, task: str = "t2i") -> Generator:
        """From a promoted bundle; task is "t2i", "t2v" or "i2v"."""
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        tasks = config.get("tasks", {})
        if task not in tasks:
            raise GokuError(f"{folder} has no model for {task}; it has: {', '.join(sorted(tasks)) or 'none'}")
        return Generator.from_model(Path(folder) / tasks[task], Path(folder) / "vae")

    def images(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        height: int | None = None,
        width: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        on_samples: Callable[[int], None] | None = None,
        negative: Sequence[str] | None = None,
    ) -> np.ndarray:
        """uint8 (n, H, W, 3). `on_samples(k)` is called after every batch of k; `negative`: one per prompt."""
        clips = self._sample(prompts, seeds, 1, height, width, steps, guidance, None, on_samples, negative, None)
        return clips[:, 0]

    def clips(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        first_frames: np.ndarray | None = None,
        on_samples: Callable[[int], None] | None = None,
        negative: Sequence[str] | None = None,
        image_guidance: float | None = None,
    ) -> np.ndarray:
        """uint8 (n, T, H, W, 3). `first_frames` uint8 (n, H, W, 3) for a model with an image condition."""
        if (first_frames is not None) != self.model.config.image_condition:
            needs = "needs first_frames" if self.model.config.image_condition else "takes no first_frames"
            raise GokuError(f'model of phase "{self.config["phase"]}" {needs}')
        return self._sample(
            prompts, seeds, frames or self.frames, height, width, steps, guidance, first_frames, on_samples,
            negative, image_guidance,
        )  # fmt: skip

    @torch.no_grad()
    def _sample(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        frames: int,
        height: int | None,
        width: int | None,
        steps: int | None,
        guidance: float | None,
        first_frames: np.ndarray | None,
        on_samples: Callable[[int], None] | None,
        negative: Sequence[str] | None,
        image_guidance: float | None,
    ) -> np.ndarray:
        height, width = height or self.size[0], width or self.size[1]
        if height % 16 or width % 16:
            raise GokuError(f"size {height}x{width}: both sides must be multiples of 16")
        try:
            latent_shape = self.vae.config.latent_shape(frames, height, width)
        except ValueError as error:
            raise GokuError(str(error)) from error
        grid = token_grid(latent_shape, self.model.config.patch)
        batch = max(1, TOKENS_PER_BATCH // (grid[0] * grid[1] * grid[2]))
        steps = steps or self.sampling["steps"]
        guidance = self.sampling["guidance"] if guidance is None else guidance
        parts = []
        for begin in range(0, len(prompts), batch):
            chosen = slice(begin, begin + batch)
            firsts = None if first_frames is None else first_frames[chosen]
            avoided = [""] * len(prompts[chosen]) if negative is None else negative[chosen]
            parts.append(
                self._batch(prompts[chosen], seeds[chosen], grid, steps, guidance, firsts, avoided, image_guidance)
            )
            if on_samples is not None:
                on_samples(len(parts[-1]))
        return np.concatenate(parts) if parts else np.empty((0, frames, height, width, 3), np.uint8)

    def _batch(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        grid: tuple[int, int, int],
        steps: int,
        guidance: float,
        first_frames: np.ndarray | None,
        negative: Sequence[str],
        image_guidance: float | None,
    ) -> np.ndarray:
        samples, tokens = len(prompts), grid[0] * grid[1] * grid[2]
        width = self.model.config.token_width
        noise = torch.cat(
            [torch.from_numpy(philox(s, "sample noise").standard_normal((tokens, width), "f4")) for s in seeds]
        )
        conditional = pack_texts([self.encoder.encode(p) for p in prompts])
        unconditional = pack_texts([self.encoder.encode(n) for n in negative])
        coords = grid_coords(grid).repeat(samples, 1)
        bounds = torch.arange(0, samples * tokens + 1, tokens, dtype=torch.int32)
        condition = None if first_frames is None else self._condition(first_frames, grid)

        def velocity(x: Tensor, time: Tensor) -> Tensor:
            times = time.expand(samples)
            with_text = self.model(x, coords, bounds, times, *conditional, condition)
            if guidance == 1.0:
                return with_text
            without = self.model(x, coords, bounds, times, *unconditional, condition)
            if image_guidance is None or condition is None:
                return guided(with_text, without, guidance)
            neither = self.model(x, coords, bounds, times, *unconditional, None)
            return neither + image_guidance * (without - neither) + guidance * (with_text - without)

        times = time_grid(steps, self.sampling["shift"])
        x = integrate(velocity, noise, times, self.sampling["solver"])
        latents = [to_latent(t, grid, self.model.config.patch) for t in x.unflatten(0, (samples, tokens))]
        return self._pixels(torch.stack(latents))

    def _condition(self, first_frames: np.ndarray, grid: tuple[int, int, int]) -> Tensor:
        """Tokens of each first frame's latent, repeated over the latent frames."""
        video = torch.from_numpy(np.ascontiguousarray(first_frames)).permute(0, 3, 1, 2)[:, :, None]
        latents = self.vae.encode(video.float() / 127.5 - 1.0)
        return torch.cat([to_tokens(z, self.model.config.patch).repeat(grid[0], 1) for z in latents])

    def _pixels(self, latents: Tensor) -> np.ndarray:
        videos = torch.cat([self.vae.decode(part) for part in latents.split(16)]).clamp(-1, 1)
        return ((videos + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1).numpy()

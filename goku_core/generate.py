"""From prompts to pixels with a trained model: used by previews, evaluation and `goku generate`.

Noise is a function of each sample's seed alone, so that a picture does not depend on what else is in its batch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
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
from goku_core.transport import SamplingSettings, guided, guided_by_text_and_image, rescaled, sample
from goku_core.transport.sampling import ADAPTIVE

TOKENS_PER_BATCH = 8192
# Up to so many tokens the evaluations of guidance share one forward. Measured on a CPU with the nano network, one forward
# against two: 1.4x as fast for one picture of 28 tokens, 1.1x at 300 tokens of text-to-video, equal near 700, 0.9x at 4000,
# where the pack no longer fits the cache and null texts are padded to the longest prompt.
TOKENS_TOGETHER = 1024


@dataclass(frozen=True)
class _Asked:
    """What is to be made, one entry per sample."""

    prompts: Sequence[str]
    seeds: Sequence[int]
    negative: Sequence[str] | None
    first_frames: np.ndarray | None
    image_guidance: float | None
    on_step: Callable[[float], None] | None = None

    def part(self, chosen: slice) -> _Asked:
        negative, firsts = (None if x is None else x[chosen] for x in (self.negative, self.first_frames))
        return replace(
            self, prompts=self.prompts[chosen], seeds=self.seeds[chosen], negative=negative, first_frames=firsts
        )

    def is_pushed(self, guidance: float) -> bool:
        """Does guidance change anything? A scale of 1 is the model itself."""
        return guidance != 1.0 or self.image_guidance is not None

    def check(self, guidance: float) -> None:
        """Raises GokuError for lists of different lengths, and for negative prompts that nothing would push away from."""
        for what, given in (("seeds", self.seeds), ("negative", self.negative), ("first_frames", self.first_frames)):
            if given is not None and len(given) != len(self.prompts):
                raise GokuError(f"{len(self.prompts)} prompts, but {len(given)} {what}: give one of each per sample")
        if self.negative is not None and not self.is_pushed(guidance):
            raise GokuError("negative prompts act through guidance, and guidance 1 is none: give one above 1")


class Generator:
    """A transformer, its VAE and its text encoder.

    size    default (height, width) in px: what the model was trained at
    frames  default frames of a clip
    fps     frames per second of clips
    device  where the networks are and sampling happens; noise is drawn on the CPU, so that a seed means the same everywhere
    sampling  steps, solver, guidance and the rest, as the model's folder has them and with a preset applied
    """

    def __init__(self, model: Goku, vae: VideoVAE, encoder: TextEncoder, config: dict[str, Any]) -> None:
        self.model, self.vae, self.encoder, self.config = model.eval(), vae, encoder, config
        self.device = next(model.parameters()).device
        resolution = config["resolution"]
        self.size: tuple[int, int] = (resolution["height"], resolution["width"])
        self.frames: int = resolution["frames"]
        self.fps: float = resolution["fps"]
        self.settings = SamplingSettings.from_json(config["sampling"])
        self.sampling: dict[str, Any] = asdict(self.settings)

    @staticmethod
    def from_model(folder: Path, vae: Path, device: str = "auto", beside: Generator | None = None) -> Generator:
        """From `models/<phase>` and `models/vae`, onto "cpu", "cuda", "cuda:N", or the GPU where there is one ("auto").

        beside  one on the same device whose VAE and text encoder are taken over where they are the same: memory

        Raises `GokuError` where a folder is no model or the device is not there.
        """
        place = _device(device)
        try:
            model, config = load_goku(Path(folder))
            if beside is not None and all(beside.config[part] == config[part] for part in ("encoders", "text")):
                return Generator(model.to(place), beside.vae, beside.encoder, config)
            encoder = text_encoder(config["text"], config["encoders"]["text"])
            loaded = load_vae(Path(vae), config["encoders"]["vae"])
            return Generator(model.to(place), loaded.to(place), encoder, config)
        except (FileNotFoundError, ValueError) as error:
            raise GokuError(str(error)) from error

    @staticmethod
    def from_bundle(
        folder: Path, task: str = "t2i", device: str = "auto", beside: Generator | None = None
    ) -> Generator:
        """From a promoted bundle; task is "t2i", "t2v" or "i2v". beside: as for `from_model`."""
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        tasks = config.get("tasks", {})
        if task not in tasks:
            raise GokuError(f"{folder} has no model for {task}; it has: {', '.join(sorted(tasks)) or 'none'}")
        return Generator.from_model(Path(folder) / tasks[task], Path(folder) / "vae", device, beside)

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
        on_step: Callable[[float], None] | None = None,
    ) -> np.ndarray:
        """uint8 (n, H, W, 3). `on_samples(k)` is called after every batch of k.

        negative  one prompt per picture that guidance pushes away from; None: the null text
        on_step   called after every step of the solver with the share of the batch's way that is done; what it raises ends all
        """
        asked = _Asked(prompts, seeds, negative, None, None, on_step)
        return self._sample(asked, 1, height, width, steps, guidance, on_samples)[:, 0]

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
        on_step: Callable[[float], None] | None = None,
    ) -> np.ndarray:
        """uint8 (n, T, H, W, 3). `first_frames` uint8 (n, H, W, 3) for a model with an image condition.

        negative, on_step  as for `images`
        image_guidance  scale by which the first frame is followed, as `guidance` is for the text; it costs a third evaluation.
                        None or 1: guidance by text alone
        """
        conditioned = self.model.config.image_condition
        if (first_frames is not None) != conditioned:
            needs = "needs first_frames" if conditioned else "takes no first_frames"
            raise GokuError(f'model of phase "{self.config["phase"]}" {needs}')
        if image_guidance is not None and not conditioned:
            raise GokuError(f'model of phase "{self.config["phase"]}" takes no image_guidance: it continues no picture')
        image_guidance = None if image_guidance == 1.0 else image_guidance
        asked = _Asked(prompts, seeds, negative, first_frames, image_guidance, on_step)
        return self._sample(asked, frames or self.frames, height, width, steps, guidance, on_samples)

    @torch.no_grad()
    def _sample(
        self,
        asked: _Asked,
        frames: int,
        height: int | None,
        width: int | None,
        steps: int | None,
        guidance: float | None,
        on_samples: Callable[[int], None] | None,
    ) -> np.ndarray:
        height, width = height or self.size[0], width or self.size[1]
        if height % 16 or width % 16:
            raise GokuError(f"size {height}x{width}: both sides must be multiples of 16")
        settings = replace(
            self.settings,
            steps=steps or self.settings.steps,
            guidance=self.settings.guidance if guidance is None else guidance,
        )
        asked.check(settings.guidance)
        try:
            latent_shape = self.vae.config.latent_shape(frames, height, width)
            grid = token_grid(latent_shape, self.model.config.patch)
            # The adaptive solver's steps are those of all samples together, and a picture must not depend on its batch.
            batch = max(1, TOKENS_PER_BATCH // math.prod(grid)) if settings.solver != ADAPTIVE else 1
            parts = []
            for begin in range(0, len(asked.prompts), batch):
                parts.append(self._batch(asked.part(slice(begin, begin + batch)), grid, settings))
                if on_samples is not None:
                    on_samples(len(parts[-1]))
        except ValueError as error:
            raise GokuError(str(error)) from error
        return np.concatenate(parts) if parts else np.empty((0, frames, height, width, 3), np.uint8)

    def _batch(self, asked: _Asked, grid: tuple[int, int, int], settings: SamplingSettings) -> np.ndarray:
        shape = (math.prod(grid), self.model.config.token_width)
        noise = torch.stack(
            [torch.from_numpy(philox(s, "sample noise").standard_normal(shape, "f4")) for s in asked.seeds]
        ).to(self.device)
        first = None if asked.first_frames is None else self._condition(asked.first_frames, grid)
        wanted = [self.encoder.encode(p).to(self.device) for p in asked.prompts]
        unwanted = [self.encoder.encode(p).to(self.device) for p in asked.negative or [""] * len(asked.prompts)]
        branches = [(wanted, first), (unwanted, first)]
        if asked.image_guidance is not None:
            branches.append((unwanted, torch.zeros_like(first)))
        one, all_of_them = _velocities(self.model, branches[:1], grid), _velocities(self.model, branches, grid)

        def plain(x: Tensor, time: Tensor) -> Tensor:
            return one(x, time)[0]

        def pushed(x: Tensor, time: Tensor) -> Tensor:
            if asked.image_guidance is None:
                both, image_only = all_of_them(x, time)
                velocity = guided(both, image_only, settings.guidance)
            else:
                both, image_only, neither = all_of_them(x, time)
                velocity = guided_by_text_and_image(both, image_only, neither, settings.guidance, asked.image_guidance)
            return rescaled(velocity, both, settings.guidance_rescale)

        x = sample(
            plain, pushed if asked.is_pushed(settings.guidance) else plain, noise, shape[0], settings, asked.on_step
        )
        return self._pixels(torch.stack([to_latent(t, grid, self.model.config.patch) for t in x]))

    def _condition(self, first_frames: np.ndarray, grid: tuple[int, int, int]) -> Tensor:
        """Tokens of each first frame's latent, repeated over the latent frames."""
        pixels = torch.from_numpy(np.ascontiguousarray(first_frames)).to(self.device)
        video = pixels.permute(0, 3, 1, 2)[:, :, None]
        latents = self.vae.encode(video.float() / 127.5 - 1.0)
        return torch.cat([to_tokens(z, self.model.config.patch).repeat(grid[0], 1) for z in latents])

    def _pixels(self, latents: Tensor) -> np.ndarray:
        videos = torch.cat([self.vae.decode(part) for part in latents.split(16)]).clamp(-1, 1)
        return ((videos + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1).cpu().numpy()


def _velocities(
    model: Goku, branches: Sequence[tuple[list[Tensor], Tensor | None]], grid: tuple[int, int, int]
) -> Callable[[Tensor, Tensor], list[Tensor]]:
    """Velocities of x (S, n, D) under each branch of (texts, condition): from one pack of all branches while it is small."""
    samples, tokens = len(branches[0][0]), math.prod(grid)
    if len(branches) > 1 and len(branches) * samples * tokens > TOKENS_TOGETHER:
        singly = [_velocities(model, [branch], grid) for branch in branches]
        return lambda x, time: [evaluate(x, time)[0] for evaluate in singly]
    copies = len(branches) * samples
    device = next(model.parameters()).device
    coords = grid_coords(grid, device).repeat(copies, 1)
    bounds = torch.arange(0, copies * tokens + 1, tokens, dtype=torch.int32, device=device)
    text, text_bounds = pack_texts([text for texts, _ in branches for text in texts])
    text_bounds = text_bounds.to(device)
    condition = None if branches[0][1] is None else torch.cat([condition for _, condition in branches])

    def evaluate(x: Tensor, time: Tensor) -> list[Tensor]:
        packed = x.flatten(0, 1).repeat(len(branches), 1)
        # Half precision on a GPU, where FlashAttention needs it; the state x stays in float32 between the steps.
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=device.type == "cuda"):
            velocity = model(packed, coords, bounds, time.to(device).expand(copies), text, text_bounds, condition)
        return list(velocity.to(x.dtype).unflatten(0, (len(branches), samples, tokens)))

    return evaluate


def _device(name: str) -> torch.device:
    """Raises `GokuError` for a device that is unknown or not there."""
    there = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if there else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise GokuError(f'device "{name}": known are auto, cpu, cuda and cuda:N') from error
    if device.type not in ("cpu", "cuda"):
        raise GokuError(f'device "{name}": known are auto, cpu, cuda and cuda:N')
    if device.type == "cuda" and (not there or (device.index or 0) >= torch.cuda.device_count()):
        raise GokuError(f'device "{name}" is not there: torch sees {torch.cuda.device_count()} GPUs. Use cpu or auto')
    return device

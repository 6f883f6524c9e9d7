"""Seconds per picture and per clip from noise to latent, against a loop as diffusers' pipelines write it.

Measures the claim: sampling is no slower than the usual pipeline of a network of the same size. Ours is the loop of
`goku_core.generate`: a pack of samples, two passes a step for classifier-free guidance, Euler. The peer is the
denoising loop of diffusers' WanPipeline written out: a WanTransformer3DModel of the same depth, width and heads, two
passes a step, FlowMatchEulerDiscreteScheduler. Both are randomly initialised, take the same number of steps and
guidance, and stop at the latent: the VAEs and text encoders of the two differ in size, so they would say nothing about
the loop. Further rows give ours to pixels, with the VAE of the default run at random weights; they have no peer and no
ratio.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.measuring import peer
from benchmarks.measuring.options import DTYPES, parser, settle
from benchmarks.measuring.packs import SMALL_CONFIG, Pack
from benchmarks.measuring.result import Result
from goku_core.models import CONFIGS, Goku, GokuConfig, VideoVAE, VideoVAEConfig
from goku_core.models.patches import to_latent
from goku_core.transport import guided, integrate, time_grid

CLAIM = (
    "Sampling: seconds per picture and per clip from noise to latent, against a diffusers loop of the same network size"
)
GUIDANCE = 5.0
TEXT = 64
# latent frames, patch rows and columns of 288x512 px; 5 latent frames are 17 frames of video
CASES = {"picture 288x512": ((1, 18, 32), 4), "clip 17 x 288x512": ((5, 18, 32), 1)}
TINY = {"picture 32x64": ((1, 2, 4), 2), "clip 5 x 32x64": ((2, 2, 4), 1)}
Step = Callable[[], None]


def main(arguments: list[str] | None = None) -> Result:
    options = parser("sample", __doc__)
    options.add_argument("--model", choices=tuple(CONFIGS), default="nano")
    options.add_argument("--steps", type=int, default=20, help="of the solver")
    options = settle(options.parse_args(arguments))
    result = Result("sample", CLAIM, options)
    if not peer.installed():
        result.note(peer.MISSING)
    config = SMALL_CONFIG if options.small else CONFIGS[options.model]
    if not config.text_width:
        raise SystemExit(f"sample: {options.model} is conditioned on classes, the peer on text. Choose another --model")
    for case, (grid, number) in (TINY if options.small else CASES).items():
        _measure(result, case, config, grid, number, options)
        if options.quick:
            break
    result.finish()
    return result


@torch.no_grad()
def _measure(
    result: Result, case: str, config: GokuConfig, grid: tuple[int, int, int], number: int, options: argparse.Namespace
) -> None:
    steps = 3 if options.small else options.steps
    repeats = options.repeats or (2 if options.small or options.quick else 5)
    dtype = DTYPES[options.dtype]
    for count in sorted({1, number}):
        pack = Pack((grid,) * count, (TEXT,) * count)
        sides = {"goku": ours(config, pack, steps, result.device, dtype)}
        pairs = []
        if peer.installed():
            sides["diffusers"] = peers(config, pack, steps, result.device, dtype)
            pairs = [("goku", "diffusers")]
        amounts = {"samples": float(count), "network_tokens": 2.0 * steps * pack.tokens}
        label = f"{case}, {count} at a time"
        timings = result.measure(label, sides, pairs, repeats=repeats, per_call=amounts, steps=steps)
        for row in result.rows[-len(timings) :]:
            row["seconds_per_sample"] = row["median_s"] / count
    pack = Pack((grid,), (TEXT,))
    to_pixels = {"goku to pixels": with_pixels(config, pack, steps, result.device, dtype)}
    result.measure(f"{case}, with VAE", to_pixels, [], repeats=repeats, per_call={"samples": 1.0}, steps=steps)
    result.rows[-1]["seconds_per_sample"] = result.rows[-1]["median_s"]


def ours(config: GokuConfig, pack: Pack, steps: int, device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
    """Tokens (N, token_width) from noise."""
    model = Goku(config).to(device, dtype).eval()
    noise = torch.randn(pack.tokens, config.token_width, device=device, dtype=dtype)
    text, null = _text(sum(pack.texts), config, device, dtype), _text(len(pack.texts), config, device, dtype)
    coords, bounds, text_bounds = pack.coords(device), pack.cu_seqlens(device), pack.text_cu_seqlens(device)
    null_bounds = torch.arange(len(pack.texts) + 1, device=device, dtype=torch.int32)

    def velocity(x: Tensor, time: Tensor) -> Tensor:
        times = time.to(device).expand(len(pack.grids))
        with_text = model(x, coords, bounds, times, text, text_bounds)
        without = model(x, coords, bounds, times, null, null_bounds)
        return guided(with_text, without, GUIDANCE)

    @torch.no_grad()
    def call() -> Tensor:
        return integrate(velocity, noise, time_grid(steps).to(device))

    return call


def peers(config: GokuConfig, pack: Pack, steps: int, device: torch.device, dtype: torch.dtype) -> Callable[[], Tensor]:
    """Latents (S, C, T, H, W) from noise. The null text is as long as the text, as pipelines pad both to one length."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    model = peer.wan(config, device, dtype).eval()
    noise = torch.randn(peer.latent_shape(pack, config), device=device, dtype=dtype)
    samples = len(pack.grids)
    text, null = (_text(samples * TEXT, config, device, dtype).unflatten(0, (samples, TEXT)) for _ in range(2))

    @torch.no_grad()
    def call() -> Tensor:
        scheduler = FlowMatchEulerDiscreteScheduler()
        scheduler.set_timesteps(steps, device=device)
        latents = noise
        for moment in scheduler.timesteps:
            timestep = moment.expand(samples)
            with_text = model(latents, timestep, text, return_dict=False)[0]
            without = model(latents, timestep, null, return_dict=False)[0]
            prediction = without + GUIDANCE * (with_text - without)
            latents = scheduler.step(prediction, moment, latents, return_dict=False)[0]
        return latents

    return call


def with_pixels(
    config: GokuConfig, pack: Pack, steps: int, device: torch.device, dtype: torch.dtype
) -> Callable[[], Tensor]:
    """uint8 frames (1, 3, T, H, W) of one sample."""
    vae = VideoVAE(replace(VideoVAEConfig(), latent_channels=config.latent_channels)).to(device, dtype).eval()
    latents = ours(config, pack, steps, device, dtype)

    @torch.no_grad()
    def call() -> Tensor:
        latent = to_latent(latents(), pack.grids[0], config.patch)
        return ((vae.decode(latent[None]).clamp(-1, 1) + 1) * 127.5).round().byte()

    return call


def _text(tokens: int, config: GokuConfig, device: torch.device, dtype: torch.dtype) -> Tensor:
    return torch.randn(tokens, config.text_width, device=device, dtype=dtype)


if __name__ == "__main__":
    main()

"""The Generator: guidance by text and image against single forwards, negative prompts, solvers, independence of the batch."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from goku_core import generate
from goku_core.generate import Generator
from goku_core.models import Goku, GokuConfig, VideoVAE, VideoVAEConfig
from goku_core.models.patches import grid_coords, to_latent, to_tokens
from goku_core.models.text import WordEncoder
from goku_core.packing import philox
from goku_core.pipeline.errors import GokuError
from goku_core.train.request import Sampling
from goku_core.transport import SamplingSettings

PROMPTS, SEEDS = ["a red circle", "two blue stars left of a green square", "a star"], [1, 2, 3]
OLD_SETTINGS = {"steps": 3, "solver": "euler", "guidance": 3.0, "shift": 1.0}


def make(image_condition: bool = False, **sampling: object) -> Generator:
    """Random networks: unlike those of a fresh training run, whose output starts at zero, they say something everywhere.

    Their time layers are weak, as after training: noise in a thousand radians per unit of time would not be a flow.
    """
    torch.manual_seed(0)
    config = GokuConfig(2, 32, 2, 64, latent_channels=4, text_width=16, image_condition=image_condition)
    model = Goku(config)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.003 if name.startswith("time_embedding") else 0.2)
    vae = VideoVAE(VideoVAEConfig(latent_channels=4, width=8, encoder_depth=1, decoder_depth=1)).eval()
    described = {
        "phase": "i2v" if image_condition else "t2v",
        "resolution": {"height": 32, "width": 48, "frames": 5, "fps": 8.0},
        "sampling": OLD_SETTINGS | sampling,
    }
    return Generator(model, vae, WordEncoder(16, 16), described)


@pytest.fixture(scope="module")
def text_model() -> Generator:
    return make()


@pytest.fixture(scope="module")
def image_model() -> Generator:
    return make(image_condition=True)


@pytest.fixture(scope="module")
def firsts() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), dtype=np.uint8)


def one_forward(
    generator: Generator, x: torch.Tensor, grid: tuple[int, int, int], text: str, condition
) -> torch.Tensor:
    encoded = generator.encoder.encode(text)
    bounds, text_bounds = (torch.tensor([0, len(part)], dtype=torch.int32) for part in (x, encoded))
    return generator.model(x, grid_coords(grid), bounds, torch.zeros(1), encoded, text_bounds, condition)


def differ(one: np.ndarray, other: np.ndarray) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@torch.no_grad()
def test_text_and_image_guidance_is_that_of_three_single_forwards(image_model: Generator, firsts: np.ndarray) -> None:
    """One Euler step, each branch by itself, combined as InstructPix2Pix does and rescaled: the same clip."""
    image_model.settings = replace(image_model.settings, guidance_rescale=0.5)
    try:
        made = image_model.clips(
            PROMPTS,
            SEEDS,
            steps=1,
            guidance=2.5,
            first_frames=firsts,
            negative=["", "a blue star", ""],
            image_guidance=1.8,
        )
    finally:
        image_model.settings = replace(image_model.settings, guidance_rescale=0.0)
    grid, patch = (2, 2, 3), image_model.model.config.patch
    for index, (prompt, seed, negative) in enumerate(zip(PROMPTS, SEEDS, ["", "a blue star", ""], strict=True)):
        x = torch.from_numpy(philox(seed, "sample noise").standard_normal((12, 16), "f4"))
        pixels = torch.from_numpy(firsts[index]).permute(2, 0, 1)[None, :, None].float() / 127.5 - 1
        first = to_tokens(image_model.vae.encode(pixels)[0], patch).repeat(2, 1)
        both, image_only, neither = (
            one_forward(image_model, x, grid, text, condition)
            for text, condition in ((prompt, first), (negative, first), (negative, torch.zeros_like(first)))
        )
        velocity = neither + 1.8 * (image_only - neither) + 2.5 * (both - image_only)
        velocity = velocity * (0.5 + 0.5 * both.std() / velocity.std())
        clip = image_model.vae.decode(to_latent(x + velocity, grid, patch)[None]).clamp(-1, 1)[0]
        assert differ(made[index], ((clip + 1) * 127.5).round().byte().permute(1, 2, 3, 0).numpy()) <= 1


def test_image_guidance_changes_what_it_should(image_model: Generator, firsts: np.ndarray) -> None:
    asked = {"prompts": PROMPTS, "seeds": SEEDS, "first_frames": firsts}
    plain = image_model.clips(**asked)
    assert np.array_equal(plain, image_model.clips(**asked, image_guidance=1.0))
    assert differ(plain, image_model.clips(**asked, image_guidance=3.0)) > 10
    # A scale of its own for the image needs no guidance by text.
    assert (
        differ(image_model.clips(**asked, guidance=1.0), image_model.clips(**asked, guidance=1.0, image_guidance=3.0))
        > 10
    )


def test_negative_prompts(text_model: Generator) -> None:
    plain = text_model.images(PROMPTS, SEEDS)
    assert np.array_equal(plain, text_model.images(PROMPTS, SEEDS, negative=["", "", ""]))
    pushed = text_model.images(PROMPTS, SEEDS, negative=["", "a green square", ""])
    assert differ(plain[1], pushed[1]) > 10 and differ(plain[::2], pushed[::2]) <= 1
    # Pushed away from the prompt itself there is nowhere to go: that is the model without guidance.
    unguided = text_model.images(PROMPTS, SEEDS, guidance=1.0)
    assert differ(unguided, text_model.images(PROMPTS, SEEDS, guidance=5.0, negative=PROMPTS)) <= 1
    assert differ(unguided, plain) > 10


@pytest.mark.parametrize("solver", ["euler", "heun", "adaptive"])
def test_a_sample_does_not_depend_on_its_batch(solver: str, firsts: np.ndarray) -> None:
    generator = make(image_condition=True, solver=solver, tolerance=0.03, guidance_interval=[0.2, 0.8])
    negative = ["", "a blue star", ""]
    together = generator.clips(PROMPTS, SEEDS, first_frames=firsts, negative=negative, image_guidance=1.5)
    for k in range(3):
        part = slice(k, k + 1)
        alone = generator.clips(
            PROMPTS[part], SEEDS[part], first_frames=firsts[part], negative=negative[part], image_guidance=1.5
        )
        assert differ(alone[0], together[k]) <= 1


def test_one_forward_for_all_evaluations_equals_one_each(
    text_model: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    forwards: list[int] = []
    original = text_model.model.forward

    def counted(tokens, *rest):
        forwards.append(len(tokens))
        return original(tokens, *rest)

    monkeypatch.setattr(text_model.model, "forward", counted)
    together = text_model.clips(PROMPTS, SEEDS)
    assert forwards == [2 * 3 * 12] * 3
    forwards.clear()
    monkeypatch.setattr(generate, "TOKENS_TOGETHER", 0)
    assert differ(together, text_model.clips(PROMPTS, SEEDS)) <= 1
    assert forwards == [3 * 12] * 6
    # Outside of its interval guidance costs nothing.
    forwards.clear()
    monkeypatch.setattr(text_model, "settings", replace(text_model.settings, guidance_interval=(0.0, 0.3)))
    text_model.clips(PROMPTS, SEEDS)
    assert len(forwards) == 2 + 1 + 1


def test_settings_of_the_model_are_used_and_shown() -> None:
    old = make()
    assert old.sampling["guidance_interval"] == (0.0, 1.0) and old.sampling["solver"] == "euler"
    few = make(preset="few-step")
    assert (few.sampling["steps"], few.sampling["solver"]) == (4, "midpoint")
    exact = make(solver="heun").images(PROMPTS, SEEDS, steps=40)
    assert differ(make(solver="adaptive", tolerance=1e-3).images(PROMPTS, SEEDS), exact) <= 1
    assert differ(old.images(PROMPTS, SEEDS), exact) > 2
    assert differ(make(guidance_rescale=1.0).images(PROMPTS, SEEDS), old.images(PROMPTS, SEEDS)) > 10
    with pytest.raises(ValueError, match="known are"):
        make(solver="rk45")


def test_request_and_settings_agree() -> None:
    """The parameters of params.yaml become the settings of the model's folder, name by name."""
    assert list(Sampling.model_fields) and set(Sampling.model_fields) == {f.name for f in fields(SamplingSettings)}
    assert SamplingSettings.from_json(Sampling().model_dump(mode="json")) == SamplingSettings()


def test_what_cannot_be_is_said(text_model: Generator, image_model: Generator, firsts: np.ndarray) -> None:
    for said, call in (
        ("act through guidance", lambda: text_model.images(PROMPTS, SEEDS, guidance=1.0, negative=PROMPTS)),
        ("3 prompts, but 2 negative", lambda: text_model.images(PROMPTS, SEEDS, negative=PROMPTS[:2])),
        ("3 prompts, but 1 seeds", lambda: text_model.images(PROMPTS, [1])),
        ("takes no image_guidance", lambda: text_model.clips(PROMPTS, SEEDS, image_guidance=2.0)),
        ("3 prompts, but 2 first_frames", lambda: image_model.clips(PROMPTS, SEEDS, first_frames=firsts[:2])),
        ("needs first_frames", lambda: image_model.clips(PROMPTS, SEEDS)),
        ("evaluations of the velocity", lambda: make(solver="adaptive", max_evaluations=8).images(PROMPTS, SEEDS)),
    ):
        with pytest.raises(GokuError, match=said):
            call()


@pytest.mark.parametrize("name", ["cuda:99", "mps", "gpu"])
def test_a_device_that_is_not_there_is_named(name: str, tmp_path) -> None:
    with pytest.raises(GokuError, match=f'device "{name}"'):
        Generator.from_model(tmp_path, tmp_path, device=name)

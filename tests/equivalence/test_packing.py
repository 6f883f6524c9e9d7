"""A pack gives each sample exactly what it gets alone."""

import hashlib

import pytest
import torch

from goku_core.models import Goku, GokuConfig
from goku_core.models.patches import grid_coords, to_latent, to_tokens
from goku_core.models.text import WordEncoder, pack_texts, words

CONFIG = GokuConfig(depth=2, width=48, heads=3, ffn=96, latent_channels=4, text_width=16, image_condition=True)


def random_model(config: GokuConfig = CONFIG) -> Goku:
    """Every weight random: at the zero gates of a fresh model any mixing of samples would stay invisible."""
    torch.manual_seed(0)
    model = Goku(config).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    return model


def sample(grid: tuple[int, int, int], words: int, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    n = grid[0] * grid[1] * grid[2]
    return {
        "tokens": torch.randn(n, CONFIG.token_width, generator=generator, dtype=torch.float64),
        "coords": grid_coords(grid),
        "time": torch.rand(1, generator=generator, dtype=torch.float64),
        "text": torch.randn(words, CONFIG.text_width, generator=generator, dtype=torch.float64),
        "condition": torch.randn(n, CONFIG.token_width, generator=generator, dtype=torch.float64),
    }


def run(model: Goku, samples: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    def bounds(name: str) -> torch.Tensor:
        return torch.tensor([0, *(len(s[name]) for s in samples)]).cumsum(0).to(torch.int32)

    join = {name: torch.cat([s[name] for s in samples]) for name in samples[0]}
    return model(
        join["tokens"],
        join["coords"],
        bounds("tokens"),
        join["time"],
        join["text"],
        bounds("text"),
        join["condition"],
    )


SAMPLES = [
    sample((1, 2, 3), 5, 1),
    sample((1, 2, 3), 2, 2),
    sample((3, 2, 2), 4, 3),
    sample((1, 4, 2), 4, 4),
    sample((1, 2, 4), 7, 5),
]


def test_packed_equals_one_by_one() -> None:
    model = random_model()
    together = run(model, SAMPLES)
    alone = torch.cat([run(model, [s]) for s in SAMPLES])
    assert (together - alone).abs().max() < 1e-10


def test_gradients_of_a_pack_are_the_sum_of_single_gradients() -> None:
    def gradients(batches: list[list[dict[str, torch.Tensor]]]) -> list[torch.Tensor]:
        model = random_model()
        for batch in batches:
            run(model, batch).square().sum().backward()
        return [p.grad for p in model.parameters()]

    for together, alone in zip(gradients([SAMPLES]), gradients([[s] for s in SAMPLES]), strict=True):
        assert torch.allclose(together, alone, rtol=1e-9, atol=1e-9)


def test_a_sample_does_not_see_its_neighbours() -> None:
    model = random_model()
    changed = [*SAMPLES[:-1], sample((1, 2, 4), 3, 99)]
    n = len(SAMPLES[-1]["tokens"])
    assert torch.equal(run(model, SAMPLES)[:-n], run(model, changed)[:-n])


def test_image_condition_starts_as_text_to_video() -> None:
    torch.manual_seed(0)
    model = Goku(CONFIG).double()
    with torch.no_grad():
        model.final.weight.normal_()
    with_frame = run(model, SAMPLES)
    without = run(model, [{**s, "condition": torch.zeros_like(s["condition"])} for s in SAMPLES])
    assert torch.equal(with_frame, without)


def test_patches_are_invertible() -> None:
    latent = torch.randn(4, 3, 6, 8)
    assert torch.equal(to_latent(to_tokens(latent, (1, 2, 2)), (3, 3, 4), (1, 2, 2)), latent)
    with pytest.raises(ValueError, match="does not divide"):
        to_tokens(torch.randn(4, 1, 5, 8), (1, 2, 2))


def test_word_encoder_is_the_same_everywhere() -> None:
    """Vectors come from a hash: a golden value notices any change, which would make old models deaf."""
    encoder = WordEncoder(width=8)
    text, bounds = pack_texts([encoder.encode("A red circle."), encoder.encode("")])
    assert bounds.tolist() == [0, 4, 5]
    assert torch.equal(encoder.encode("a RED   circle"), text[:4])
    assert not torch.allclose(encoder.encode("circle red a"), text[:4])
    golden = (encoder.encode("a red circle left of a blue square") * 1000).round().to(torch.int32).numpy().tobytes()
    assert hashlib.sha256(golden).hexdigest() == "d5796b3e2d5f0f76468bc226a5c513a8e51fee651c7e7c5fc661a9fe58fac6c4"
    assert encoder.fingerprint == "words-v2-8-64"  # other vectors are another encoder: raise the number


def test_a_word_knows_its_neighbours() -> None:
    """What a token alone says must tell which colour a shape has and on which side of the relation it stands."""
    encoder = WordEncoder(width=192)

    def token(text: str, word: str) -> torch.Tensor:
        return encoder.encode(text)[1 + words(text).index(word)]

    circle = token("a red circle left of a blue square", "circle")
    assert torch.equal(circle, token("a red circle left of a blue square on sand", "circle"))
    for other in (
        "a red circle right of a blue square",
        "a blue circle left of a red square",
        "a red circle left of a green square",
    ):
        assert (token(other, "circle") - circle).norm() > 2

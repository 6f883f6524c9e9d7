"""The network of a phase in numbers: parameters, operations, and what autograd keeps of a token.

Shapes: n tokens of a sample, m of its text, d model width, f width of the feed-forward layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from goku_core.config import Params
    from goku_core.models import GokuConfig
    from goku_core.train.request import TrainRequest

Recomputation = Literal["none", "selective", "full"]
# Width of the encoder's output by the end of its name (their model cards).
T5_WIDTHS = {"t5-small": 512, "t5-base": 768, "t5-large": 1024, "t5-xl": 2048, "t5-xxl": 4096}
LATENT_CHANNELS = 16  # of the pretrained VAEs (CogVideoX, Wan)


def text_width(params: Params) -> int:
    """Raises `GokuError` for a T5 whose width its name does not tell."""
    text = params.precompute.text
    if text.kind == "words":
        return text.width
    for ending, width in T5_WIDTHS.items():
        if text.weights.rstrip("/").endswith(ending):
            return width
    raise GokuError(
        f"precompute.text.weights {text.weights!r}: its name does not say which T5 it is ({', '.join(T5_WIDTHS)}), so the "
        "width of the text is not known."
    )


def latent_channels(params: Params) -> int:
    return params.vae.latent_channels if params.vae.kind == "trained" else LATENT_CHANNELS


@dataclass(frozen=True)
class Parameters:
    """Numbers of parameters: all, those that train, and those of them with one moment (Muon) in place of two (AdamW)."""

    total: int
    trained: int
    one_moment: int
    largest_block: int

    @property
    def moments(self) -> int:
        return 2 * (self.trained - self.one_moment) + self.one_moment


def count(config: GokuConfig, request: TrainRequest, freeze: list[str]) -> Parameters:
    """Counted on the meta device. Raises `GokuError` where `freeze` names no module of this network."""
    import torch

    from goku_core.models import Goku
    from goku_core.train.freezing import freeze as take_out
    from goku_core.train.optimizers import is_block_matrix

    with torch.device("meta"):
        model = Goku(config)
    take_out(model, freeze)
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    muon = request.optimizer == "muon"
    return Parameters(
        total=sum(p.numel() for p in model.parameters()),
        trained=sum(p.numel() for _, p in trained),
        one_moment=sum(p.numel() for name, p in trained if muon and is_block_matrix(name, p)),
        largest_block=max(sum(p.numel() for p in block.parameters()) for block in model.blocks),
    )


@dataclass(frozen=True)
class Operations:
    """FLOP of one forward pass of a sample."""

    matmul: float
    attention: float

    def __add__(self, other: Operations) -> Operations:
        return Operations(self.matmul + other.matmul, self.attention + other.attention)


def operations(config: GokuConfig, tokens: float, squares: float, text_tokens: float, samples: float) -> Operations:
    """Of samples with `tokens` in all, `squares` the sum of their squared lengths, and `text_tokens` each."""
    d, f, depth = config.width, config.ffn, config.depth
    per_token = 8.0 * d * d + 4.0 * d * f  # query, key, value and output; both layers of the feed-forward
    per_sample = 12.0 * d * d  # modulation
    cross = 0.0
    if config.text_width:
        per_token += 4.0 * d * d
        per_sample += 4.0 * d * config.text_width * text_tokens
        cross = 4.0 * d * text_tokens * tokens
    edges = 4.0 * d * config.token_width * tokens
    return Operations(depth * (per_token * tokens + per_sample * samples) + edges, depth * (4.0 * d * squares + cross))


def kept_per_token(config: GokuConfig, recomputation: Recomputation, value: int = 2) -> float:
    """Bytes of a token that one block keeps for its backward pass; `value`: bytes of an activation (2: bfloat16).

    Read off the block from top to bottom (`models/transformer.py`). Modulation and gates are in float32 whatever the activations
    are; attention keeps the logarithm of its sum per head, norms a value or two per token.
    """
    d, f = config.width, config.ffn
    text = bool(config.text_width)
    logs = 4 * config.heads * (2 if text else 1)
    if recomputation == "full":
        return float(value * d)  # its input
    if recomputation == "selective":
        # Its input, and the results of: q k v, attention, output; cross q, attention, output; both of the feed-forward.
        return value * ((1 + 3 + 1 + 1 + 1) * d + f + (3 * d if text else 0)) + logs
    # Input, modulated input, q k v as made, q and k as turned, attended; then what the feed-forward is given.
    half = (1 + 1 + 3 + 2 + 1) * d + (1 + 1) * d + 2 * f
    # Given to cross-attention (before and behind its norm: the former is the feed-forward's residual), its q, turned q, attended.
    half += (5 if config.qk_norm else 4) * d if text else 0
    norms = 8 + 4 * (2 if config.qk_norm else 0) + 4 + (4 + (4 if config.qk_norm else 0) if text else 0)
    # Two modulations keep their input and scale, two gates their update and gate.
    return value * half + 4 * 8 * d + logs + norms


def kept_per_text_token(config: GokuConfig, recomputation: Recomputation, value: int = 2) -> float:
    """The same of a token of the text: keys and values as made, keys as normed."""
    if not config.text_width or recomputation == "full":
        return 0.0
    normed = 1 if recomputation == "none" and config.qk_norm else 0
    return float(value * config.width * (2 + normed))


def kept_of_block(config: GokuConfig, recomputation: Recomputation, tokens: float, text_tokens: float) -> float:
    """Bytes of a pack that one block keeps, in bfloat16."""
    kept = kept_per_token(config, recomputation) * tokens + kept_per_text_token(config, recomputation) * text_tokens
    # Modulation is computed in float32: its weights are kept in that type, beside the bfloat16 ones.
    return kept + (4 * 6 * config.width**2 if recomputation == "none" else 0)


def edges_per_token(config: GokuConfig, value: int = 2) -> float:
    """Bytes of a token outside the blocks: the pack itself, embedding, final modulation, velocity and loss."""
    pack = 4 * config.token_width * (4 if config.image_condition else 3) + 3 * 8 + 4
    return pack + value * 2 * config.token_width + (8 + 2 * value) * config.width + 3 * 4 * config.token_width

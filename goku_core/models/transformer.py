"""The Goku transformer: one network for pictures and clips (paper section 2.2; block details of the authors' code).

Reads from top to bottom as the paper's figure. Shapes: N tokens of a pack, S samples in it, M text tokens, d model width,
C latent channels. A token is a 1x2x2 patch of the latent, so it has C*4 values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goku_core.models.attention import Scope, SequenceParallel, attention_over_ranks, packed_attention, resolve
from goku_core.models.config import GokuConfig
from goku_core.models.layout import Layout
from goku_core.models.norm import RMSNorm
from goku_core.models.recomputation import Recomputation, recomputed
from goku_core.models.rope import RopeTables, rotate


@dataclass(frozen=True)
class Place:
    """Where the tokens of a pack stand, the same for all blocks: made once per forward pass.

    layout      which token belongs to which sample
    rope        cosines and sines of the tokens' coordinates; None where positions are added to the tokens instead
    within      scope of the self-attention: the token's own sample
    to_text     scope of the cross-attention: the text of the token's sample; None without text
    spread      the pack that these tokens are a slice of, where it lies on several ranks; `within` is then that of the whole pack
    """

    layout: Layout
    rope: tuple[Tensor, Tensor] | None
    within: Scope
    to_text: Scope | None
    spread: SequenceParallel | None = None


class TimeEmbedding(nn.Module):
    """Time in [0, 1] (S,) -> (S, d): 256 sinusoids and two linear layers, shared by all blocks."""

    SINUSOIDS = 256

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(self.SINUSOIDS, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, time: Tensor) -> Tensor:
        half = self.SINUSOIDS // 2
        frequency = torch.exp(-math.log(10000.0) * torch.arange(half, device=time.device) / half)
        # 1000: the usual scale, under which neighbouring times of a hundred-step sampler stay distinguishable
        angle = 1000.0 * time.float()[:, None] * frequency
        sinusoids = torch.cat((angle.cos(), angle.sin()), dim=-1).to(self.fc1.weight.dtype)
        return self.fc2(F.silu(self.fc1(sinusoids)))


class Modulation(nn.Module):
    """adaLN-Zero: time embedding (S, d) -> `chunks` tensors (S, d) of at least float32, zero at the start of training."""

    def __init__(self, width: int, chunks: int) -> None:
        super().__init__()
        self.chunks = chunks
        self.linear = nn.Linear(width, chunks * width)

    def forward(self, time: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(time.device.type, enabled=False):
            weight, bias = at_least_float32(self.linear.weight), at_least_float32(self.linear.bias)
            return F.linear(F.silu(time.to(weight.dtype)), weight, bias).chunk(self.chunks, dim=-1)


def at_least_float32(x: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def modulate(x: Tensor, shift: Tensor, scale: Tensor, layout: Layout) -> Tensor:
    """x (N, d) scaled and shifted by its sample's (S, d) values, computed in their type, returned in that of x."""
    return torch.addcmul(layout.spread(shift), x.to(shift.dtype), layout.spread(1 + scale)).to(x.dtype)


def gated(x: Tensor, update: Tensor, gate: Tensor, layout: Layout) -> Tensor:
    """Residual x (N, d) plus the update times its sample's gate (S, d), computed in the gate's type."""
    return torch.addcmul(x.to(gate.dtype), layout.spread(gate), update.to(gate.dtype)).to(x.dtype)


class SelfAttention(nn.Module):
    """Full attention over all space-time tokens of a sample, RMSNorm on q and k over the whole width, 3D RoPE."""

    def __init__(self, width: int, heads: int, qk_norm: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm = RMSNorm(width) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(width) if qk_norm else nn.Identity()
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, place: Place) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)) for t in (self.q_norm(q), self.k_norm(k), v))
        q, k = rotate(q, place.rope), rotate(k, place.rope)
        if place.spread is None:
            out = packed_attention(q, k, v, place.within)
        else:
            out = attention_over_ranks(q, k, v, place.within, place.spread)
        return self.out(out.flatten(-2))


class CrossAttention(nn.Module):
    """From each token to the text of its sample. RoPE turns q only: text tokens have no place on the grid."""

    def __init__(self, width: int, heads: int, text_width: int, qk_norm: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(text_width, 2 * width, bias=False)
        self.q_norm = RMSNorm(width) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(width) if qk_norm else nn.Identity()
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, text: Tensor, place: Place) -> Tensor:
        k, v = self.kv(text).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)) for t in (self.q_norm(self.q(x)), self.k_norm(k), v))
        out = packed_attention(rotate(q, place.rope), k, v, place.to_text)
        return self.out(out.flatten(-2))


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Block(nn.Module):
    """Self-attention, cross-attention to text, feed-forward; time enters by adaLN-Zero with weights of its own."""

    def __init__(self, config: GokuConfig) -> None:
        super().__init__()
        d = config.width
        self.modulation = Modulation(d, 6)
        self.norm1 = nn.LayerNorm(d, eps=1e-6, elementwise_affine=False)
        self.self_attention = SelfAttention(d, config.heads, config.qk_norm)
        if config.text_width:
            self.norm2 = RMSNorm(d)
            self.cross_attention = CrossAttention(d, config.heads, config.text_width, config.qk_norm)
        self.norm3 = RMSNorm(d)
        self.feed_forward = FeedForward(d, config.ffn)

    def forward(self, x: Tensor, time: Tensor, text: Tensor | None, place: Place) -> Tensor:
        """x (N, d), time (S, d), text (M, text_width) -> (N, d)."""
        layout = place.layout
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(time)
        attended = self.self_attention(modulate(self.norm1(x), shift1, scale1, layout), place)
        x = gated(x, attended, gate1, layout)
        if text is not None:
            x = x + self.cross_attention(self.norm2(x), text, place)
        fed = self.feed_forward(modulate(self.norm3(x), shift2, scale2, layout))
        return gated(x, fed, gate2, layout)


class Goku(nn.Module):
    """Velocity of the rectified flow at (x_t, t) under a text or a class, and for image-to-video under a first frame.

    attention      back end: "auto" or a name of `attention.BACKENDS`
    recomputation  what the backward pass computes again instead of keeping: "none", "selective" or "full"
    """

    def __init__(self, config: GokuConfig, attention: str = "auto", recomputation: Recomputation = "none") -> None:
        super().__init__()
        self.config, self.attention, self.recomputation = config, attention, recomputation
        self.rope = RopeTables(config.head_width if config.position == "rope" else config.width, config.rope_base)
        d = config.width
        self.embed = nn.Linear(config.token_width, d)
        # The first frame's latent, broadcast over time, joins the noised tokens on the channel axis (paper section 2.5).
        # A linear layer over concatenated channels is the sum of two linear layers; the new one starts at zero, so that
        # image-to-video starts as the text-to-video model it comes from.
        self.embed_condition = nn.Linear(config.token_width, d) if config.image_condition else None
        self.time_embedding = TimeEmbedding(d)
        # One row more than there are classes: the null label.
        self.embed_label = nn.Embedding(config.classes + 1, d) if config.classes else None
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final_norm = nn.LayerNorm(d, eps=1e-6, elementwise_affine=False)
        self.final_modulation = Modulation(d, 2)
        self.final = nn.Linear(d, config.token_width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier for every linear layer, zero for gates and output (adaLN-Zero), 0.02 for the time layers and labels."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for linear in (self.time_embedding.fc1, self.time_embedding.fc2):
            nn.init.normal_(linear.weight, std=0.02)
        if self.embed_label is not None:
            nn.init.normal_(self.embed_label.weight, std=0.02)
        zeros: list[nn.Linear] = [self.final, self.final_modulation.linear]
        zeros += [block.modulation.linear for block in self.blocks]
        if self.embed_condition is not None:
            zeros.append(self.embed_condition)
        for linear in zeros:
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        tokens: Tensor,
        coords: Tensor,
        cu_seqlens: Tensor,
        time: Tensor,
        text: Tensor | None = None,
        text_cu_seqlens: Tensor | None = None,
        condition: Tensor | None = None,
        label: Tensor | None = None,
        spread: SequenceParallel | None = None,
    ) -> Tensor:
        """tokens (N, C*4), coords (N, 3) int, cu_seqlens (S+1,) int32, time (S,), text (M, text_width),
        text_cu_seqlens (S+1,), condition (N, C*4) or None, label (S,) int64 -> velocity (N, C*4).

        With `spread`, all of these are this rank's slice of the pack: its own tokens, and of the samples those that it has
        tokens of.

        Raises ValueError where the inputs are not those that the config names.
        """
        self._check(text, condition, label)
        x = self.embed(tokens)
        if condition is not None:
            x = x + self.embed_condition(condition)
        if self.config.position == "sinusoidal":
            x = x + torch.cat(self.rope(coords), dim=-1).to(x.dtype)
        embedded_time = self.time_embedding(time)
        if label is not None:
            embedded_time = embedded_time + self.embed_label(label)
        place = self._place(coords, cu_seqlens, text_cu_seqlens, spread, x)
        if text is not None:
            torch._dynamo.maybe_mark_dynamic(text, 0)
        torch._dynamo.maybe_mark_dynamic(embedded_time, 0)
        for block in self.blocks:
            x = recomputed(block, self.recomputation, x, embedded_time, text, place)
        shift, scale = self.final_modulation(embedded_time)
        return self.final(modulate(self.final_norm(x), shift, scale, place.layout))

    def _check(self, text: Tensor | None, condition: Tensor | None, label: Tensor | None) -> None:
        config = self.config
        if (text is None) != (config.text_width == 0):
            raise ValueError(
                f"this model {'needs' if config.text_width else 'takes no'} text: text_width={config.text_width}"
            )
        if (label is None) != (config.classes == 0):
            raise ValueError(f"this model {'needs' if config.classes else 'takes no'} labels: classes={config.classes}")
        if condition is not None and self.embed_condition is None:
            raise ValueError("this model has no image condition: its config says image_condition=False")

    def _place(
        self,
        coords: Tensor,
        cu_seqlens: Tensor,
        text_cu_seqlens: Tensor | None,
        spread: SequenceParallel | None,
        x: Tensor,
    ) -> Place:
        dtype = torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype
        backend = resolve(self.attention, x.device, dtype)
        layout = Layout(cu_seqlens)
        whole = layout if spread is None else Layout(spread.cu_seqlens)
        within, to_text = Scope(whole, whole, backend), None
        if text_cu_seqlens is not None:
            to_text = Scope(layout, Layout(text_cu_seqlens), backend)
            to_text.keys.leave_sizes_open()
        for open_layout in {layout, whole}:
            open_layout.leave_sizes_open()
        rope = self.rope(coords) if self.config.position == "rope" else None
        return Place(layout, rope, within, to_text, spread)

    def compile_blocks(self, **options: object) -> None:
        """Compiles each block as a whole (`torch.compile`, fullgraph); one compilation serves all blocks and all packs of a
        fixed token budget, whatever samples are in them."""
        for block in self.blocks:
            block.compile(fullgraph=True, **options)


def parameter_count(config: GokuConfig) -> int:
    """Parameters of the network, counted on the meta device: nothing is allocated."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in Goku(config).parameters())

"""The Goku transformer: one network for pictures and clips (paper section 2.2; block details of the authors' code).

Reads from top to bottom as the paper's figure. Shapes: N tokens of a pack, S samples in it, M text tokens, d model width,
C latent channels. A token is a 1x2x2 patch of the latent, so it has C*4 values.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from goku_core.models.attention import packed_attention
from goku_core.models.config import GokuConfig
from goku_core.models.layout import Layout
from goku_core.models.rope import rope_table, rotate

RopeTable = tuple[Tensor, Tensor]


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
    """adaLN-Zero: time embedding (S, d) -> `chunks` tensors (S, d), zero at the start of training."""

    def __init__(self, width: int, chunks: int) -> None:
        super().__init__()
        self.chunks = chunks
        self.linear = nn.Linear(width, chunks * width)

    def forward(self, time: Tensor) -> tuple[Tensor, ...]:
        return self.linear(F.silu(time)).chunk(self.chunks, dim=-1)


def modulate(x: Tensor, shift: Tensor, scale: Tensor, layout: Layout) -> Tensor:
    """x (N, d) scaled and shifted by its sample's (S, d) values."""
    return torch.addcmul(layout.spread(shift), x, 1 + layout.spread(scale))


class SelfAttention(nn.Module):
    """Full attention over all space-time tokens of a sample, RMSNorm on q and k over the whole width, 3D RoPE."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm = nn.RMSNorm(width, eps=1e-6)
        self.k_norm = nn.RMSNorm(width, eps=1e-6)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, layout: Layout, rope: RopeTable) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)) for t in (self.q_norm(q), self.k_norm(k), v))
        out = packed_attention(rotate(q, rope), rotate(k, rope), v, layout, layout)
        return self.out(out.flatten(-2))


class CrossAttention(nn.Module):
    """From each token to the text of its sample. RoPE turns q only: text tokens have no place on the grid."""

    def __init__(self, width: int, heads: int, text_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(text_width, 2 * width, bias=False)
        self.q_norm = nn.RMSNorm(width, eps=1e-6)
        self.k_norm = nn.RMSNorm(width, eps=1e-6)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, layout: Layout, rope: RopeTable, text: Tensor, text_layout: Layout) -> Tensor:
        k, v = self.kv(text).chunk(2, dim=-1)
        q, k, v = (t.unflatten(-1, (self.heads, -1)) for t in (self.q_norm(self.q(x)), self.k_norm(k), v))
        out = packed_attention(rotate(q, rope), k, v, layout, text_layout)
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
        self.self_attention = SelfAttention(d, config.heads)
        self.norm2 = nn.RMSNorm(d, eps=1e-6)
        self.cross_attention = CrossAttention(d, config.heads, config.text_width)
        self.norm3 = nn.RMSNorm(d, eps=1e-6)
        self.feed_forward = FeedForward(d, config.ffn)

    def forward(
        self, x: Tensor, time: Tensor, layout: Layout, rope: RopeTable, text: Tensor, text_layout: Layout
    ) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(time)
        attended = self.self_attention(modulate(self.norm1(x), shift1, scale1, layout), layout, rope)
        x = x + layout.spread(gate1) * attended
        x = x + self.cross_attention(self.norm2(x), layout, rope, text, text_layout)
        fed = self.feed_forward(modulate(self.norm3(x), shift2, scale2, layout))
        return x + layout.spread(gate2) * fed


class Goku(nn.Module):
    """Velocity of the rectified flow at (x_t, t) under a text, and for image-to-video under a first frame."""

    def __init__(self, config: GokuConfig) -> None:
        super().__init__()
        self.config = config
        d = config.width
        self.embed = nn.Linear(config.token_width, d)
        # The first frame's latent, broadcast over time, joins the noised tokens on the channel axis (paper section 2.5).
        # A linear layer over concatenated channels is the sum of two linear layers; the new one starts at zero, so that
        # image-to-video starts as the text-to-video model it comes from.
        self.embed_condition = nn.Linear(config.token_width, d) if config.image_condition else None
        self.time_embedding = TimeEmbedding(d)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final_norm = nn.LayerNorm(d, eps=1e-6, elementwise_affine=False)
        self.final_modulation = Modulation(d, 2)
        self.final = nn.Linear(d, config.token_width)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Xavier for every linear layer, zero for gates and output (adaLN-Zero), 0.02 for the time layers."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for linear in (self.time_embedding.fc1, self.time_embedding.fc2):
            nn.init.normal_(linear.weight, std=0.02)
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
        text: Tensor,
        text_cu_seqlens: Tensor,
        condition: Tensor | None = None,
    ) -> Tensor:
        """tokens (N, C*4), coords (N, 3) int, cu_seqlens (S+1,) int32, time (S,), text (M, text_width),
        text_cu_seqlens (S+1,), condition (N, C*4) or None -> velocity (N, C*4)."""
        layout, text_layout = Layout(cu_seqlens), Layout(text_cu_seqlens)
        rope = rope_table(coords, self.config.head_width, self.config.rope_base)
        x = self.embed(tokens)
        if condition is not None:
            if self.embed_condition is None:
                raise ValueError("this model has no image condition: its config says image_condition=False")
            x = x + self.embed_condition(condition)
        embedded_time = self.time_embedding(time)
        for block in self.blocks:
            x = block(x, embedded_time, layout, rope, text, text_layout)
        shift, scale = self.final_modulation(embedded_time)
        return self.final(modulate(self.final_norm(x), shift, scale, layout))

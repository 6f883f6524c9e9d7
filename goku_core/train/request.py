"""Parameters of stage `train`: the network and the curriculum of phases (paper section 2.4)."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from goku_core.pipeline.identity import HOW
from goku_core.pipeline.rules import PHASE, RESOLUTION, Rule, Rules
from goku_core.train.checkpoint import Checkpointing
from goku_core.train.data_request import Cost, Data
from goku_core.train.health.request import FaultSettings, WatchSettings
from goku_core.train.held_out import Validation
from goku_core.train.parallel.request import Parallel

FROM_SCRATCH = "vae"
NUMBERS = ("depth", "width", "heads", "ffn")  # of a custom network


class Transport(BaseModel):
    """How training times are drawn (our choices: the paper is silent)."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra=Rules(
            Rule({"law": {"const": "logit-normal"}}, {"scale": {"exclusiveMinimum": 0}}),
            Rule({"law": {"const": "mode"}}, {"scale": {"minimum": -1, "maximum": 1.75}}),
        ),
    )

    law: Literal["uniform", "logit-normal", "mode"] = Field("logit-normal", description="law of the training time t")
    location: float = Field(
        0.0, description="mean of the normal (logit-normal only); below 0 draws more times near noise"
    )
    scale: float = Field(
        1.0,
        description="logit-normal: deviation of the normal; mode: -1 to 1.75, above 0 draws more times around 1/2",
    )
    shift: float = Field(1.0, gt=0, description="> 1 moves times towards noise, for long sequences")
    shift_law: Literal["constant", "tokens"] = Field(
        "constant", description="tokens: a sample of n tokens gets shift * sqrt(n / base_tokens)"
    )
    base_tokens: int = Field(576, ge=1, description="tokens at which shift_law tokens gives shift itself")

    @model_validator(mode="after")
    def _scale_fits_the_law(self) -> Transport:
        if self.law == "logit-normal" and self.scale <= 0:
            raise ValueError(f"scale {self.scale:g}: the deviation of logit-normal must be above 0")
        if self.law == "mode" and not -1.0 <= self.scale <= 1.75:
            raise ValueError(f"scale {self.scale:g}: law mode takes -1 to 1.75")
        return self


class Sampling(BaseModel):
    """How previews and evaluations sample from the phase's model. Becomes `transport.SamplingSettings`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra=Rules(
            Rule(
                {},
                {
                    "guidance_interval": {
                        "prefixItems": [{"minimum": 0, "exclusiveMaximum": 1}, {"exclusiveMinimum": 0, "maximum": 1}]
                    }
                },
            )
        ),
    )

    steps: int = Field(24, ge=1, description="solver steps; the adaptive solver makes its own")
    solver: Literal["euler", "midpoint", "heun", "adaptive"] = Field(
        "euler", description="solver; evaluations of the network per step: 1, 2, 2, 3"
    )
    guidance: float = Field(3.0, ge=0, description="classifier-free guidance scale; 1 is none")
    shift: float = Field(1.0, gt=0, description="> 1 spends more steps near noise")
    shift_law: Literal["constant", "tokens"] = Field(
        "constant", description="tokens: a sample of n tokens gets shift * sqrt(n / base_tokens)"
    )
    base_tokens: int = Field(576, ge=1, description="tokens at which shift_law tokens gives shift itself")
    guidance_interval: tuple[float, float] = Field(
        (0.0, 1.0), description="times (0 noise, 1 data) between which guidance acts"
    )
    guidance_rescale: float = Field(
        0.0, ge=0, le=1, description="share of the guided velocity's spread set back to the unguided one's"
    )
    tolerance: float = Field(1e-3, gt=0, description="relative and absolute, of a step (adaptive only)")
    max_evaluations: int = Field(500, ge=4, description="of the network, per sample (adaptive only)")
    preset: Literal["few-step"] | None = Field(
        None, description="few-step: its own steps, solver and shift replace those above; null for none"
    )

    @model_validator(mode="after")
    def _interval_is_one(self) -> Sampling:
        low, high = self.guidance_interval
        if not 0 <= low < high <= 1:
            raise ValueError(f"guidance_interval [{low:g}, {high:g}]: needs 0 <= low < high <= 1 (0 noise, 1 data)")
        return self


class Previews(BaseModel):
    """Prompts sampled after every phase, with fixed seeds."""

    model_config = ConfigDict(extra="forbid")

    images: list[str] = Field(default_factory=list, description="prompts of pictures")
    clips: list[str] = Field(default_factory=list, description="prompts of clips; image-to-video takes data instead")


class Phase(BaseModel):
    """One leg of the curriculum."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra=Rules(
            Rule({"images": {"const": 0}}, {"clips": {"exclusiveMinimum": 0}}),
            Rule({"image_condition": {"const": True}}, {"clips": {"exclusiveMinimum": 0}}),
        ),
    )

    init_from: str = Field(
        description='name of the phase it continues, or "vae" for a new network over this latent space',
        json_schema_extra=PHASE,
    )
    resolution: str = Field(description="name of a resolution of `precompute`", json_schema_extra=RESOLUTION)
    steps: int = Field(ge=1, description="optimizer steps")
    images: float = Field(1.0, ge=0, description="share of pictures among samples, against `clips`")
    clips: float = Field(0.0, ge=0, description="share of clips among samples, against `images`")
    tokens: int = Field(2048, ge=16, description="token budget of a step, over all ranks")
    pack_tokens: int | None = Field(
        None,
        ge=16,
        description="most tokens of one pack: what one forward pass of a group of ranks holds; null: no limit",
        json_schema_extra=HOW,
    )
    recomputation: Literal["none", "selective", "full"] | None = Field(
        None,
        description="what the backward pass computes again in this phase; null: what `parallel` says",
        json_schema_extra=HOW,
    )
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")
    warmup: int = Field(50, ge=0, description="steps of linear warm-up")
    decay: float = Field(
        0.3, ge=0, le=1, description="share of the steps, at the end, over which the rate falls to 1 %"
    )
    image_condition: bool = Field(False, description="image-to-video: the first frame is given")
    freeze: list[str] = Field(
        default_factory=list,
        description="modules that do not train, by name or pattern: blocks.*.cross_attention, embed, blocks.[0-3]; [] for none",
    )

    @model_validator(mode="after")
    def _mix_is_not_empty(self) -> Phase:
        if self.images + self.clips <= 0:
            raise ValueError("images and clips are both 0: at least one of them must be above 0")
        if self.image_condition and self.clips <= 0:
            raise ValueError("image_condition needs clips above 0: there is no first frame to continue in a picture")
        return self


class Model(BaseModel):
    """The network: a named size, or `custom` with its own numbers."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra=Rules(
            Rule({"name": {"const": "custom"}}, {key: {"type": "integer"} for key in NUMBERS}),
            Rule({"name": {"not": {"const": "custom"}}}, {key: {"type": "null"} for key in NUMBERS}),
        ),
    )

    name: Literal["nano", "1b", "2b", "8b", "2b-h128", "8b-h128", "custom"] = Field("nano", description="size by name")
    depth: int | None = Field(None, ge=1, description="layers (custom only)")
    width: int | None = Field(None, ge=16, description="model width (custom only)")
    heads: int | None = Field(None, ge=1, description="attention heads (custom only)")
    ffn: int | None = Field(None, ge=16, description="width of the feed-forward layer (custom only)")
    position: Literal["rope", "sinusoidal"] = Field(
        "rope",
        description="where a token stands: rope (paper section 2.2), or sinusoidal, added to the tokens as in DiT",
    )
    qk_norm: bool = Field(True, description="RMSNorm on queries and keys (paper section 2.2)")

    @model_validator(mode="after")
    def _custom_is_complete(self) -> Model:
        numbers = (self.depth, self.width, self.heads, self.ffn)
        if self.name == "custom" and None in numbers:
            raise ValueError("name: custom needs depth, width, heads and ffn")
        if self.name != "custom" and any(n is not None for n in numbers):
            raise ValueError(f"depth, width, heads and ffn belong to name: custom; {self.name} has its own")
        if self.name == "custom" and (self.width % self.heads or (self.width // self.heads) % 2):
            raise ValueError(f"width {self.width} must be an even multiple of heads {self.heads}")
        return self


class TrainRequest(BaseModel):
    """The curriculum: phases in order; each names the one it continues."""

    model_config = ConfigDict(extra="forbid")

    model: Model = Field(default_factory=Model)
    phases: dict[str, Phase] = Field(min_length=1, description="by name, in order")
    transport: Transport = Field(default_factory=Transport)
    sampling: Sampling = Field(default_factory=Sampling)
    optimizer: Literal["adamw", "muon"] = Field("adamw", description="muon: matrices by Muon, the rest by AdamW")
    muon_ratio: float = Field(2.0, gt=0, description="Muon's learning rate in units of AdamW's")
    weight_decay: float = Field(0.01, ge=0, description="decoupled weight decay")
    clip_norm: float = Field(1.0, gt=0, description="gradients are scaled down to this norm")
    ema_decay: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights")
    text_dropout: float = Field(0.1, ge=0, le=1, description="share of samples that get the null text")
    image_dropout: float = Field(
        0.1, ge=0, le=1, description="share of clips that get no first frame (image-to-video); image guidance needs it"
    )
    parallel: Parallel = Field(default_factory=Parallel, description="ranks that share the work")
    checkpoint: Checkpointing = Field(
        default_factory=Checkpointing, description="when a run is saved, what stays, and where", json_schema_extra=HOW
    )
    watch: WatchSettings = Field(default_factory=WatchSettings, description="bad steps: when, and what then")
    faults: FaultSettings = Field(
        default_factory=FaultSettings, description="how ranks are supervised", json_schema_extra=HOW
    )
    log_every: int = Field(20, ge=1, description="steps between log entries")
    validation: Validation = Field(default_factory=Validation, description="loss of samples that are held out")
    previews: Previews = Field(default_factory=lambda: Previews())
    data: Data = Field(default_factory=Data, description="how latents are read", json_schema_extra=HOW)
    cost: Cost | None = Field(
        None,
        description="{linear, quadratic} of a sample of n tokens, as goku bench cost measures them; null: by FLOP",
        json_schema_extra=HOW,
    )

    @model_validator(mode="after")
    def _phases_continue_earlier_ones(self) -> TrainRequest:
        known = {FROM_SCRATCH}
        for name, phase in self.phases.items():
            if name == FROM_SCRATCH or not name.replace("_", "").isalnum():
                raise ValueError(f'phase name "{name}": letters, digits and underscores, and not "{FROM_SCRATCH}"')
            if phase.init_from not in known and len(self.phases) > 1:
                allowed = ", ".join(sorted(known))
                raise ValueError(
                    f'phases.{name}.init_from: "{phase.init_from}" is no earlier phase; allowed: {allowed}'
                )
            known.add(name)
        return self

    def parallel_of(self, phase: Phase) -> Parallel:
        """How ranks share a phase, with what the phase says itself."""
        return self.parallel.model_copy(update={"recomputation": phase.recomputation or self.parallel.recomputation})

    def for_phase(self, name: str) -> TrainRequest:
        """The same request with this phase alone: what one training run depends on."""
        return self.model_copy(update={"phases": {name: self.phases[name]}})

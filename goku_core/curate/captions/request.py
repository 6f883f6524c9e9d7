"""Parameters of `curate.captions`: who describes what, where it runs, and what a caption must be like."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from goku_core.pipeline.rules import Rule, Rules

Role = Literal["keyframes", "clip", "merge"]
ROLES: tuple[Role, ...] = ("keyframes", "clip", "merge")
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")


class Captioner(BaseModel):
    """One model and where it is asked."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra=Rules(
            Rule({"kind": {"enum": ["server", "transformers"]}}, {"model": {"minLength": 1}}),
            Rule({"kind": {"const": "server"}}, {"url": {"pattern": "[hH][tT][tT][pP][sS]?://"}}),
            Rule({"kind": {"const": "transformers"}}, {"send": {"const": "pictures"}}),
        ),
    )

    kind: Literal["none", "server", "transformers"] = Field(
        default="none", description="none, server (OpenAI-compatible, such as vLLM), or transformers (in this process)"
    )
    model: str = Field(default="", description="server: its name there; transformers: a local folder of safetensors")
    url: str = Field(default="", description="server: what stands before /chat/completions, http://HOST:8000/v1")
    key_variable: str = Field(
        default="", description="server: name of the environment variable with the API key, never the key; empty: none"
    )
    frames: int = Field(
        default=4, ge=0, le=128, description="frames shown at most, evenly spread (merge: 0, text only)"
    )
    send: Literal["pictures", "video"] = Field(
        default="pictures", description="frames as pictures, or as one video/jpeg (vLLM's form; server only)"
    )
    max_tokens: int = Field(default=512, ge=8, le=8192, description="length of an answer at most, tokens")
    temperature: float = Field(default=0.2, ge=0, le=2, description="of the first try; 0 is greedy (our choice)")

    @property
    def configured(self) -> bool:
        return self.kind != "none"

    @model_validator(mode="after")
    def _complete(self) -> Captioner:
        if self.configured and not self.model:
            raise ValueError(f"kind {self.kind} needs model")
        if self.kind == "server":
            address = urlsplit(self.url)
            if address.scheme not in ("http", "https") or not address.hostname:
                raise ValueError("kind server needs url, such as http://127.0.0.1:8000/v1")
            if address.username or address.password:
                raise ValueError("url holds a password: put it into an environment variable named by key_variable")
        if self.kind == "transformers" and self.send == "video":
            raise ValueError("send video is for servers; transformers gets pictures")
        if self.key_variable and not VARIABLE.fullmatch(self.key_variable):
            raise ValueError("key_variable is the name of an environment variable (CAPITALS_1), never the key itself")
        return self


class Checks(BaseModel):
    """What a model's caption must be like. Sidecars are taken as they are: a person wrote them."""

    model_config = ConfigDict(extra="forbid")

    language: Literal["en", "zh", "any"] = Field(default="en", description="language demanded (the paper's is English)")
    min_words: int = Field(default=8, ge=1, description="fewer words are no dense caption (our choice)")
    max_words: int = Field(default=400, ge=2, description="more are rambling (our choice)")
    max_repetition: float = Field(
        default=0.2, ge=0, le=1, description="share of 4-word sequences that stood there before, at most (our choice)"
    )

    @model_validator(mode="after")
    def _range(self) -> Checks:
        if self.min_words > self.max_words:
            raise ValueError(f"min_words ({self.min_words}) is above max_words ({self.max_words}): nothing passes")
        return self


class Captions(BaseModel):
    """Section `curate.captions`. Without a captioner, captions come from sidecars alone."""

    model_config = ConfigDict(extra="forbid")

    sidecars: Literal["fallback", "hint", "keep"] = Field(
        default="fallback",
        description="fallback: used where no model's caption passes; hint: shown to the models too; keep: what has a "
        "sidecar is not asked about",
    )
    keyframes: Captioner = Field(
        default_factory=Captioner, description="describes pictures, and clips by key frames (paper: InternVL2.0)"
    )
    clip: Captioner = Field(
        default_factory=lambda: Captioner(frames=16), description="describes clips as a whole (paper: Tarsier2)"
    )
    merge: Captioner = Field(
        default_factory=lambda: Captioner(frames=0), description="makes one caption of both (paper: Qwen2)"
    )
    templates: str = Field(
        default="", description="folder of the workspace whose *.j2 overrule the prompts of the package; empty: none"
    )
    retry_temperature: float = Field(
        default=0.7, ge=0, le=2, description="of the one more try after a caption failed its checks (our choice)"
    )
    concurrency: int = Field(default=16, ge=1, le=4096, description="requests under way at a time")
    timeout_seconds: float = Field(default=120.0, gt=0, description="longest wait for one answer, s")
    attempts: int = Field(default=5, ge=1, le=20, description="tries of one request while errors are transient")
    backoff_seconds: float = Field(
        default=1.0, ge=0, le=60, description="wait before the second try, s; doubles, at most 30 s"
    )
    failures_max: float = Field(
        default=0.01, ge=0, le=1, description="share of clips that may stay unanswered; more stops the stage"
    )
    device: str = Field(default="auto", description="transformers: auto (cuda where there is one), cpu, cuda:1 ...")
    checks: Checks = Field(default_factory=Checks, description="what a model's caption must be like")

    @model_validator(mode="after")
    def _merge_has_two(self) -> Captions:
        if self.merge.configured and not (self.keyframes.configured and self.clip.configured):
            raise ValueError("merge makes one caption of two: configure keyframes and clip as well")
        for role in ("keyframes", "clip"):
            if getattr(self, role).configured and getattr(self, role).frames == 0:
                raise ValueError(f"{role}.frames is 0: it would describe what it does not see")
        return self

    @property
    def configured(self) -> list[Role]:
        """Roles that have a model, in the order in which they are asked."""
        return [role for role in ROLES if getattr(self, role).configured]

    @property
    def needs_frames(self) -> bool:
        """Whether the survey must leave sampled frames for the captioners."""
        return bool(self.configured)

    def weights_in_use(self) -> list[str]:
        """Folders of models that run in this process: their content decides the captions."""
        return [own.model for own in (getattr(self, role) for role in self.configured) if own.kind == "transformers"]

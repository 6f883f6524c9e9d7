"""The recipe for one picture or clip: who is asked what, in which order, and what is taken when something fails.

Pictures: `keyframes` alone. Clips: `keyframes` and `clip` at once, then `merge` makes one caption of both. A caption
that fails its checks is asked for once more, with another temperature and seed. What then stands is, by name, the best
earlier one: merge, else clip, else keyframes, else the sidecar.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from goku_core.chat.answers import Answer, Answers, key_of
from goku_core.chat.server import Unanswered
from goku_core.chat.wording import tidy
from goku_core.curate.captions.camera import camera_words, lost
from goku_core.curate.captions.checks import problem
from goku_core.curate.captions.request import Captions, Role
from goku_core.curate.captions.templates import Templates

Frames = Callable[[Mapping[str, Any], int], Sequence[np.ndarray]]


class Model(Protocol):
    """Answers one question; `identity` names the model in the store of answers."""

    identity: str

    async def ask(self, prompt: str, images: Sequence[np.ndarray], temperature: float, seed: int) -> Answer: ...


@dataclass
class Caption:
    """text: "" where no model's caption passed; source: the role that wrote it; problems: of steps that failed."""

    text: str = ""
    source: str = "none"
    problems: list[str] = field(default_factory=list)
    unanswered: bool = False  # the server failed, or refused the request: no fault of a model's words
    transient: bool = False


@dataclass
class Recipe:
    """settings and what they led to; `frames(row, most)` reads the pictures that are shown, only when they are."""

    settings: Captions
    models: Mapping[Role, Model]
    answers: Mapping[tuple[Role, str], Answers]
    templates: Templates
    frames: Frames
    asked: int = 0  # questions that went to a model
    known: int = 0  # questions that the store of answers knew

    async def caption(self, row: Mapping[str, Any], sidecar: str) -> Caption:
        """row: of clips.parquet; sidecar: its text where models may see it, else ""."""
        facts = {"kind": row["kind"], "seconds": row["seconds"] or 0.0, "sidecar": sidecar}
        found = Caption()
        looks = "image" if row["kind"] == "image" else "keyframes"
        first: list[tuple[Role, Awaitable[str]]] = []
        if "keyframes" in self.models:
            first.append(("keyframes", self._checked("keyframes", looks, row, facts, found)))
        if "clip" in self.models and row["kind"] == "video":
            first.append(("clip", self._checked("clip", "clip", row, facts, found)))
        texts = dict(zip((r for r, _ in first), await asyncio.gather(*(a for _, a in first)), strict=True))
        for role, text in texts.items():  # the clip's caption, asked for last, is the better of the two
            if text:
                found.text, found.source = text, role
        if "merge" in self.models and texts.get("keyframes") and texts.get("clip"):
            facts |= {"keyframes": texts["keyframes"], "clip": texts["clip"], "camera": camera_words(texts["clip"])}
            if text := await self._checked("merge", "merge", row, facts, found):
                found.text, found.source = text, "merge"
        found.problems.sort()  # two models answer in any order
        return found

    async def _checked(
        self, role: Role, template: str, row: Mapping[str, Any], facts: dict[str, Any], found: Caption
    ) -> str:
        """A caption that passes its checks, or "" and an entry in `found.problems`."""
        own = getattr(self.settings, role)
        prompt, instructions = self.templates.render(template, facts), self.templates.instructions(template)
        wrong: str | None = None
        for number, temperature in enumerate((own.temperature, self.settings.retry_temperature)):
            try:
                answer = await self._answer(role, template, prompt, row, temperature, number)
            except Unanswered as error:
                found.unanswered, found.transient = True, found.transient or error.transient
                found.problems.append(f"{role}: unanswered: {error}")
                return ""
            text = tidy(answer.text)
            wrong = problem(text, self.settings.checks, instructions, answer.finish)
            if wrong is None and role == "merge" and (gone := lost(facts["clip"], text)):
                wrong = f"camera motion lost: {', '.join(gone)}"
            if wrong is None:
                return text
        found.problems.append(f"{role}: {wrong}")
        return ""

    async def _answer(
        self, role: Role, template: str, prompt: str, row: Mapping[str, Any], temperature: float, number: int
    ) -> Answer:
        own, answers = getattr(self.settings, role), self.answers[role, template]
        seed = int.from_bytes(hashlib.sha256(f"{row['clip_id']}\0{number}".encode()).digest()[:4], "big") >> 1
        key = key_of(
            {
                "clip": row["clip_id"],  # names the bytes: digest of the medium and span
                "model": self.models[role].identity,
                "template": self.templates.digests[template],
                "prompt": prompt,
                "frames": own.frames,
                "send": own.send,
                "max_tokens": own.max_tokens,
                "temperature": temperature,
                "seed": seed,
            }
        )
        if (known := answers.get(key)) is not None:
            self.known += 1
            return known
        images = await asyncio.to_thread(self.frames, row, own.frames) if own.frames else []
        if own.frames and not len(images):
            raise Unanswered("there are no frames of it to show", transient=False)
        self.asked += 1
        answer = await self.models[role].ask(prompt, images, temperature, seed)
        answers.put(key, answer)
        return answer

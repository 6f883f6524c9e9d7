"""Has a language model rewrite prompts, over HTTP. What it has answered is kept: a killed run asks for the rest only."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment

from goku_core.chat.answers import Answers, key_of
from goku_core.chat.server import Server, Unanswered, check
from goku_core.chat.wording import PREAMBLE, REFUSAL, tidy
from goku_core.evaluate.manifest import Prompt
from goku_core.evaluate.rewriting.rewriting import Rewriting
from goku_core.pipeline.errors import GokuError

ANSWERS = "answers"
TEMPLATES = {"image": "picture.j2", "video": "clip.j2"}
LEAST_WORDS = 5
TRIES = 3


@dataclass(frozen=True)
class Writer:
    """A model behind an OpenAI-compatible server, and how patiently it is asked (see `goku_core.chat.server`)."""

    model: str
    url: str
    key_variable: str = ""
    max_tokens: int = 512
    send: Literal["pictures", "video"] = "pictures"
    concurrency: int = 16
    timeout_seconds: float = 120.0
    attempts: int = 5
    backoff_seconds: float = 1.0
    temperature: float = 0.0
    retry_temperature: float = 0.7


class Template:
    """What the writer is told, with the prompt in it. digest: SHA-256 of the text."""

    def __init__(self, path: Path) -> None:
        """Raises GokuError where the file is missing or no template that shows the prompt."""
        if not path.is_file():
            raise GokuError(f"--template {path}: there is no such file")
        text = path.read_text(encoding="utf-8")
        self.digest = hashlib.sha256(text.encode()).hexdigest()
        try:
            self._template = SandboxedEnvironment(undefined=StrictUndefined, autoescape=False).from_string(text)
            shown = self.render("a prompt of its own")
        except TemplateError as error:
            raise GokuError(f"{path}: {error.message}. Its one variable is prompt.") from error
        if "a prompt of its own" not in shown:
            raise GokuError(f"{path}: the template does not show {{{{ prompt }}}}")

    def render(self, prompt: str) -> str:
        return self._template.render(prompt=prompt).strip()


def own_template(media: Literal["image", "video"]) -> Path:
    """The template of the package for pictures or clips."""
    return Path(__file__).parent / TEMPLATES[media]


def rewrite(
    prompts: Sequence[Prompt],
    writer: Writer,
    template: Template,
    folder: Path,
    on_prompts: Callable[[int], None] | None = None,
) -> Rewriting:
    """The rewriting of all prompts by one writer; answers are kept below `folder`.

    Raises GokuError where the server cannot be asked, or some prompt has no answer that will do; what was answered stays.
    """
    check(writer)
    words = asyncio.run(_rewrite(prompts, writer, template, folder, on_prompts or (lambda done: None)))
    return Rewriting(writer.model, template.digest, {p.prompt_id: p.text for p in prompts}, words)


async def _rewrite(
    prompts: Sequence[Prompt],
    writer: Writer,
    template: Template,
    folder: Path,
    on_prompts: Callable[[int], None],
) -> dict[str, str]:
    words: dict[str, str] = {}
    failed: dict[str, str] = {}
    with Answers(folder / ANSWERS, "rewrite", writer.model, template.digest) as answers:
        async with Server(writer, writer, asyncio.Semaphore(writer.concurrency)) as server:
            waiting = iter(prompts)  # shared: each worker takes the next prompt when it is done with one

            async def work(waiting: Iterator[Prompt]) -> None:
                for prompt in waiting:
                    try:
                        words[prompt.prompt_id] = await _one(prompt, writer, template, server, answers)
                    except Unanswered as error:
                        failed[prompt.prompt_id] = str(error)
                    on_prompts(1)

            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(2 * writer.concurrency, len(prompts))):
                        group.create_task(work(waiting))
            except BaseExceptionGroup as errors:
                raise _told(errors) from errors
    if failed:
        first, why = min(failed.items())
        raise GokuError(
            f"{len(failed)} of {len(prompts)} prompts were not rewritten, for example {first}: {why}. What was answered "
            "is kept: run the same command again, and only these are asked."
        )
    return words


async def _one(prompt: Prompt, writer: Writer, template: Template, server: Server, answers: Answers) -> str:
    """Words that will do. An answer that will not is asked for again, warmer and with another seed. Raises Unanswered."""
    told = template.render(prompt.text)
    why = ""
    for number in range(TRIES):
        temperature = writer.retry_temperature if number else writer.temperature
        seed = int.from_bytes(hashlib.sha256(f"{prompt.text}\0{number}".encode()).digest()[:4], "big") >> 1
        question = {
            "model": writer.model,
            "template": template.digest,
            "prompt": told,
            "max_tokens": writer.max_tokens,
            "temperature": temperature,
            "seed": seed,
        }
        key = key_of(question)
        answer = answers.get(key)
        if answer is None:
            answer = await server.ask(told, [], temperature, seed)
            answers.put(key, answer)
        text = tidy(answer.text)
        why = problem(text, answer.finish)
        if not why:
            return text
    raise Unanswered(f"{why} (asked {TRIES} times)", transient=False)


def problem(text: str, finish: str) -> str:
    """Why an answer is no prompt; "" where it is one."""
    if match := REFUSAL.search(text):
        return f"refusal: “{match[0]}”"
    if match := PREAMBLE.search(text):
        return f"talks to its reader: “{match[0]}”"
    if finish == "length":
        return "cut off: the answer reached max_tokens"
    if len(text.split()) < LEAST_WORDS:
        return f"{len(text.split())} words are no description"
    return ""


def _told(errors: BaseExceptionGroup) -> BaseException:
    """The GokuError where one is among them, else the first."""
    flat: list[BaseException] = []
    for error in errors.exceptions:
        flat.append(_told(error) if isinstance(error, BaseExceptionGroup) else error)
    return next((error for error in flat if isinstance(error, GokuError)), flat[0])

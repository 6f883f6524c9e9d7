"""Which models there are, what each does by default, and what an order comes to with one of them.

The ledger is read at every question, so that a promotion or a rollback counts from the next order on. A bundle's settings are
checked against its digest here; its weights are verified by the worker, before it loads them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from goku_core import orders
from goku_core.orders import Terms
from goku_core.pipeline.errors import GokuError
from goku_core.promote import bundle, ledger, promotion
from goku_core.promote.ledger import Entry
from goku_core.serve.limits import Limits
from goku_core.serve.orders import SIDE, ModelCard, Order, Refused, Size, Task, TaskCard

log = logging.getLogger("goku.serve")


@dataclass(frozen=True)
class Kind:
    """What a bundle has for one task: the settings of its network and of its sampling, and the tokens of a clip."""

    config: dict[str, Any]
    sampling: dict[str, Any]
    tokens: Callable[[int, int, int], int]


@dataclass(frozen=True)
class Bundle:
    digest: str
    folder: Path
    manifest: dict[str, Any]
    kinds: dict[str, Kind]


@dataclass(frozen=True)
class Settled:
    """An order with nothing left open. tokens: what its time and memory grow with."""

    bundle: Bundle
    entry: Entry
    terms: Terms
    tokens: int


class Shelf:
    """The models of a workspace."""

    def __init__(self, workspace: Path, limits: Limits) -> None:
        self.workspace, self.limits = workspace, limits
        self._lock = threading.Lock()
        self._read: tuple[object, list[Entry]] = (None, [])

    def entries(self) -> list[Entry]:
        """The ledger, read and checked again where a file of it changed. Raises GokuError where it does not hold."""
        folder = self.workspace / ledger.FOLDER
        files = sorted(folder.glob("*.json")) if folder.is_dir() else []
        state = [(file.name, (seen := file.stat()).st_mtime_ns, seen.st_size) for file in files]
        with self._lock:
            if self._read[0] != state:
                self._read = (state, ledger.read(self.workspace))
            return self._read[1]

    def named(self, name: str) -> str:
        """Digest of the bundle that a name means. Raises GokuError where there is none."""
        entries = self.entries()
        if not entries:
            raise GokuError(
                f"No model has been promoted in {self.workspace.name} yet. `make demo` or `goku run` trains, evaluates and "
                "promotes one."
            )
        return promotion.named(entries, name)

    def bundle(self, digest: str) -> Bundle:
        """Raises GokuError where it is not here, or its settings are not those it was made with."""
        folder = bundle.location(self.workspace, digest)
        if not folder.is_dir():
            raise GokuError(
                f"Bundle {digest[:12]} is missing although the ledger knows it. Restore it from a copy, or run `goku promote` "
                "where models/ still holds its weights."
            )
        return _described(folder, digest)

    def settle(self, order: Order, default: str) -> Settled:
        """Raises `Refused`: 404 unknown model, 422 what the model or this service cannot do, 503 the ledger does not hold."""
        try:
            self.entries()
        except GokuError as error:
            log.error("%s", error)
            raise Refused(
                503, "ledger", "The service cannot read its ledger. Its operator finds why in the log."
            ) from error
        try:
            digest = self.named(order.model or default)
            found = self.bundle(digest)
        except GokuError as error:
            raise Refused(404, "unknown-model", str(error)) from error
        entry = evidence(self.entries(), digest)
        kind = found.kinds.get(order.task)
        if kind is None:
            there = ", ".join(sorted(found.kinds)) or "none"
            raise Refused(422, "task", f"Version {entry.version} has no model for {order.task}; it has: {there}.")
        if bool(kind.config["model"].get("image_condition")) != (order.task == "i2v"):
            how = "needs a first frame" if order.task != "i2v" else "takes no first frame"
            raise Refused(422, "task", f"The model that version {entry.version} has for {order.task} {how}.")
        terms = orders.settled(
            kind.config, kind.sampling, digest, order.task != "t2i", order.frames, order.height, order.width, order.steps,
            order.guidance, order.image_guidance, None,
        )  # fmt: skip
        tokens = kind.tokens(terms.frames, terms.height, terms.width)
        self._check(order, terms, tokens)
        return Settled(found, entry, terms, tokens)

    def cards(self, loaded: Collection[str]) -> list[ModelCard]:
        """Every model whose bundle is here and whole in its settings, newest version first."""
        entries = self.entries()
        roles = ledger.roles(entries)
        cards = []
        for digest in dict.fromkeys(entry.bundle for entry in reversed(entries)):
            try:
                found = self.bundle(digest)
            except GokuError:
                continue  # it cannot be served: refused for lack of evidence, or removed
            entry = evidence(entries, digest)
            card = ModelCard(
                version=entry.version,
                digest=digest,
                aliases=[alias for alias, holder in roles.items() if holder == digest],
                decision=entry.decision,
                score=entry.score,
                interval=entry.interval,
                protocol=entry.protocol,
                tasks={task: self._card(task, kind) for task, kind in found.kinds.items()},
                loaded=digest in loaded,
            )
            cards.append(card)
        return sorted(cards, key=lambda card: -card.version)

    def _card(self, task: Task, kind: Kind) -> TaskCard:
        height, width = kind.config["resolution"]["height"], kind.config["resolution"]["width"]
        square = max(SIDE, SIDE * round(math.sqrt(height * width) / SIDE))
        clip = task != "t2i"
        terms = orders.settled(kind.config, kind.sampling, "", clip, *[None] * 7)
        sizes = dict.fromkeys([(height, width), (width, height), (square, square)])
        return TaskCard(
            height=height,
            width=width,
            frames=terms.frames,
            fps=terms.fps,
            steps=terms.steps,
            guidance=terms.guidance,
            sizes=[
                Size(height=tall, width=wide)
                for tall, wide in sizes
                if max(tall, wide) <= self.limits.side and kind.tokens(terms.frames, tall, wide) <= self.limits.tokens
            ],
        )

    def _check(self, order: Order, terms: Terms, tokens: int) -> None:
        limits = self.limits
        longest = max(len(order.prompt), len(order.negative or ""))
        for what, asked, most, unit in (
            ("prompt", longest, limits.prompt, "characters"),
            ("size", max(terms.height, terms.width), limits.side, "px on a side"),
            ("frames", terms.frames, limits.frames, "frames"),
            ("steps", terms.steps, limits.steps, "steps"),
            ("tokens", tokens, limits.tokens, "tokens (make it smaller or shorter)"),
        ):
            if asked > most:
                raise Refused(422, what, f"{what}: {asked} {unit}, this service draws at most {most}.")
        if order.negative is not None and terms.guidance == 1.0 and terms.image_guidance in (None, 1.0):
            raise Refused(
                422, "negative", "negative: acts through guidance, and this model's is 1, none; give one above 1."
            )
        if order.deadline_s is not None and order.deadline_s > limits.deadline_s:
            raise Refused(422, "deadline_s", f"deadline_s: this service waits {limits.deadline_s:g} s at most.")


def evidence(entries: list[Entry], digest: str) -> Entry:
    """The newest entry about a bundle that was no return to it: it has the evidence and the decision."""
    about = [entry for entry in entries if entry.bundle == digest]
    return next((entry for entry in reversed(about) if entry.decision != "rolled-back"), about[-1])


@lru_cache(maxsize=64)
def _described(folder: Path, digest: str) -> Bundle:
    manifest = json.loads(_checked(folder, bundle.MANIFEST, digest, digest))
    files = {name: facts["sha256"] for name, facts in manifest["files"].items()}

    def config(name: str) -> dict[str, Any]:
        return json.loads(_checked(folder, name, files.get(name), digest))

    tasks: dict[str, str] = config(bundle.SETTINGS)["tasks"]
    config(f"vae/{bundle.SETTINGS}")
    return Bundle(
        digest,
        folder,
        manifest,
        {task: _kind(config(f"{place}/{bundle.SETTINGS}"), folder) for task, place in tasks.items()},
    )


def _checked(folder: Path, name: str, wanted: str | None, digest: str) -> bytes:
    try:
        content = (folder / name).read_bytes()
    except OSError as error:
        raise GokuError(f"Bundle {digest[:12]}: {name} cannot be read ({error.strerror}). {_MEND}") from error
    if hashlib.sha256(content).hexdigest() != wanted:
        raise GokuError(f"Bundle {digest[:12]}: {name} was changed after the bundle had been made. {_MEND}")
    return content


_MEND = "Run `goku promote` to make it again from models/, or restore it from a copy."


def _kind(config: dict[str, Any], folder: Path) -> Kind:
    from goku_core.models.folders import load_vae_config
    from goku_core.models.patches import token_grid
    from goku_core.transport import SamplingSettings

    latents, patch = load_vae_config(folder / "vae"), tuple(config["model"]["patch"])

    def tokens(frames: int, height: int, width: int) -> int:
        return math.prod(token_grid(latents.latent_shape(frames, height, width), patch))

    return Kind(config, asdict(SamplingSettings.from_json(config["sampling"])), tokens)

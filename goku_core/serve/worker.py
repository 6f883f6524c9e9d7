"""The worker: ``python -m goku_core.serve.worker DEVICE NETWORKS``, the only process that holds models.

Spoken to in JSON, a line per message: what is to be done on standard input, what became of it on standard output. What
libraries print goes to standard error. It works on one order at a time, each by itself: drawn in a batch with others a picture
could differ in its last bits, and an order must give the same bytes alone and under load.

It ends when standard input does, so it never outlives the service.
"""

from __future__ import annotations

import faulthandler
import json
import os
import queue
import sys
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from goku_core.orders import LEAST_FRAMES
from goku_core.pipeline.errors import GokuError

if TYPE_CHECKING:
    from goku_core.generate import Generator

NO_MEMORY = ("not enough memory", "can't allocate memory", "out of memory")  # what torch's allocators say of a CPU


class _Stopped(Exception):
    """The order in work is no longer wanted."""


class _Unloadable(Exception):
    """The bundle cannot be used; the message is for the user."""


class Networks:
    """Networks in memory, `most` at a time: the one used longest ago goes first.

    Bundles are verified before their first use, as for everybody who asks the ledger (`promote.promotion.resolve`).
    """

    def __init__(self, workspace: Path, device: str, most: int) -> None:
        self.workspace, self.device, self.most = workspace, device, most
        self._held: OrderedDict[tuple[str, str], Generator] = OrderedDict()
        self._verified: set[str] = set()

    def get(self, folder: Path, digest: str, task: str) -> Generator:
        """Raises `_Unloadable`."""
        from goku_core.generate import Generator
        from goku_core.promote import bundle, promotion

        try:
            if digest not in self._verified:
                folder, _ = promotion.resolve(self.workspace, digest)  # every file by its digest, and the signature
                self._verified.add(digest)
            tasks = json.loads((folder / bundle.SETTINGS).read_text(encoding="utf-8"))["tasks"]
            key = (digest, tasks[task])  # tasks can share a network
            if key not in self._held:
                while len(self._held) >= self.most:
                    self._held.popitem(last=False)
                beside = next((g for (bundle_of, _), g in self._held.items() if bundle_of == digest), None)
                self._held[key] = Generator.from_bundle(folder, task, self.device, beside)
        except GokuError as error:
            raise _Unloadable(str(error)) from error
        except OSError as error:
            raise _Unloadable(f"bundle {digest[:12]} cannot be read: {error.strerror or error}.") from error
        self._held.move_to_end(key)
        return self._held[key]

    def clear(self) -> None:
        self._held.clear()

    @property
    def digests(self) -> list[str]:
        return sorted({digest for digest, _ in self._held})


class Worker:
    """says: takes a message for the service. wanted: False for orders that were called off."""

    def __init__(self, networks: Networks, say: Callable[..., None], called_off: set[str]) -> None:
        from goku_core.media.credentials import Signer

        self.networks, self.say, self.called_off = networks, say, called_off
        self.signer = Signer.from_environment()

    def do(self, message: dict[str, Any]) -> None:
        """Answers every message, whatever happens to it."""
        try:
            answer = self._load(message) if message["kind"] == "load" else self._draw(message)
        except _Stopped:
            answer = {"kind": "stopped"}
        except _Unloadable as error:
            answer = {"kind": "failed", "code": "model", "message": str(error)}
        except GokuError as error:
            answer = {"kind": "failed", "code": "refused", "message": str(error)}
        except Exception as error:
            answer = self._fault(error)
        self.say(id=message["id"], digests=self.networks.digests, **answer)
        self.called_off.discard(message["id"])

    def _load(self, message: dict[str, Any]) -> dict[str, Any]:
        for task in message["tasks"]:
            self._go_on(message)
            _try(self.networks.get(Path(message["folder"]), message["digest"], task), task)
        return {"kind": "loaded"}

    def _draw(self, message: dict[str, Any]) -> dict[str, Any]:
        from goku_core.orders import Order, Terms, described, draw
        from goku_core.promote.bundle import sha256

        self._go_on(message)
        generator = self.networks.get(Path(message["folder"]), message["digest"], message["task"])
        out, image = Path(message["out"]), message["image"]
        order = Order(message["prompt"], message["seed"], out, message["negative"], Path(image) if image else None)
        terms = Terms(**message["terms"])

        def stepped(share: float) -> None:
            self._go_on(message)
            self.say(kind="progress", id=message["id"], share=share)

        self.say(kind="drawing", id=message["id"], digests=self.networks.digests)
        draw(generator, [order], terms, self.signer, on_step=stepped, dated=False)
        self._go_on(message)
        with out.open("rb") as file:
            os.fsync(file.fileno())  # before anybody is told that it is there
        provenance = described(order, terms).as_json()
        return {"kind": "drawn", "sha256": sha256(out), "bytes": out.stat().st_size, "provenance": provenance}

    def _go_on(self, message: dict[str, Any]) -> None:
        if message["id"] in self.called_off:
            raise _Stopped

    def _fault(self, error: Exception) -> dict[str, Any]:
        """What went wrong, without the words of a prompt: an exception of a library may quote them."""
        import torch

        told = str(error).lower()
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in told for words in NO_MEMORY):
            self.networks.clear()  # so that what comes next has all there is
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            return {"kind": "failed", "code": "out-of-memory", "message": "The memory does not suffice for this order."}
        traceback.print_tb(error.__traceback__)
        name = type(error).__name__
        return {"kind": "failed", "code": "internal", "message": f"{name} while drawing: the service's log says where."}


def _try(generator: Generator, task: str) -> None:
    """One step of the least it can draw: ready means that it draws, and nobody's first order waits for what loads late."""
    import numpy as np

    import goku_core.media.encode  # noqa: F401

    if task == "t2i":
        generator.images([""], [0], steps=1)
        return
    first = np.zeros((1, *generator.size, 3), np.uint8) if generator.model.config.image_condition else None
    generator.clips([""], [0], frames=LEAST_FRAMES, steps=1, first_frames=first)


def main() -> None:
    device, most = sys.argv[1:]
    # The answers keep a descriptor of their own; descriptor 1 then leads to standard error, also for native libraries.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    faulthandler.enable()

    def say(**message: Any) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    called_off: set[str] = set()
    inbox: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin, inbox, called_off), daemon=True).start()
    try:
        from goku_core.generate import Generator  # noqa: F401  torch and the networks: seconds, before anything is asked

        worker = Worker(Networks(Path.cwd(), device, int(most)), say, called_off)
    except GokuError as error:
        say(kind="broken", message=str(error))
        return
    say(kind="started")
    while True:
        worker.do(inbox.get())


def _listen(stream: IO[str], inbox: queue.Queue[dict[str, Any]], called_off: set[str]) -> None:
    for line in stream:
        message = json.loads(line)
        if message["kind"] == "stop":
            called_off.add(message["id"])
        else:
            inbox.put(message)
    os._exit(0)  # the service is gone: nobody waits for what is in work


if __name__ == "__main__":
    main()

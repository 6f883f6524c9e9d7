"""One promotion as a process of its own, that dies (as by SIGKILL) at a boundary: `python killed_promotion.py PLACE [TASKS]`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from goku_core.pipeline.context import Context
from goku_core.promote import bundle, ledger, promotion, registry
from goku_core.promote.request import Request

BEFORE_THE_LEDGER = ("start", "half a bundle", "bundle not in place", "bundle in place", "entry not in place")
AFTER_THE_LEDGER = ("entry in place", "no mirror")
IN_THE_MIRROR = ("version registered", "first alias set", "aliases set")


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), 9)


def before(owner: Any, name: str, skip: int = 0) -> None:
    """Die instead of the call after `skip` ones."""
    real, calls = getattr(owner, name), [0]

    def called(*given: Any, **named: Any) -> Any:
        calls[0] += 1
        return die() if calls[0] > skip else real(*given, **named)

    setattr(owner, name, called)


def after(owner: Any, name: str) -> None:
    real: Callable[..., Any] = getattr(owner, name)

    def called(*given: Any, **named: Any) -> Any:
        real(*given, **named)
        die()

    setattr(owner, name, called)


def arrange(boundary: str) -> None:
    if boundary not in IN_THE_MIRROR:
        registry.mirror = lambda *_: None
    if boundary == "start":
        before(bundle, "gather")
    elif boundary == "half a bundle":
        before(bundle, "_take_model", skip=2)
    elif boundary == "bundle not in place":
        before(bundle, "_settle")
    elif boundary == "bundle in place":
        before(ledger, "append")
    elif boundary == "entry not in place":
        before(ledger.os, "link")
    elif boundary == "entry in place":
        after(ledger, "_publish")
    elif boundary == "no mirror":
        before(registry, "mirror")
    elif boundary in IN_THE_MIRROR:
        from mlflow.tracking import MlflowClient

        if boundary == "version registered":
            after(MlflowClient, "create_model_version")
        elif boundary == "first alias set":
            before(MlflowClient, "set_registered_model_alias", skip=1)
        else:
            before(MlflowClient, "set_registered_model_tag")
    elif boundary != "none":
        raise SystemExit(f"no boundary {boundary}")


if __name__ == "__main__":
    place, boundary, tasks = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    arrange(boundary)
    gate = place / "go"
    (place / f"ready-{os.getpid()}").touch()
    while not gate.exists():  # several start at one moment
        time.sleep(0.002)
    own = place / f".goku/attempt-{os.getpid()}"  # as two pieces of work have them
    context = Context(place, own / "staging", own / "scratch")
    report = promotion.promote(Request(**dict.fromkeys(tasks)), context)
    print(report.decision, report.version)

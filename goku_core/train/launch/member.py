"""One rank under the launcher: `python -m goku_core.train.launch.member MODULE JOB.json`.

It begins the heartbeat before anything heavy is imported, sees to it that the process never outlives its launcher and that its
stacks can be asked for, then runs MODULE as the main program. How that ends, it tells by the exit code and a file.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import runpy
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from goku_core.pipeline.errors import GokuError
from goku_core.train.health.errors import PREEMPTED, DataBad, Diverged, NodeBad, Preempted
from goku_core.train.health.heart import Heart
from goku_core.train.health.leave import SUPERVISED

STACKS = "GOKU_STACKS"  # variable with the file that the stacks of all threads are written to on SIGUSR1
ERROR = "TORCHELASTIC_ERROR_FILE"
CLASSES = (
    (Preempted, "preemption"),
    (DataBad, "data bad"),
    (Diverged, "diverged"),
    (NodeBad, "node bad"),
    (GokuError, "refused"),  # the last: most of those above are one too
)
_PR_SET_PDEATHSIG = 1


def main() -> None:
    module, *arguments = sys.argv[1:]
    die_with(int(os.environ[SUPERVISED]))
    stacks = Path(os.environ[STACKS]).open("w")  # noqa: SIM115  (open as long as the process lives)
    faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
    faulthandler.enable(file=stacks)
    Heart()
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as left:
        if left.code not in (None, 0):
            raise
    except BaseException as error:
        _tell(error)
        sys.stdout.flush()
        sys.stderr.flush()
        if isinstance(error, Preempted):
            Heart().done()
        # Threads and process groups of a broken world may wait for ever in their destructors.
        os._exit(PREEMPTED if isinstance(error, Preempted) else 1)
    Heart().done()


def die_with(parent: int) -> None:
    """This process ends when its parent does, however that ends."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_follow, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it was gone before we asked
        os._exit(1)


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


def _tell(error: BaseException) -> None:
    """The error for the launcher, in the form that torch's elastic agent reads too."""
    name = next((name for kind, name in CLASSES if isinstance(error, kind)), "crash")
    trace = "".join(traceback.format_exception(error))
    message = " ".join(str(error).split()) or type(error).__name__
    own = {"class": name, "type": type(error).__name__, "message": message, "trace": trace, "time": time.time()}
    told = {
        "message": f"{own['type']}: {message}",
        "extraInfo": {"py_callstack": trace, "timestamp": str(int(own["time"]))},
    }
    print(trace, file=sys.stderr)
    if place := os.environ.get(ERROR):
        temporary = Path(f"{place}.tmp")
        temporary.write_text(json.dumps({"message": told, "goku": own}), encoding="utf-8")
        temporary.replace(place)


if __name__ == "__main__":
    main()

"""What kind of failure an error is: who must do something about it, and whether the same again may end better.

    infrastructure  a machine, a network, a disk: the same work elsewhere or later may succeed
    data            bytes that cannot be read as what they should be
    numeric         values that are no numbers any more
    user            a condition that only a person mends
    unknown         none of these for certain, a fault of the code among them

Told by type, never by the words of a message. An error of our own says itself what it is (`GokuError.kind`); those of
other packages are known by name, so that nothing is imported to look at them.
"""

from __future__ import annotations

import errno

from goku_core.pipeline.errors import FailureKind, GokuError

NAMED: dict[FailureKind, frozenset[str]] = {
    "infrastructure": frozenset(
        {
            "botocore.exceptions.BotoCoreError",
            "botocore.exceptions.ClientError",
            "concurrent.futures.process.BrokenProcessPool",
            "multiprocessing.context.ProcessError",
            "sqlite3.OperationalError",
            "subprocess.TimeoutExpired",
            "torch.AcceleratorError",
            "torch.OutOfMemoryError",
            "torch.distributed.DistError",
            "urllib3.exceptions.HTTPError",
        }
    ),
    "data": frozenset(
        {
            "PIL.UnidentifiedImageError",
            "av.error.InvalidDataError",
            "json.decoder.JSONDecodeError",
            "pyarrow.lib.ArrowInvalid",
            "safetensors._safetensors_rust.SafetensorError",
            "zipfile.BadZipFile",
            "zlib.error",
        }
    ),
    "numeric": frozenset({"numpy.linalg.LinAlgError", "torch._C._LinAlgError"}),
}
NOT_THE_MACHINE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}  # a file that should be there, or is none


def classify(error: BaseException) -> FailureKind:
    """The kind of an error, or of the error that it was raised from where its own type says nothing."""
    seen: BaseException | None = error
    while seen is not None:
        if (kind := _of_one(seen)) != "unknown":
            return kind
        seen = seen.__cause__
    return "unknown"


def _of_one(error: BaseException) -> FailureKind:
    if isinstance(error, GokuError):
        return error.kind
    names = {f"{one.__module__}.{one.__qualname__}" for one in type(error).__mro__}
    for kind, known in NAMED.items():
        if names & known:
            return kind
    if isinstance(error, ArithmeticError):
        return "numeric"
    if isinstance(error, UnicodeError | EOFError):
        return "data"
    if isinstance(error, OSError):
        return "data" if error.errno in NOT_THE_MACHINE else "infrastructure"
    return "infrastructure" if isinstance(error, MemoryError) else "unknown"

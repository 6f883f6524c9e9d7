"""Errors a user is meant to read: what is wrong, where, what to do. The command line adds no traceback to them."""

from __future__ import annotations

from typing import Any, Literal

FailureKind = Literal["infrastructure", "data", "numeric", "user", "unknown"]  # see `pipeline.failures`


class GokuError(Exception):
    """A condition that the user can mend. The message says what, where and what to do next."""

    kind: FailureKind = "user"


class StageFailed(GokuError):
    """A stage body started and did not finish. Its commit record was not written; running again resumes it.

    retriable  False when the body itself said what the user must mend (it raised a `GokuError`): a driver that
               repeats it would fail the same way
    kind       what a driver's budget of repetitions counts by; left away: user, or unknown where it is retriable
    before     outcomes, as JSON values, of the cells that the same run had finished before
    """

    def __init__(self, message: str, *, retriable: bool, kind: FailureKind | None = None) -> None:
        super().__init__(message)
        self.retriable = retriable
        self.kind = kind or ("unknown" if retriable else "user")
        self.before: list[dict[str, Any]] = []

    def as_json(self) -> list[dict[str, Any]]:
        """What `goku run --json` prints of a run that failed: what was finished before, then the failure."""
        told = {"status": "failed", "message": str(self), "retriable": self.retriable, "kind": self.kind}
        return [*self.before, told]

"""Ends of a rank that the launcher tells apart by their exit code."""

from __future__ import annotations

from goku_core.pipeline.errors import FailureKind, GokuError

PREEMPTED = 75  # of a process that saved because it was asked to leave (EX_TEMPFAIL: the same command continues)


class Diverged(GokuError):
    """Bad steps go on although the run went back and left data out."""

    kind: FailureKind = "numeric"


class DataBad(GokuError):
    """More samples cannot be read than the run may replace."""

    kind: FailureKind = "data"


class Preempted(GokuError):
    """The run was asked to leave; it saved and can be continued by the same command."""

    kind: FailureKind = "infrastructure"


class MachineBad(GokuError):
    """The restarts that bad machines may cost are spent; the same command goes on where there are other ones."""

    kind: FailureKind = "infrastructure"


class NodeBad(Exception):
    """A machine computes or transports wrongly. Nothing that a parameter mends."""

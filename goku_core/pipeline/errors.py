"""Errors a user is meant to read: what is wrong, where, what to do. The command line adds no traceback to them."""


class GokuError(Exception):
    """A condition that the user can mend. The message says what, where and what to do next."""


class StageFailed(GokuError):
    """A stage body started and did not finish. Its commit record was not written; running again resumes it.

    retriable  False when the body itself said what the user must mend (it raised a `GokuError`): a driver that
               repeats it would fail the same way
    """

    def __init__(self, message: str, *, retriable: bool) -> None:
        super().__init__(message)
        self.retriable = retriable

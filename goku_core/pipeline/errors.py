"""Errors a user is meant to read: what is wrong, where, and what to do. The command line prints them without a traceback."""


class GokuError(Exception):
    """A condition that the user can mend. The message says what, where and what to do next."""

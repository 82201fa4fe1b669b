"""Errors that a user can do something about. Each is one clear line and carries the exit code of DESIGN.md.

A traceback that reaches the user is a bug; these are not.
"""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the command line."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NO_MODEL = 3
    INTERRUPTED = 130


class MarginaliaError(Exception):
    """A failure with one line of text and, where there is one, the remedy.

    ``message`` names what is wrong and where (file, row); ``remedy`` is what the user can do.
    """

    exit = Exit.FAILED

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class UsageError(MarginaliaError):
    """The command line or the task is wrong."""

    exit = Exit.USAGE


class InputError(MarginaliaError):
    """A file or a row cannot be used."""


class NoModelError(MarginaliaError):
    """No model can run this here."""

    exit = Exit.NO_MODEL


class ModelError(MarginaliaError):
    """A model answered with an error; the request may not be repeated as it is."""


class ModelUnavailable(ModelError):
    """The backend could not be reached, was busy or died: the same request may be sent again."""


class ContextOverflow(ModelError):
    """Prompt and output do not fit into the model's context."""


class Offline(MarginaliaError):
    """The task needs the network and ``--offline`` is in force."""

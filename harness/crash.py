"""What a user sees of an exception that nobody foresaw, in our code or a skill's: one line, and a file for the report."""

from __future__ import annotations

import os
import sys
from types import TracebackType


def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A ``sys.excepthook``: the traceback is added to ``crash.log`` in the data folder, one line goes to stderr.

    With ``-v`` on the command line the traceback is shown, too.
    """
    from harness.console import clean

    where = keep(kind, error, trace)
    summary = " ".join(clean(str(error)).split())
    sys.stderr.write(f"error: this is a bug in marginalia ({kind.__name__}: {summary}); please report it, {where}\n")


def keep(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> str:
    """Add the traceback to ``crash.log``, show it where ``-v`` asks for it, and say where it is (half a sentence)."""
    import traceback

    from harness.config import home
    from harness.console import clean
    from harness.log import now

    text = clean("".join(traceback.format_exception(kind, error, trace)))
    path = home() / "crash.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Readable by the user alone: arguments may hold an unpublished abstract.
        with open(path, "a", encoding="utf-8", errors="backslashreplace", opener=_private) as file:
            file.write(f"{now()} arguments: {sys.argv[1:]!r}\n{text}\n")
        where = f"the traceback is in {path}"
    except OSError as failure:
        where = f"{path} could not be written ({failure.strerror})"
    if {"-v", "--verbose"} & set(sys.argv[1:]):
        sys.stderr.write(text)
    return where


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

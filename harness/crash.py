"""What a user sees of an exception that nobody foresaw: one line, and a file for the report."""

from __future__ import annotations

import sys
from types import TracebackType


def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A ``sys.excepthook``: the traceback goes to ``crash.log`` in the data folder, one line to stderr.

    With ``-v`` on the command line the traceback is shown, too.
    """
    import traceback

    from harness.config import home
    from harness.console import clean

    text = "".join(traceback.format_exception(kind, error, trace))
    path = home() / "crash.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"arguments: {sys.argv[1:]!r}\n{text}", encoding="utf-8", errors="backslashreplace")
        where = f"the traceback is in {path}"
    except OSError as failure:
        where = f"{path} could not be written ({failure.strerror})"
    if {"-v", "--verbose"} & set(sys.argv[1:]):
        sys.stderr.write(clean(text))
    summary = " ".join(clean(str(error)).split())
    sys.stderr.write(f"error: this is a bug in marginalia ({kind.__name__}: {summary}); please report it, {where}\n")

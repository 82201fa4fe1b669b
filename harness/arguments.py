"""argparse as the whole command line uses it: no abbreviations, and errors that are one line with a remedy."""

from __future__ import annotations

import argparse
import sys
from functools import wraps

from harness.errors import Exit, MarginaliaError, UsageError

TYPE_CHECKING = False  # importing typing for it would cost a fifth of the time of --help
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, ParamSpec

    P = ParamSpec("P")


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help of a fixed width: asking the terminal for its width would import archive formats (by way of shutil)."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=110)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises UsageError instead of printing its usage and leaving."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, "formatter_class": Formatter, **options})

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with ``message``."""
        raise UsageError(message, f"see: {self.prog} --help")


def guarded(work: Callable[P, int]) -> Callable[P, int]:
    """The ``main`` of a script whose failures are one line on stderr, free of escape codes, and an exit code."""

    @wraps(work)
    def main(*args: P.args, **options: P.kwargs) -> int:
        try:
            return int(work(*args, **options))
        except MarginaliaError as error:
            from harness.console import clean

            sys.stderr.write(f"error: {clean(str(error))}\n")
            return int(error.exit)
        except KeyboardInterrupt:
            sys.stderr.write("interrupted; what is done is kept, the same command goes on from there\n")
            return int(Exit.INTERRUPTED)

    return main

"""argparse as the whole command line uses it: no abbreviations, and errors that are one line with a remedy."""

from __future__ import annotations

import argparse

from harness.errors import UsageError

TYPE_CHECKING = False  # importing typing for it would cost a fifth of the time of --help
if TYPE_CHECKING:
    from typing import Any, NoReturn


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

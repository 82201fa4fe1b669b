"""Where the comparisons of ``finetune/eval.py`` go: a file, and stdout as tables for people or JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.console import json_line, prepare_streams, stdout_console, stdout_is_terminal
from harness.outputs import atomic_write

if TYPE_CHECKING:
    from rich.console import RenderableType

_WIDE = 200
"""Columns where a program or a file reads the tables: none is folded."""


def give(
    found: Mapping[str, Any], tables: Callable[[], Iterable[RenderableType]], *, out: Path | None, as_json: bool
) -> None:
    """Write what was measured to ``out``, where one is named, and show it. Raises InputError where it cannot be written."""
    prepare_streams()
    if out:
        with atomic_write(out) as handle:
            handle.write(json.dumps(found, ensure_ascii=False, indent=1) + "\n")
    if as_json:
        print(json_line(found))
        return
    console = stdout_console()
    if not stdout_is_terminal():
        console.width = _WIDE
    for table in tables():
        console.print(table, soft_wrap=False)

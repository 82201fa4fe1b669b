"""Standard input, output and error: results go to stdout, messages to stderr, and data never raw to a terminal."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from harness.skills import Outcome

MAX_STDIN = 256 * 1024 * 1024
"""Bytes of standard input that are read into memory; more belongs into a file."""

_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]{0,64}[ -/]{0,8}[@-~]"  # CSI: colours, cursor movement
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d\x9e\x9f])[^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)"  # OSC, DCS …: titles, clipboard
    r"|\x1b[ -/]{0,4}[0-~]"  # the other, short ones
)
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""C0 but tab and newline, DEL, C1, and the characters that override the direction of writing."""


_CONTROL = [chr(code) for code in (*range(0x09), *range(0x0E, 0x1B), *range(0x1C, 0x20))]
"""What running text has next to none of."""


def clean(text: str) -> str:
    """``text`` without terminal escape codes and control characters; tabs and newlines stay, CRLF becomes LF.

    >>> clean("a \\x1b[31mred\\x1b[0m word\\r\\n\\x07")
    'a red word\\n'
    """
    return _UNSAFE.sub("", _SEQUENCE.sub("", text.replace("\r\n", "\n")))


def json_line(record: Mapping[str, Any]) -> str:
    """``record`` as one line of JSON, readable as to letters, with control characters escaped and so harmless."""
    line = json.dumps(record, ensure_ascii=False, allow_nan=False, default=str)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", line)


def stdout_is_terminal() -> bool:
    """True where results are read by a person, not by a program."""
    return sys.stdout is not None and sys.stdout.isatty()


def stdin_is_terminal() -> bool:
    """True where a person types (no piped input)."""
    return sys.stdin is not None and sys.stdin.isatty()


def prepare_streams() -> None:
    """UTF-8 for what programs read, and no character that could stop the work: what cannot be shown is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")


def _safe_console(*, stderr: bool) -> Console:
    from rich.console import Console

    class SafeConsole(Console):
        """Prints strings as data: no markup, no emoji codes, no control characters. Colour comes by ``style=``."""

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(clean(text), **options)

    return SafeConsole(stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True)


def stderr_console() -> Console:
    """The console for messages, progress and tables that are not results. It honours NO_COLOR."""
    return _safe_console(stderr=True)


def stdout_console() -> Console:
    """The console for results that a person reads on a terminal."""
    return _safe_console(stderr=False)


def show_markdown(text: str) -> None:
    """Write Markdown to stdout: rendered on a terminal, as it is (but for control characters) when piped."""
    if not stdout_is_terminal():
        show_plain(text)
        return
    from rich.markdown import Markdown

    stdout_console().print(Markdown(clean(text).rstrip("\n"), hyperlinks=False), soft_wrap=False)


def show_plain(text: str) -> None:
    """Write text to stdout as it is, but for control characters."""
    sys.stdout.write(clean(text).rstrip("\n") + "\n")


def show_outcome(outcome: Outcome, *, as_json: bool) -> None:
    """Write the result of a task to stdout: its records, or its text unless files were saved."""
    if as_json:
        show_records(outcome.records or ([{"text": outcome.text}] if outcome.text else []))
    elif outcome.text and not outcome.saved:
        (show_plain if outcome.plain else show_markdown)(outcome.text)
    sys.stdout.flush()


def show_records(records: Iterable[Mapping[str, Any]]) -> None:
    """Write records to stdout, one JSON object a line."""
    for record in records:
        sys.stdout.write(json_line(record) + "\n")


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int] = (), most: int = 0
) -> None:
    """Write a table to stdout: drawn on a terminal, separated by tabs (headings first) for programs.

    On a terminal the columns ``numbers`` are set flush right, and cells are one line of ``most`` characters (0: whole).
    """
    if not stdout_is_terminal():
        for row in (columns, *rows) if any(columns) else rows:
            sys.stdout.write("\t".join(" ".join(clean(cell).split()) for cell in row) + "\n")
        return
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD if any(columns) else None, show_header=any(columns), pad_edge=False)
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cut(cell, most) if most else cell for cell in row))
    stdout_console().print(table, soft_wrap=False)


def _cut(cell: str, most: int) -> str:
    line = " ".join(cell.split())
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"


def decode(data: bytes) -> str:
    """Text from bytes of unknown encoding: by byte-order mark, else UTF-8, else Windows-1252 (which fits most others)."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def read_stdin(limit: int = MAX_STDIN) -> str | None:
    """What was piped in, decoded; None where standard input is a terminal, closed or empty.

    Says so on stderr while nothing comes. Raises InputError for more than ``limit`` bytes and for what is no text.
    """
    if sys.stdin is None or sys.stdin.closed or stdin_is_terminal():
        return None
    _notice_silence()
    source = getattr(sys.stdin, "buffer", None)
    data = source.read(limit + 1) if source is not None else sys.stdin.read(limit + 1).encode("utf-8", "replace")
    if len(data) > limit:
        raise InputError(
            f"standard input: more than {limit // 2**20} MB", "save it to a file and name the file in the task"
        )
    text = decode(data)
    head = text[: 2**16]
    if sum(map(head.count, _CONTROL)) > len(head) / 20:
        raise InputError("standard input is binary, not text", "pipe CSV, JSONL, JSON, BibTeX or text, or name the file")
    return text if text.strip() else None


def _notice_silence(seconds: float = 2.0) -> None:
    """One line on stderr where a pipe stays silent: else a forgotten one looks like a hang."""
    import select

    try:
        ready = bool(select.select([sys.stdin], [], [], seconds)[0])
    except (OSError, ValueError):  # Windows, or a stand-in without a file descriptor
        return
    if not ready:
        sys.stderr.write("waiting for standard input (add </dev/null where none is meant)\n")

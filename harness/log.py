"""The log of all runs: one SQLite file in the user's data folder. A log that cannot be written never stops the work."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.database import open_database, reporting
from harness.errors import UsageError

if TYPE_CHECKING:
    from sqlite3 import Connection

    from harness.config import Settings

FILE = "log.db"
VERSION = 1
EXAMPLES = """examples:
  log --limit 5
  log show 12
  log clear --before 2026-01-31"""
_SCHEMA = (
    """CREATE TABLE runs (
        id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, task TEXT NOT NULL, skill TEXT NOT NULL,
        model TEXT NOT NULL, backend TEXT NOT NULL, digest TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL, seconds REAL NOT NULL, context_used INTEGER NOT NULL,
        exit INTEGER NOT NULL, details TEXT NOT NULL)""",
    "CREATE INDEX runs_by_time ON runs (time)",
)


@dataclass(frozen=True)
class Entry:
    """One run. ``time`` is UTC in ISO 8601, ``context_used`` the tokens of the largest request."""

    time: str
    task: str
    skill: str = ""
    model: str = ""
    backend: str = ""
    digest: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    context_used: int = 0
    exit: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)
    id: int = 0
    """Given by the log."""

    def record(self) -> dict[str, Any]:
        """The entry as ``log --json`` prints it."""
        values = {name.name: getattr(self, name.name) for name in fields(self)}
        return {"id": values.pop("id"), **values}


_COLUMNS = [name.name for name in fields(Entry) if name.name != "id"]


def now() -> str:
    """This moment as entries write it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


_SECRET = re.compile(r"""(--password[=\s]+)("[^"]*"|'[^']*'|\S+)""")


def masked(task: str) -> str:
    """The task without the passwords that it gives.

    >>> masked("/index papers --password 's e c' --limit 2")
    '/index papers --password *** --limit 2'
    """
    return _SECRET.sub(r"\1***", task)


def write(home: Path, entry: Entry) -> int:
    """Append ``entry``, its passwords masked, and return its id. Raises InputError where the log cannot be written."""
    values = [getattr(entry, name) for name in _COLUMNS]
    values[_COLUMNS.index("task")] = masked(entry.task)
    values[-1] = json.dumps(entry.details, ensure_ascii=False, default=str)
    # bytes of the command line that are no UTF-8 arrive as lone surrogates, which SQLite does not take
    values = [value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value for value in values]
    marks = ", ".join("?" * len(values))
    with _opened(home) as connection:
        cursor = connection.execute(f"INSERT INTO runs ({', '.join(_COLUMNS)}) VALUES ({marks})", values)
        return int(cursor.lastrowid or 0)


def read(home: Path, limit: int) -> list[Entry]:
    """The newest ``limit`` entries, oldest of them first."""
    with _opened(home) as connection:
        rows = _select(connection, "ORDER BY id DESC LIMIT ?", limit)
    return rows[::-1]


def get(home: Path, number: int) -> Entry:
    """The entry with this id. Raises UsageError where there is none."""
    with _opened(home) as connection:
        rows = _select(connection, "WHERE id = ?", number)
    if not rows:
        raise UsageError(f"the log has no run {number}", "python agent.py log")
    return rows[0]


def clear(home: Path, before: date) -> int:
    """Delete the entries from before the start of that day (local time), for good; returns how many."""
    start = datetime(before.year, before.month, before.day).astimezone().astimezone(UTC).isoformat(timespec="seconds")
    with _opened(home) as connection:
        deleted = connection.execute("DELETE FROM runs WHERE time < ?", (start,)).rowcount
        connection.execute("VACUUM")  # without it the deleted text would stay in the file
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return deleted


def _select(connection: Connection, clause: str, value: int) -> list[Entry]:
    rows = connection.execute(f"SELECT {', '.join(_COLUMNS)}, id FROM runs {clause}", (value,))
    names = [*_COLUMNS, "id"]
    found = []
    for row in rows:
        values = dict(zip(names, row, strict=True))
        values["details"] = json.loads(values["details"])
        found.append(Entry(**values))
    return found


@contextmanager
def _opened(home: Path) -> Iterator[Connection]:
    path = home / FILE
    connection = open_database(path, schema=_SCHEMA, version=VERSION)
    try:
        with reporting(path):
            connection.execute("PRAGMA busy_timeout=5000")
            yield connection
    finally:
        connection.close()


# --- the command -----------------------------------------------------------------------------------------------------


def main(argv: Sequence[str], settings: Settings) -> int:
    """``log``, ``log show ID``, ``log clear --before DATE``. Exit 0, 1 for a log that cannot be read, 2 wrong usage."""
    from harness.arguments import Parser
    from harness.config import home
    from harness.errors import Exit

    what = "What was run: task, model, tokens, time, result."
    parser = Parser(prog="marginalia log", description=what, epilog=EXAMPLES)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="how many of the newest runs (20)")
    commands = parser.add_subparsers(dest="command", metavar="show ID | clear --before DATE")
    show = commands.add_parser("show", help="everything about one run")
    show.add_argument("id", type=int, metavar="ID")
    wipe = commands.add_parser("clear", help="delete old runs")
    wipe.add_argument("--before", required=True, metavar="DATE", help="the first day that is kept, as 2026-01-31")
    options = parser.parse_args(list(argv))
    as_json = options.json or settings.json
    if options.command == "show":
        _show([get(home(), options.id)], as_json=as_json, full=True)
    elif options.command == "clear":
        _clear(home(), options.before, as_json=as_json)
    elif options.limit < 1:
        raise UsageError(f"--limit {options.limit}: not a number of runs", "give 1 or more")
    else:
        _show(read(home(), options.limit), as_json=as_json)
    return Exit.DONE


def _clear(folder: Path, text: str, *, as_json: bool) -> None:
    import sys

    from harness.console import show_records

    try:
        before = date.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--before {text}: not a date", "write it as 2026-01-31") from None
    deleted = clear(folder, before)
    if as_json:
        show_records([{"deleted": deleted, "before": before.isoformat()}])
    else:
        sys.stderr.write(f"{deleted} runs deleted\n")


def _show(entries: Sequence[Entry], *, as_json: bool, full: bool = False) -> None:
    from harness.console import show_records, show_table

    if as_json:
        show_records(entry.record() for entry in entries)
    elif full:
        values = entries[0].record()
        show_table(
            ("", ""), [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in values.items()]
        )
    else:
        show_table(("id", "time", "task", "model", "tokens", "s", "exit"), map(_row, entries))


def _row(entry: Entry) -> tuple[str, ...]:
    moment = datetime.fromisoformat(entry.time).astimezone().strftime("%Y-%m-%d %H:%M")
    task = " ".join(entry.task.split())
    return (
        str(entry.id),
        moment,
        task if len(task) <= 60 else task[:59] + "…",
        entry.model,
        f"{entry.prompt_tokens}+{entry.completion_tokens}",
        f"{entry.seconds:.1f}",
        str(entry.exit),
    )

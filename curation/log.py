"""The curation log: one JSON object a row, with every vote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.annotation_files import rows
from harness.console import json_line
from harness.errors import InputError
from harness.outputs import atomic_write
from harness.readers.text import writable

_KEYS = ("id", "verdict", "votes", "threshold", "quorum")


def write_log(path: Path, records: Iterable[Mapping[str, Any]], *, overwrite: bool) -> None:
    """Write the log, all of it or nothing. Raises InputError."""
    with atomic_write(path, overwrite=overwrite) as handle:
        handle.writelines(f"{writable(json_line(record))}\n" for record in records)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The records of a log. Raises InputError naming file and line."""
    if not path.is_file():
        raise InputError(f"{path}: no such file", "give the log that curator.py wrote")
    records = []
    for where, value in rows(path):
        votes = value.get("votes") if isinstance(value, dict) and all(key in value for key in _KEYS) else None
        if not isinstance(votes, list) or not all(
            isinstance(vote, dict) and {"persona", "score"} <= set(vote) for vote in votes
        ):
            raise InputError(f"{where}: is no line of a curation log", "give the log that curator.py wrote")
        records.append(value)
    return records

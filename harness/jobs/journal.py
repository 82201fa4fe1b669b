"""The journal of finished work: a content-addressed store of results, shared by all jobs and processes of a user.

A key is the hash of everything that decides a result (text, prompt contract, model digest, options), so the same work
is never done twice. What ``put`` has returned from survives kill -9; see ``harness/database.py`` for power cuts.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.database import open_database, reporting

if TYPE_CHECKING:
    from types import TracebackType

VERSION = 1
_SCHEMA = (
    "CREATE TABLE results (key TEXT PRIMARY KEY, kind TEXT NOT NULL, value TEXT NOT NULL,"
    " created REAL NOT NULL, seconds REAL NOT NULL) WITHOUT ROWID",
)
_KEYS_A_QUERY = 500


def key_of(*parts: Any) -> str:
    """The content address of a piece of work: SHA-256 (hex) over the canonical JSON of its parts.

    Parts are JSON values or dataclasses; the order of mappings does not count, that of the parts does.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_as_json)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _as_json(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be part of a key")


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


class Journal:
    """Results by key in one SQLite file; safe from several threads and several processes at once.

    Every method raises InputError, naming the file and the remedy, where the file is damaged or cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection = open_database(path, schema=_SCHEMA, version=VERSION)

    def get(self, key: str) -> dict[str, Any] | None:
        """The result under a key, None where there is none."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The results that are there, by key; a damaged one is not: it is worked out again."""
        found: dict[str, dict[str, Any]] = {}
        wanted = list(keys)
        for start in range(0, len(wanted), _KEYS_A_QUERY):
            some = wanted[start : start + _KEYS_A_QUERY]
            marks = ",".join("?" * len(some))
            query = f"SELECT key, value FROM results WHERE key IN ({marks})"
            with self._lock, reporting(self.path):
                rows = self._connection.execute(query, some).fetchall()
            found.update((key, result) for key, value in rows if (result := _object(value)) is not None)
        return found

    def put(self, key: str, value: Mapping[str, Any], *, kind: str, seconds: float) -> None:
        """Keep a result (a JSON object). The last one under a key counts. It is safe once this has returned.

        ``kind`` says what sort of work it was (the task's name), ``seconds`` what it took.
        """
        text = json.dumps(value, separators=(",", ":"))
        with self._lock, reporting(self.path):
            self._connection.execute(
                "INSERT OR REPLACE INTO results (key, kind, value, created, seconds) VALUES (?, ?, ?, ?, ?)",
                (key, kind, text, time.time(), seconds),
            )

    def close(self) -> None:
        """Let go of the file; closing twice is fine."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

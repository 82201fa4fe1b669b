"""Opening a SQLite file of the user's data folder so that it survives kill -9, several processes and damage.

WAL with ``synchronous=NORMAL`` is chosen knowingly: a commit is written to the operating system before it returns, so
it outlives the death of this process at any moment. A power cut may take back the commits of the last moments (never
the file's consistency); they are work that can be done again, and a sync for each row would cost more than that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import InputError

if TYPE_CHECKING:
    from sqlite3 import Connection

BUSY_SECONDS = 30.0
"""How long to wait for another process's transaction."""


@contextmanager
def reporting(path: Path) -> Iterator[None]:
    """Turn SQLite's errors inside the block into one InputError that names the file and the remedy."""
    import sqlite3

    try:
        yield
    except sqlite3.OperationalError as error:
        raise InputError(f"{path}: {error}", "check space, permissions and other running programs") from error
    except sqlite3.DatabaseError as error:
        if type(error) is not sqlite3.DatabaseError:
            raise  # a broken constraint or a closed connection is a fault of this program
        raise InputError(f"{path}: damaged or no SQLite file ({error})", "move it away; a new one is made") from error


@contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """All of the block or nothing of it; other writers wait."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    except BaseException:
        connection.rollback()
        raise
    connection.commit()


def open_database(path: Path, *, schema: tuple[str, ...], version: int) -> Connection:
    """Connection in autocommit mode, usable from any thread (callers lock); the tables are made where they are not.

    ``version`` stands in the file's ``user_version``. Raises InputError for a file that is damaged, of another version
    or cannot be opened.
    """
    import sqlite3

    with reporting(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{path.parent}: cannot be made ({error.strerror})", "set MARGINALIA_HOME") from error
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, path, schema, version)
        except BaseException:
            connection.close()
            raise
    return connection


def _prepare(connection: Connection, path: Path, schema: tuple[str, ...], version: int) -> None:
    _switch_to_wal(connection)
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")
    if connection.execute("PRAGMA user_version").fetchone()[0] == version:
        return
    with transaction(connection):  # judged in here only: another process may be making the tables just now
        if _check_version(connection, path, version):
            return  # another process was faster
        for statement in schema:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version={version:d}")


def _check_version(connection: Connection, path: Path, version: int) -> bool:
    """True for a file with our tables, False for an empty one; InputError for anything else."""
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    empty = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
    if found != version and not (found == 0 and empty):
        raise InputError(
            f"{path}: has schema version {found}, this program needs {version}",
            "move it away or use the program that made it",
        )
    return bool(found == version)


def _switch_to_wal(connection: Connection) -> None:
    """SQLite does not wait for other processes when the journal mode changes, so the waiting is done here."""
    import sqlite3

    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)

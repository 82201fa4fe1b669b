"""Results into files: the format follows the suffix, and a file is there whole or not at all."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from harness.annotation_tables import (
    Annotations,
    no_parquet,
    write_csv,
    write_json,
    write_jsonl,
    write_markdown,
    write_parquet,
    write_tsv,
)
from harness.bibtex import write_bibtex
from harness.errors import InputError, UsageError
from harness.html_page import write_html

WRITERS: Mapping[str, Callable[[IO[Any], Annotations], None]] = {
    ".bib": write_bibtex,
    ".csv": write_csv,
    ".html": write_html,
    ".json": write_json,
    ".jsonl": write_jsonl,
    ".md": write_markdown,
    ".parquet": write_parquet,
    ".tsv": write_tsv,
}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def _suffix(path: Path, known: Collection[str] = WRITERS) -> str:
    suffix = path.suffix.lower()
    if suffix not in known:
        raise UsageError(f"{path}: cannot write {suffix or 'a file without a suffix'}", f"use one of {' '.join(known)}")
    return suffix


def _locate(path: Path) -> tuple[Path, os.stat_result | None]:
    """Where a path leads once symlinks are followed, and what is there (None: nothing yet)."""
    try:
        target = path.resolve()
        try:
            return target, target.stat()
        except (FileNotFoundError, NotADirectoryError):
            return target, None
    except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, a NUL
        raise UsageError(f"{path}: is not a usable path ({error})", "choose another") from None


def _check_folder(path: Path, folder: Path, create: bool) -> None:
    """The folder of a target, or the nearest above it where it may be created, takes new files."""
    import tempfile

    if not create and not folder.exists():
        raise UsageError(f"{path}: the folder {folder} does not exist", "create it first")
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder):  # os.access does not know read-only and network file systems
            pass
    except OSError as error:
        raise UsageError(f"{path}: no file can be made in {folder} ({error.strerror})", "choose another folder") from None


def check_target(path: Path, *, yes: bool, cwd: Path | None = None, suffixes: Collection[str] = WRITERS) -> None:
    """See to it, before any work begins, that a result can be saved at ``path``. Writes nothing.

    ``suffixes`` are those of the formats that can be written; a skill with writers of its own names them.
    Without ``yes`` the path must stay below the working folder (``cwd``), symlinks followed, and must not exist yet.
    Missing folders below the working folder are created when the file is written. Raises UsageError.
    """
    if _suffix(path, suffixes) == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise no_parquet()
    base = (cwd or Path.cwd()).resolve()
    target, there = _locate(base / path)
    below = target.is_relative_to(base)
    if there and stat.S_ISDIR(there.st_mode):
        raise UsageError(f"{path}: is a folder", "name a file in it")
    if there and not stat.S_ISREG(there.st_mode):
        raise UsageError(f"{path}: is not a regular file", "choose another")
    if not below and not yes:
        raise UsageError(f"{path}: leaves the working folder {base}", "save below it, or repeat with --yes")
    if there and not yes:
        raise UsageError(f"{path}: exists already", "choose another name, or repeat with --yes to replace it")
    _check_folder(path, target.parent, create=below)


@contextmanager
def atomic_write(path: Path, *, binary: bool = False, overwrite: bool = True) -> Iterator[IO[Any]]:
    """A handle on a temporary file beside ``path`` that takes its place when the block ends well, and else is removed.

    Text is UTF-8 and line ends are written as given. A symlink stays one: the file it leads to is replaced, keeping
    its permissions. Missing folders are created. With ``overwrite`` False a file that has appeared at ``path`` in the
    meantime is an error. Raises InputError when the file cannot be written (disk full, no permission).
    """
    target = path.resolve()
    temporary = target.with_name(f".marginalia-{os.urandom(8).hex()}.tmp")
    text = {} if binary else {"encoding": "utf-8", "newline": ""}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb" if binary else "x", **text) as handle:  # type: ignore[call-overload]
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        if target.exists():
            if not overwrite:
                raise InputError(f"{path}: appeared while the work was under way", "choose another name, or use --yes")
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    except OSError as error:
        remedy = "free some space and repeat the command" if error.errno in _FULL else "check its folder, or choose another"
        raise InputError(f"{path}: could not be written ({error.strerror or error})", remedy) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_records(
    path: Path,
    records: Sequence[Mapping[str, Any]],
    *,
    moves: Sequence[str],
    rows: Sequence[Mapping[str, str]] = (),
    fieldnames: Sequence[str] = (),
    title: str = "",
    overwrite: bool = True,
) -> None:
    """Write annotation records in the format that the suffix of ``path`` names, all of them or nothing.

    ``rows`` are the input's own columns in the order of ``records`` (or none), ``fieldnames`` their order, ``moves``
    the names of the framework in force, ``title`` a heading for people; ``overwrite`` as in ``atomic_write``. Raises
    UsageError for an unknown suffix, InputError when the file cannot be written, ValueError when ``rows`` and
    ``records`` differ in length.
    """
    suffix = _suffix(path)
    table = Annotations(records, moves, rows, fieldnames, title)
    with atomic_write(path, binary=suffix == ".parquet", overwrite=overwrite) as handle:
        WRITERS[suffix](handle, table)

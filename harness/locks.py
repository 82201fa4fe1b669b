"""A lock between processes on one machine. It dies with its holder, so a killed process leaves nothing to clean up."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from harness.errors import InputError


@contextmanager
def locked(path: Path, *, seconds: float = 30.0) -> Iterator[None]:
    """Hold the lock file ``path`` (created where it is missing, never removed) for the length of the block.

    Threads of one process exclude each other too. Raises InputError where another process keeps it for longer than
    ``seconds`` or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+b")
    except OSError as error:
        remedy = "check the folder's permissions"
        raise InputError(f"{path}: the lock cannot be made ({error.strerror})", remedy) from None
    with handle:
        deadline = time.monotonic() + seconds
        while not _try_lock(handle):
            if time.monotonic() > deadline:
                raise InputError(f"{path}: another process has held the lock for {seconds:.0f} s", "let it end first")
            time.sleep(0.05)
        yield  # closing the file gives the lock back


def _try_lock(handle: IO[bytes]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            handle.seek(0)
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by someone else
        return False
    return True

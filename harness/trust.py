"""Which third-party skill folders the user trusts: path and hash of all their files; a changed file ends the trust."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from harness.errors import InputError

MAX_FILES = 10_000
_IGNORED = {".git"}


def folder_hash(folder: Path) -> str:
    """``sha256:…`` over names and contents of all files below ``folder`` (but for ``.git``).

    Compiled files count too: Python would run them instead of the source. Raises InputError for a symbolic link (what
    it leads to could change unseen) and for what cannot be read.
    """
    import hashlib

    total = hashlib.sha256()
    try:
        for path in _files(folder):
            content = hashlib.sha256()
            with open(path, "rb") as handle:
                while block := handle.read(1 << 20):
                    content.update(block)
            name = path.relative_to(folder).as_posix()
            total.update(f"{content.hexdigest()} {json.dumps(name)}\n".encode())
    except OSError as error:
        raise InputError(f"{error.filename or folder}: cannot be read ({error.strerror})") from error
    return f"sha256:{total.hexdigest()}"


def _files(folder: Path) -> Iterator[Path]:
    found: list[Path] = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(set(folders) - _IGNORED)
        paths = [Path(root, name) for name in (*folders, *files)]
        if link := next((path for path in paths if path.is_symlink()), None):
            raise InputError(f"{link}: a symbolic link inside a skill", "replace it by the file itself")
        found += [Path(root, name) for name in files]
        if len(found) > MAX_FILES:
            raise InputError(f"{folder}: more than {MAX_FILES} files", "name the folder of one skill")
    yield from sorted(found)


def is_trusted(folder: Path, home: Path) -> bool:
    """True where the user has trusted exactly these files at exactly this place."""
    folder = folder.resolve()
    known = _read(home).get(str(folder))
    return known is not None and known == folder_hash(folder)


def trust(folder: Path, home: Path) -> str:
    """Trust the files that are in ``folder`` now; returns their hash. Raises InputError."""
    from harness.outputs import atomic_write

    folder = folder.resolve()
    digest = folder_hash(folder)
    with atomic_write(_store(home)) as handle:
        json.dump(_read(home) | {str(folder): digest}, handle, indent=1, sort_keys=True)
    return digest


def _store(home: Path) -> Path:
    return home / "trust.json"


def _read(home: Path) -> dict[str, str]:
    """What is trusted; a file that cannot be read trusts nothing."""
    try:
        known = json.loads(_store(home).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}

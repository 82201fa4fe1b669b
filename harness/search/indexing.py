"""Bringing the user's index up to date for a task: which files its words name, the lock, the progress, the remarks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import InputError
from harness.task import file_path, split_words

if TYPE_CHECKING:
    from rich.console import Console

    from harness.search.index import Options, Result
    from harness.search.store import Store

LOCK_SECONDS = 5.0
"""How long another process may be indexing before this one gives up."""


def paths_in(text: str) -> list[Path]:
    """The paths in a text: all of it where that exists, else word by word; patterns are expanded.

    Raises InputError for a pattern that no file matches.
    """
    if not text:
        return []
    whole = file_path(text) if "\n" not in text else None
    if whole is not None and whole.exists():
        return [whole]
    found: list[Path] = []
    for word in split_words(text):
        path = file_path(word)
        if path.exists() or not any(sign in word for sign in "*?["):
            found.append(path)
            continue
        import glob

        matches = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
        if not matches:
            raise InputError(f"no file matches {word}", "check the pattern")
        found += matches
    return found


def usual_workers(asked: int | None) -> int:
    """Processes that read PDFs: as many as asked for, else one a core up to four."""
    import os

    return asked or min(4, os.cpu_count() or 1)


def bring_up_to_date(store: Store, paths: Sequence[Path], options: Options, console: Console) -> list[Result]:
    """Read what is new or changed into the index, with progress and one line for each file that needs a word.

    Raises InputError for a path that leads nowhere, and where another process is indexing.
    """
    from harness.jobs.progress import Progress
    from harness.locks import locked
    from harness.search.index import find_files, update

    def tell(result: Result) -> None:
        progress.advance(failed=result.status == "failed", cached=result.status == "unchanged")
        for line in remarks(result):
            console.print(line, markup=False, highlight=False, soft_wrap=True)

    total = len(find_files(paths))
    if not total:
        console.print("no file there can be read", markup=False, highlight=False)
    with locked(store.lock, seconds=LOCK_SECONDS), Progress(console, total, "files") as progress:
        results = update(store, paths, options, tell)
        store.compact()
    return results


def remarks(result: Result) -> list[str]:
    """What the user should know of a file: why it failed, what was left out of it."""
    if result.status == "failed":
        return [result.file.error]
    name = Path(result.file.path).name
    return [note if name in note else f"{name}: {note}" for note in result.notes]

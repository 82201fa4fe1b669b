"""/index: files into the search index, and passages out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import Exit, InputError, UsageError
from harness.skills import Outcome
from harness.task import Task, file_path, split_words
from skills.index.options import FLAGS, IndexOptions, options_of

if TYPE_CHECKING:
    from harness.context import Context
    from harness.search.index import Result
    from harness.search.sqlite_store import SqliteStore
    from harness.search.store import IndexedFile

__all__ = ["FLAGS", "run"]

LOCK_SECONDS = 5.0
"""How long another process may be indexing before this one gives up."""
_SHOWN = 300
"""Characters of a passage that are shown to people; machines get all of it."""


def run(task: Task, context: Context) -> Outcome:
    """Index, list, find or forget, as the flags say. Exit 1 when a file could not be indexed, or nothing was found."""
    options = options_of(task)
    if task.save_to:
        raise UsageError("/index saves nothing but its index", "use --json and redirect the output")
    paths = paths_in(task.text)
    from harness.search.sqlite_store import SqliteStore, index_path

    with SqliteStore(index_path()) as store:
        if options.find:
            return find(store, paths, options)
        if options.forget:
            return forget(store, options.forget)
        if options.list:
            return listed(list(store.files().values()))
        if not paths:
            raise UsageError("/index: nothing to index", "for example /index papers/, or /index --list")
        return index(store, paths, options, context)


def paths_in(text: str) -> list[Path]:
    """The paths in the input: all of it where that exists, else word by word; patterns are expanded."""
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


def index(store: SqliteStore, paths: Sequence[Path], options: IndexOptions, context: Context) -> Outcome:
    """Bring the index up to date with files and folders."""
    import os

    from harness.jobs.progress import Progress
    from harness.locks import locked
    from harness.search.index import Options, find_files, update
    from harness.search.pdf_process import Limits

    workers = context.settings.workers or min(4, os.cpu_count() or 1)
    reading = Options(
        passwords=options.passwords,
        columns=dict(options.columns),
        limits=Limits(options.pages, options.seconds),
        workers=workers,
        fresh=options.fresh,
    )

    def tell(result: Result) -> None:
        progress.advance(failed=result.status == "failed", cached=result.status == "unchanged")
        for line in remarks(result):
            context.console.print(line, markup=False, highlight=False, soft_wrap=True)

    total = len(find_files(paths))
    if not total:
        context.console.print("no file there can be read", markup=False, highlight=False)
    with (
        locked(store.path.with_suffix(".lock"), seconds=LOCK_SECONDS),
        Progress(context.console, total, "files") as progress,
    ):
        results = update(store, paths, reading, tell)
        store.compact()
    failed = sum(result.status == "failed" for result in results)
    return Outcome(
        text=summary(results),
        records=[file_record(result.file, result.status, result.notes) for result in results],
        exit=Exit.FAILED if failed else Exit.DONE,
        details={"files": len(results), "failed": failed},
    )


def remarks(result: Result) -> list[str]:
    """What the user should know of a file: why it failed, what was left out of it."""
    if result.status == "failed":
        return [result.file.error]
    name = Path(result.file.path).name
    return [note if name in note else f"{name}: {note}" for note in result.notes]


def summary(results: Sequence[Result]) -> str:
    """``12 files: 3 new, 9 unchanged; 48 pages, 210 chunks``."""
    counts: dict[str, int] = {}
    for result in results:
        counts[result.status] = counts.get(result.status, 0) + 1
    made = [result.file for result in results if result.status in ("new", "changed")]
    parts = [f"{count} {'the same as another' if status == 'same' else status}" for status, count in counts.items()]
    pages, chunks = sum(file.pages for file in made), sum(file.chunks for file in made)
    read = f"; read {pages} pages, made {chunks} chunks" if made else ""
    return f"{len(results)} files: {', '.join(parts) or 'none'}{read}"


def file_record(file: IndexedFile, status: str, notes: Sequence[str] = ()) -> dict[str, Any]:
    """A file for machines."""
    facts = {key: value for key, value in asdict(file).items() if key not in ("stamp", "path")}
    return {"file": file.path, "status": status, **facts, "notes": list(notes)}


def listed(files: Sequence[IndexedFile]) -> Outcome:
    """What is in the index."""
    lines = []
    for file in files:
        what = file.error or (
            f"same as {file.same_as}" if file.same_as else f"{file.documents} papers, {file.chunks} chunks"
        )
        lines.append(f"- {file.path}: {what}")
    total = f"{len(files)} files, {sum(file.chunks for file in files)} chunks"
    records = [file_record(file, "failed" if file.error else "indexed") for file in files]
    return Outcome(text="\n".join([*lines, "", total]) if files else "the index is empty", records=records)


def forget(store: SqliteStore, path: Path) -> Outcome:
    """Take a file, or all files below a folder, out of the index. Raises InputError where none is in it."""
    wanted = path.resolve()
    gone = [file for file in store.files().values() if Path(file.path).is_relative_to(wanted)]
    if not gone:
        raise InputError(f"{path} is not in the index", "see what is: /index --list")
    store.remove([file.path for file in gone])
    records = [file_record(file, "removed") for file in gone]
    return Outcome(text=f"forgot {len(gone)} files, {sum(file.chunks for file in gone)} chunks", records=records)


def find(store: SqliteStore, paths: Sequence[Path], options: IndexOptions) -> Outcome:
    """The best passages for a query, in all of the index or in some files."""
    from harness.search.search import Plan, explain, parse_line, record, search
    from harness.search.store import Scope

    files = tuple(str(path.resolve()) for path in paths) if paths else None
    plan = Plan(limit=options.limit, scope=Scope(files, options.references))
    found = search(store, options.find, lines=[parse_line(line) for line in options.lines], plan=plan)
    if not found.hits:
        where = "these files" if paths else "the index"
        raise InputError(f"no passage in {where} has what was asked for", "see what is indexed: /index --list")
    lines = []
    for number, hit in enumerate(found.hits, 1):
        chunk = hit.chunk
        text = " ".join(chunk.text.split())
        lines += [
            f"**[{number}]** {Path(chunk.file).name}{f', {chunk.where}' if chunk.where else ''}: {chunk.header}",
            "",
            f"> {text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}",
            "",
        ]
    if options.explain:
        lines += ["```text", *explain(found), "```"]
    else:
        lines += list(found.notes)
    records = [record(hit, number, options.explain) for number, hit in enumerate(found.hits, 1)]
    return Outcome(text="\n".join(lines).rstrip(), records=records)

"""Files into the store: what is new or changed is read, what is gone is forgotten, the rest costs a look at its date."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from types import MappingProxyType
from typing import Literal

from harness.errors import InputError
from harness.readers.locate import not_found
from harness.readers.text import unreadable, writable
from harness.search.documents import Document
from harness.search.pdf_process import ENCRYPTED, Limits, PdfReader
from harness.search.reading import KINDS, ReadPdf, read
from harness.search.store import Files, IndexedFile, Stamp, Store
from harness.search.vectors import Embedder

READER = "1"
"""Version of reading and chunking: a new one reads every file anew."""
_EMBED_AT_ONCE = 32
_FETCH_AT_ONCE = 4096

Status = Literal["new", "changed", "unchanged", "same", "failed", "removed"]


@dataclass(frozen=True)
class Options:
    """How to read."""

    passwords: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    limits: Limits = field(default_factory=Limits)
    workers: int = 1
    """Processes that read PDFs."""
    fresh: bool = False
    """Read everything anew."""
    docling: bool = False
    """PDFs are read by Docling, one at a time."""
    as_before: bool = False
    """A file that was read with other options (columns, limits) and has not changed stays as it is."""

    @property
    def reader(self) -> str:
        """What the result of reading depends on, besides the file."""
        limits = [f"{self.limits.pages}p", f"{self.limits.seconds:g}s"] if self.limits != Limits() else []
        docling = ["docling"] if self.docling else []
        return " ".join([READER, *docling, *limits, *(f"{key}={name}" for key, name in sorted(self.columns.items()))])


@dataclass(frozen=True)
class Result:
    """What became of one file."""

    file: IndexedFile
    status: Status
    notes: tuple[str, ...] = ()


def find_files(given: Sequence[Path]) -> list[Path]:
    """The files that paths name, absolute: files as they are, folders with all that is readable below them.

    Hidden files and folders are passed over. Raises InputError for a path that leads nowhere.
    """
    found: dict[Path, None] = {}
    for path in given:
        if path.is_dir():
            below = sorted(path.resolve().rglob("*"))
            found.update(dict.fromkeys(file for file in below if _is_readable(file, path.resolve())))
        elif path.exists():
            found[path.resolve()] = None
        else:
            raise not_found(str(path))
    return list(found)


def _is_readable(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return not hidden and file.suffix.lower() in KINDS and file.is_file()


def update(
    store: Store, given: Sequence[Path], options: Options, on_file: Callable[[Result], None] = lambda result: None
) -> list[Result]:
    """Bring the store up to date with files and folders; ``on_file`` is told of each file when it is done.

    A file that cannot be read is a result with status ``failed``; the others go on. Files below a given folder that
    have gone are forgotten. Raises InputError for a path that leads nowhere, or where the store cannot be written.
    """
    files = find_files(given)
    known = store.files()
    results = {path: Result(known.pop(path), "removed") for path in gone(known, given, files)}
    store.remove(list(results))
    for result in results.values():
        on_file(result)
    for path in files:
        if _is_current(path, known, options):
            name = writable(str(path))
            results[name] = Result(known[name], "failed" if known[name].error else "unchanged")
            on_file(results[name])
    stale = [path for path in files if writable(str(path)) not in results] or _orphans(known)
    while stale:
        with closing(_read_into(store, stale, known, options)) as done:
            for result in done:
                results[result.file.path] = result
                on_file(result)
        stale = _orphans(known)
    order = {writable(str(path)): number for number, path in enumerate(files)}
    return sorted(results.values(), key=lambda result: order.get(result.file.path, -1))


def _read_into(
    store: Store, paths: Sequence[Path], known: dict[str, IndexedFile], options: Options
) -> Generator[Result, None, None]:
    """Read files into the store one after another; ``known`` is kept up to date."""
    by_digest = {file.digest: file for file in known.values() if file.digest and not file.same_as and not file.error}
    with _PdfReaders(options) as pdfs:
        for path, read_pdf in pdfs.ahead(paths):
            result = _store(store, path, read_pdf, known, by_digest, options)
            known[result.file.path] = result.file
            if result.file.digest and not result.file.error:
                by_digest.setdefault(result.file.digest, result.file)
            yield result


def _orphans(known: Mapping[str, IndexedFile]) -> list[Path]:
    return [Path(file.path) for file in known.values() if _is_orphan(file, known)]


def _is_orphan(file: IndexedFile, known: Mapping[str, IndexedFile]) -> bool:
    """Whether another file stood for this one, with the same content, and has gone or changed since."""
    return bool(file.same_as) and (file.same_as not in known or known[file.same_as].digest != file.digest)


def gone(known: Mapping[str, IndexedFile], given: Sequence[Path], files: Sequence[Path]) -> list[str]:
    """The paths in the store that lie below a given folder and are no longer among its files."""
    there = {writable(str(path)) for path in files}
    folders = [path.resolve() for path in given if path.is_dir()]
    return [path for path in known if path not in there and any(Path(path).is_relative_to(folder) for folder in folders)]


def embed(
    store: Store, embedder: Embedder, on_text: Callable[[int], None] = lambda count: None, files: Files = None
) -> int:
    """Embed all content of some files that has no vector yet; how much that was. ``on_text`` is told of each batch.

    What is done stays done when it is stopped. Raises ModelError.
    """
    total = 0
    while rows := store.without_vectors(embedder, _FETCH_AT_ONCE, files):
        for start in range(0, len(rows), _EMBED_AT_ONCE):
            some = rows[start : start + _EMBED_AT_ONCE]
            store.add_vectors(embedder, [digest for digest, _ in some], embedder.passages([text for _, text in some]))
            total += len(some)
            on_text(len(some))
    return total


def _is_current(path: Path, known: Mapping[str, IndexedFile], options: Options) -> bool:
    """Whether nothing has to be done for a file: it has the size and date of before, and so has the reader."""
    file = known.get(writable(str(path)))
    if file is None or options.fresh or (options.passwords and ENCRYPTED in file.error) or _is_orphan(file, known):
        return False
    try:
        stamp = _stamp(path, options)
    except OSError:
        return False
    if options.as_before and not file.error and file.stamp.reader.split()[:1] == [READER]:
        stamp = replace(stamp, reader=file.stamp.reader)
    return file.stamp == stamp


def _stamp(path: Path, options: Options) -> Stamp:
    stat = path.stat()
    return Stamp(stat.st_size, stat.st_mtime_ns, options.reader)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _store(
    store: Store,
    path: Path,
    read_pdf: ReadPdf,
    known: Mapping[str, IndexedFile],
    by_digest: Mapping[str, IndexedFile],
    options: Options,
) -> Result:
    """Put one file into the store, or what is wrong with it."""
    name = writable(str(path))
    before = known.get(name)
    file = IndexedFile(name, Stamp(0, 0, options.reader), "")
    try:
        if name != str(path):
            raise InputError(f"{name}: its name is not valid Unicode", "rename it")
        file = replace(file, stamp=_stamp(path, options), digest=_digest(path))
        same = before is not None and before.digest == file.digest and before.stamp.reader == options.reader
        if before and same and not (options.fresh or before.error or before.same_as):
            store.touch(name, file.stamp)
            return Result(replace(before, stamp=file.stamp), "unchanged")
        twin = by_digest.get(file.digest)
        if twin and twin.path != name and known[twin.path].digest == file.digest:
            return Result(store.put(replace(file, same_as=twin.path), ()), "same")
        reading = read(path, read_pdf, options.columns)
        return Result(store.put(file, reading.documents), "changed" if before else "new", tuple(reading.notes))
    except OSError as error:
        why = unreadable(path, error)
    except InputError as error:
        why = error
    return Result(store.put(replace(file, error=writable(str(why))), ()), "failed")


class _PdfReaders:
    """Reads PDFs ahead of their turn, each in one of several child processes."""

    def __init__(self, options: Options) -> None:
        count = 1 if options.docling else max(1, options.workers)
        self._docling = options.docling
        self._readers = [PdfReader(options.passwords, options.limits) for _ in range(count)]
        self._free: SimpleQueue[PdfReader] = SimpleQueue()
        for reader in self._readers:
            self._free.put(reader)
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="pdf")

    def __enter__(self) -> _PdfReaders:
        return self

    def __exit__(self, *details: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for reader in self._readers:
            reader.stop()  # after Ctrl-C nobody waits for what is half read
        self._pool.shutdown(wait=True)
        for reader in self._readers:
            reader.close()

    def ahead(self, paths: Sequence[Path]) -> Iterator[tuple[Path, ReadPdf]]:
        """The paths in their order, each with the function that reads it if it is a PDF; a few PDFs are begun before."""
        pdfs = iter([path for path in paths if KINDS.get(path.suffix.lower()) == "pdf"])
        begun: dict[Path, Future[tuple[Document, list[str]]]] = {}
        for path in paths:
            for pdf in islice(pdfs, 2 * len(self._readers) - len(begun)):
                begun[pdf] = self._pool.submit(self._read, pdf)
            future = begun.pop(path, None)
            yield path, self._read if future is None else partial(_result, future)

    def _read(self, path: Path) -> tuple[Document, list[str]]:
        if self._docling:
            from harness.search import docling

            return docling.read_pdf(path)
        reader = self._free.get()
        try:
            return reader.read(path)
        finally:
            self._free.put(reader)


def _result(future: Future[tuple[Document, list[str]]], path: Path) -> tuple[Document, list[str]]:
    return future.result()

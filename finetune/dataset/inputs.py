"""The builder's inputs: which kind a file is, its rows as often as they are wanted, and the abstracts for bare labels."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TextIO, cast

from finetune.dataset.gold_labels import Join, Text, is_labels, label_rows
from finetune.dataset.rows import Row, row_of, table_rows
from harness.errors import InputError, Offline, UsageError
from harness.readers import open_papers, tables
from harness.readers.arxiv import Client, parse_id, split_version
from harness.readers.text import Text as FileText
from harness.readers.text import from_path

if TYPE_CHECKING:
    from rich.console import Console

Source = Literal["gold", "curated", "agent"]
ORDER: tuple[Source, ...] = ("gold", "curated", "agent")
"""The sources, the one that wins first."""
ARXIV = "arxiv"
_PAGE = 100
"""Abstracts asked for at once: one call of arXiv's API."""

Advance = Callable[[int], None]
"""Told how many characters have been read since the last call."""


@dataclass(frozen=True)
class Input:
    """One file of annotated papers. ``rows`` starts from the top at every call and reads as it goes."""

    source: Source
    path: Path
    rows: Callable[[Advance], Iterator[Row | InputError]]


def open_input(source: Source, path: Path, moves: Sequence[str], join: Join) -> Input:
    """The input that a file is, by its suffix and columns. Raises UsageError or InputError."""
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return _open_table(source, path, suffix[1:], moves, join)
    if suffix in (".jsonl", ".json"):
        text = from_path(path, [])
        walk = _json_rows if suffix == ".json" or _opens_a_list(text) else _line_rows
        return Input(source, path, lambda advance: walk(counted(text, advance), moves))
    raise UsageError(f"{path}: cannot read {suffix or 'a file without a suffix'}", "use .csv, .tsv, .jsonl or .json")


def _open_table(source: Source, path: Path, kind: str, moves: Sequence[str], join: Join) -> Input:
    text = from_path(path, [])
    table = tables.read(text, kind, {}, [])
    if is_labels(table.fieldnames):  # joined once: people have labelled these, so they are few
        joined = list(label_rows(table, moves, join))
        return Input(source, path, lambda advance: iter(joined))
    return Input(source, path, lambda advance: table_rows(tables.read(counted(text, advance), kind, {}, []), moves))


def counted(text: FileText, advance: Advance) -> FileText:
    """The same text, telling how much of it has been read."""
    return replace(text, open=lambda: cast(TextIO, _Counting(text.open(), advance)))


class _Counting(io.TextIOBase):
    """A stream that tells how much has been read."""

    def __init__(self, stream: TextIO, advance: Advance) -> None:
        self._stream, self._advance = stream, advance

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        line = self._stream.readline(-1 if size is None else size)
        self._advance(len(line))
        return line

    def read(self, size: int | None = -1, /) -> str:
        text = self._stream.read(-1 if size is None else size)
        self._advance(len(text))
        return text

    def close(self) -> None:
        self._stream.close()
        super().close()


def _opens_a_list(text: FileText) -> bool:
    return next((line for line in text.lines() if line.strip()), "").lstrip().startswith("[")


def _line_rows(text: FileText, moves: Sequence[str]) -> Iterator[Row | InputError]:
    place = f"{text.name} line"
    for number, line in enumerate(text.lines(), 1):
        if not line.strip():
            continue
        try:
            yield row_of(_parsed(line, f"{place} {number}"), moves, place, number)
        except InputError as error:
            yield error


def _json_rows(text: FileText, moves: Sequence[str]) -> Iterator[Row | InputError]:
    values = _parsed(text.whole(), text.name)
    for number, value in enumerate(values if isinstance(values, list) else [values], 1):
        try:
            yield row_of(value, moves, f"{text.name} entry", number)
        except InputError as error:
            yield error


def _parsed(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise InputError(f"{where}: is no JSON ({reason})", "correct the line, or leave it out") from None


def sha256(path: Path) -> str:
    """``sha256:…`` of a file, read in pieces."""
    try:
        with path.open("rb") as handle:
            return f"sha256:{hashlib.file_digest(handle, 'sha256').hexdigest()}"
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


# ---- abstracts for labels that stand without them ----


def paper_id(identity: str) -> str:
    """An id for comparing: all versions and spellings of an arXiv id are one, any other id stands for itself.

    >>> paper_id("https://arxiv.org/abs/2402.11651v2"), paper_id("math.GT/0309136"), paper_id("Sample-v2")
    ('2402.11651', 'math/0309136', 'Sample-v2')
    """
    found = parse_id(identity)
    if found is None:
        return identity.strip()
    archive, slash, number = split_version(found.lower())[0].partition("/")
    return f"{archive.partition('.')[0]}/{number}" if slash else archive


class Abstracts:
    """Titles and abstracts by id, from files and, where asked for by name, from arXiv; looked up once."""

    def __init__(self, places: Sequence[Path], *, offline: bool, console: Console | None = None) -> None:
        self._places, self._offline, self._console = places, offline, console
        self._known: dict[str, Text] = {}

    def __call__(self, ids: Sequence[str]) -> Mapping[str, Text]:
        """Those of the papers that are known. Raises InputError without a place to look, Offline."""
        if not self._places:
            raise InputError("labels without abstracts need them", "name a file with --abstracts, or --abstracts arxiv")
        wanted = {paper_id(identity) for identity in ids}
        for place in self._places:
            if missing := sorted(wanted - set(self._known)):
                self._known |= self._from_arxiv(missing) if str(place) == ARXIV else _from_file(place, set(missing))
        return {identity: self._known[key] for identity in ids if (key := paper_id(identity)) in self._known}

    def _from_arxiv(self, ids: Sequence[str]) -> dict[str, Text]:
        if self._offline:
            raise Offline("abstracts from arXiv need the network and --offline is in force", "name a file with --abstracts")
        from harness.console import stderr_console
        from harness.jobs.progress import Progress

        client, found = Client(), {}
        ids = [identity for identity in ids if parse_id(identity)]
        pages = [ids[at : at + _PAGE] for at in range(0, len(ids), _PAGE)]
        with Progress(self._console or stderr_console(), len(pages), "calls of arXiv") as progress:
            for page in pages:
                for identity, record in zip(page, client.by_ids(page).records(), strict=True):
                    if not record.error:
                        found[identity] = Text(record.row["title"], record.row["abstract"])
                progress.advance()
        return found


def _from_file(path: Path, wanted: set[str]) -> dict[str, Text]:
    """Those of the wanted papers that a file has. Raises InputError where it cannot be read."""
    if not path.is_file():
        raise InputError(f"{path}: there is no such file of abstracts", "correct --abstracts")
    papers = open_papers(str(path.resolve())).papers
    return {key: Text(paper.title, paper.abstract) for paper in papers if (key := paper_id(paper.id)) in wanted}

"""From what the user typed to a source of papers: picks the reader and chains several files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from harness.errors import InputError, Offline
from harness.readers import bibtex, jsonfile, plain, tables, tagged
from harness.readers.columns import check_given, papers
from harness.readers.locate import KINDS, Located, files, locate, not_found
from harness.readers.paper import Paper
from harness.readers.source import PaperSource, Table
from harness.readers.text import Text, from_path, from_string, shown, writable

_TABLES = ("csv", "tsv", "jsonl", "json", "parquet", "bibtex", "tagged")
_EXPORTS = (".txt", ".text")
"""Suffixes of a text that may as well be a table or a list of references: Web of Science names its exports so."""


def open_source(
    source: str,
    given: Mapping[str, str],
    stdin: str | None,
    offline: bool,
    corpus: Sequence[Path],
    limit: int,
    tell: Callable[[str], None] | None,
) -> PaperSource:
    """As ``open_papers``, whose arguments these are."""
    check_given(given)
    located = locate(source, stdin is not None)
    piped, notes = stdin or "", list[str]()
    tell = tell or notes.append
    if located.kind == "topic":
        return _topic(located.text, _local(corpus, piped, given), offline, limit, tell, notes)
    opened = _open(located, given, piped, offline, limit, tell)
    opened.notes[:0] = notes
    if located.kind != "stdin" and piped.strip():
        opened.notes.append("standard input was not read: the task names its input")
    if limit:
        opened.papers = islice(opened.papers, limit)
        opened.total = None if opened.total is None else min(opened.total, limit)
    return opened


def _open(
    located: Located, given: Mapping[str, str], stdin: str, offline: bool, limit: int, tell: Callable[[str], None]
) -> PaperSource:
    if located.kind == "files":
        return _files(located.paths, given)
    if located.kind == "stdin":
        return _stdin(stdin, given)
    if located.kind == "arxiv":
        return _arxiv(located.ids[: limit or None], offline, tell)
    text = writable(located.text)
    title, abstract = plain.split(text)
    paper = Paper("typed", title, abstract or text, "typed", 1)
    return PaperSource("typed", "typed", iter([paper]), total=1)


def _files(paths: Sequence[Path], given: Mapping[str, str]) -> PaperSource:
    if len(paths) == 1:
        return _file(paths[0], given)
    # Tables are opened now for their columns; the others when their turn comes, for there may be a thousand PDFs.
    opened = [(path, _attempt(path, given) if _kind(path) in _TABLES else None) for path in paths]
    ready = [item for _, item in opened if isinstance(item, PaperSource)]
    notes = [note for item in ready for note in item.notes]
    kinds = {_kind(path) for path in paths}
    totals = [item.total if isinstance(item, PaperSource) else 1 for _, item in opened]
    return PaperSource(
        name=f"{len(paths)} files",
        kind=kinds.pop() if len(kinds) == 1 else "mixed",
        papers=_chain(opened, given, notes),
        fieldnames=tuple(dict.fromkeys(name for item in ready for name in item.fieldnames)),
        total=None if None in totals else sum(total for total in totals if total is not None),
        notes=notes,
        files=len(paths),
    )


def _chain(
    opened: Sequence[tuple[Path, PaperSource | Paper | None]], given: Mapping[str, str], notes: list[str]
) -> Iterator[Paper]:
    for path, ready in opened:
        item = ready or _attempt(path, given)
        if isinstance(item, Paper):
            yield item
            continue
        told = len(item.notes) if ready else 0
        yield from item.papers
        notes.extend(item.notes[told:])


def _attempt(path: Path, given: Mapping[str, str]) -> PaperSource | Paper:
    """The opened file, or a row that says why it cannot be opened: one bad file must not stop the others."""
    try:
        return _file(path, given)
    except InputError as error:
        return Paper(writable(path.stem), "", "", writable(str(path)), 1, error=str(error))


def _kind(path: Path) -> str:
    return KINDS.get(path.suffix.lower(), "")


def _file(path: Path, given: Mapping[str, str]) -> PaperSource:
    if not path.is_file():
        raise InputError(f"{path} is not a regular file", "pipe it in instead")
    kind, notes = _kind(path), list[str]()
    if kind == "pdf":
        from harness.readers import pdf

        return PaperSource(writable(str(path)), kind, iter([pdf.read(path, notes)]), total=1, notes=notes)
    if kind == "parquet":
        from harness.readers import parquet

        return papers(parquet.read(path), given, notes)
    text = from_path(path, notes)
    if not kind or (kind == "text" and path.suffix.lower() in _EXPORTS):
        kind = _sniffed(text, given)
    return _text(text, kind, writable(path.stem), given, notes)


def _text(text: Text, kind: str, identity: str, given: Mapping[str, str], notes: list[str]) -> PaperSource:
    if kind == "text":
        return PaperSource(text.name, kind, iter([plain.paper(text, identity)]), total=1, notes=notes)
    return papers(_table(text, kind, given, notes), given, notes)


def _table(text: Text, kind: str, given: Mapping[str, str], notes: list[str]) -> Table:
    if kind == "jsonl":
        return jsonfile.read_lines(text)
    if kind == "json":
        return jsonfile.read_document(text, notes, tuple(given.values()))
    if kind == "bibtex":
        return bibtex.read(text)
    if kind == "tagged":
        return tagged.read(text)
    return tables.read(text, kind, given, notes)


def _stdin(stdin: str, given: Mapping[str, str]) -> PaperSource:
    text = from_string("stdin", stdin)
    if not stdin.strip():
        raise InputError("standard input is empty", "pipe papers in, or name a file")
    return replace(_text(text, _sniffed(text, given), "stdin", given, []), kind="stdin")


def _sniffed(text: Text, given: Mapping[str, str]) -> str:
    """The kind of a text without a telling name."""
    first = [line for line in islice(text.lines(), 20) if line.strip()]
    start = first[0].strip() if first else ""
    if re.match(r'\{\s*(["}]|$)', start):
        return "jsonl" if start.endswith("}") else "json"
    if re.match(r"\[\s*([{\]]|$)", start):
        return "json"
    if any(re.match(r"\s*@\w+\s*[{(]", line) for line in first):
        return "bibtex"
    if tagged.is_tagged(start):
        return "tagged"
    return "csv" if tables.looks_like_table(start, given) else "text"


def _arxiv(ids: Sequence[str], offline: bool, tell: Callable[[str], None]) -> PaperSource:
    if offline:
        raise Offline("an arXiv paper needs the network", "run without --offline, or give a file")
    from harness.readers import arxiv

    client = arxiv.Client()
    tell(f"asking {client.host} for {ids[0] if len(ids) == 1 else f'{len(ids)} papers by their ids'}")
    opened = papers(client.by_ids(ids), {}, [])
    if len(ids) == 1:  # nothing else to go on with
        found = list(opened.papers)
        if found[0].error:
            raise InputError(found[0].error, "check the id")
        opened.papers = iter(found)
    return opened


def _local(corpus: Sequence[Path], piped: str, given: Mapping[str, str]) -> PaperSource | None:
    """The papers among which a topic is looked up: the files given, else what was piped in."""
    if corpus:
        return _files([path for name in corpus for path in _named(name)], given)
    return _stdin(piped, given) if piped.strip() else None


def _topic(
    topic: str,
    local: PaperSource | None,
    offline: bool,
    limit: int,
    tell: Callable[[str], None],
    notes: list[str],
) -> PaperSource:
    from harness.readers.topic import DEFAULT_LIMIT, content_words, rank

    if local:
        if found := rank(topic, _readable(local, notes), limit):
            notes += [*local.remarks(), f"{len(found)} papers on '{shown(topic)}' from {local.name}"]
            return PaperSource(topic, "topic", iter(found), local.fieldnames, len(found), notes)
        tell(f"{local.name}: no paper on '{shown(topic)}'")
    if offline:
        where = f"no paper on '{shown(topic)}' is in the files given" if local else f"'{shown(topic)}' is a topic"
        raise Offline(where, "name files of papers with --papers, or run without --offline to search arXiv")
    return _searched(topic, content_words(topic), limit or DEFAULT_LIMIT, tell, notes)


def _searched(topic: str, terms: Sequence[str], limit: int, tell: Callable[[str], None], notes: list[str]) -> PaperSource:
    from harness.readers import arxiv

    client = arxiv.Client()
    if terms:
        tell(f"asking {client.host} for up to {limit} papers on: {' '.join(terms)} (--offline forbids it)")
    table = client.search(terms, limit) if terms else None
    if table is None or not table.total:
        raise InputError(f"arXiv has no paper on '{shown(topic)}'", "name files of papers with --papers")
    return replace(papers(table, {}, notes), name=topic, kind="topic")


def _named(path: Path) -> list[Path]:
    found = files(str(path))
    if not found:
        raise not_found(str(path))
    return found


def _readable(source: PaperSource, notes: list[str]) -> Iterator[Paper]:
    """The papers without those that have an error; how many those were, and the first one, is remarked."""
    errors: list[str] = []
    for paper in source.papers:
        if paper.error is None:
            yield paper
        else:
            errors.append(paper.error)
    if errors:
        notes.append(f"left out {len(errors)} that cannot be read, the first: {shown(errors[0], 200)}")

"""``data/gold_labels.csv``: labels of papers whose abstracts stand elsewhere.

    python -m finetune.dataset.gold_labels write ../shared/data/gold/moves_train.jsonl --out data/gold_labels.csv
    python -m finetune.dataset.gold_labels check data/gold_labels.csv --gold ../shared/data/gold/moves_train.jsonl
    python -m finetune.dataset.gold_labels join data/agent_labels.csv --abstracts abstracts.jsonl --out labelled.jsonl

One row a paper: ``arxiv_id``, ``abstract_sha256`` (the first 16 hexadecimal digits), ``sentence_spans`` (all sentences as
character offsets ``start-end``) and a column a move with the numbers of its sentences, best first. Numbers count the spans
beside them, so no sentence splitter can shift them. Hash and offsets are those of the abstract with white space folded:
where a source breaks its lines does not matter, and any other change of the text does.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from finetune.dataset.rows import Cell, Row, parse_numbers, row_of
from harness.annotation_files import rows as json_rows
from harness.arguments import guarded
from harness.errors import InputError
from harness.outputs import atomic_write
from harness.readers.source import Record, Table
from harness.readers.text import shown
from harness.sentences import locate
from skills.annotate.moves import load_framework

HASH, SPANS = "abstract_sha256", "sentence_spans"
DIGITS = 16
NO_ABSTRACT = "no abstract was found for the labels"
CHANGED = "the abstract is not the one that was labelled"


class Text(NamedTuple):
    """What a paper's labels are joined with."""

    title: str
    abstract: str


Join = Callable[[Sequence[str]], Mapping[str, Text]]
"""Ids of papers → title and abstract of those that are known, under the same ids."""


def folded(text: str) -> str:
    """A text with every run of white space made one space."""
    return " ".join(text.split())


def digest(abstract: str) -> str:
    """The short hash of an abstract."""
    return hashlib.sha256(folded(abstract).encode()).hexdigest()[:DIGITS]


# ---- writing ----


def write(rows: Iterable[Row], path: Path, moves: Sequence[str]) -> int:
    """Write the labels of gold rows; how many papers. Raises InputError where a sentence is not in its abstract."""
    count = 0
    with atomic_write(path) as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["arxiv_id", HASH, SPANS, *moves])
        for row in rows:
            writer.writerow(_label_cells(row, moves))
            count += 1
    return count


def _label_cells(row: Row, moves: Sequence[str]) -> list[str]:
    if not row.id or not row.sentences:
        raise InputError(f"{row.where}: needs an id and its sentences", "give gold rows as /annotate --review writes them")
    spans = locate(folded(row.abstract), [folded(sentence) for sentence in row.sentences])
    if spans is None:
        raise InputError(f"{row.where}: its sentences do not stand in the abstract in order", "correct the row")
    numbers = [row.cells[move].numbers if move in row.cells else () for move in moves]
    if any(n is None or not all(1 <= number <= len(spans) for number in n) for n in numbers):
        raise InputError(f"{row.where}: a move names a sentence that is not there", f"it has {len(spans)} sentences")
    written = [";".join(f"{span.start}-{span.end}" for span in spans)]
    written += [";".join(map(str, n or ())) for n in numbers]
    return [row.id, digest(row.abstract), *written]


def gold_rows(path: Path, moves: Sequence[str]) -> Iterator[Row]:
    """The rows of a gold JSONL file. Raises InputError naming file and line."""
    for number, (_, value) in enumerate(json_rows(path), 1):
        yield row_of(value, moves, f"{path} entry", number)


# ---- reading ----


def is_labels(fieldnames: Sequence[str]) -> bool:
    """Whether a table with these columns is a file of labels without abstracts."""
    return HASH in fieldnames and SPANS in fieldnames


def label_rows(table: Table, moves: Sequence[str], join: Join) -> Iterator[Row | InputError]:
    """The rows of a file of labels with the abstracts that ``join`` finds.

    A paper whose abstract is missing or has changed is a row with a problem; a wrong row comes as the InputError that
    says why. Raises InputError for missing columns.
    """
    if missing := [name for name in ("arxiv_id", *moves) if name not in table.fieldnames]:
        raise InputError(f"{table.name}: has no column {', '.join(missing)}", "write it with finetune.dataset.gold_labels")
    records = list(table.records())
    texts = join([record.row["arxiv_id"] for record in records if record.row.get("arxiv_id")])
    for record in records:
        try:
            yield _joined(record, f"{table.name} row", moves, texts)
        except InputError as error:
            yield error


def _joined(record: Record, place: str, moves: Sequence[str], texts: Mapping[str, Text]) -> Row:
    row, where = record.row, f"{place} {record.number}"
    if record.error:
        raise InputError(record.error, "correct the file")
    text = texts.get(row["arxiv_id"])
    problem = None if text else NO_ABSTRACT
    if text and digest(text.abstract) != row[HASH]:
        text, problem = None, CHANGED
    if text is None:
        return Row(place, record.number, row["arxiv_id"], "", "", problem=problem)
    abstract = folded(text.abstract)
    sentences = [abstract[start:end] for start, end in _spans(row[SPANS], len(abstract), where)]
    cells = {move: Cell(numbers=parse_numbers(row[move], where)) for move in moves if row[move].strip()}
    return Row(place, record.number, row["arxiv_id"], folded(text.title), abstract, tuple(sentences), cells=cells)


def _spans(text: str, length: int, where: str) -> list[tuple[int, int]]:
    """``0-163;164-392`` as offsets, in order and within the abstract. Raises InputError."""
    spans = []
    position = 0
    for part in text.split(";"):
        start, dash, end = part.partition("-")
        if not (dash and start.isdecimal() and end.isdecimal() and position <= int(start) < int(end) <= length):
            raise InputError(
                f"{where}: {shown(part)!r} is no span of an abstract of {length} characters", "restore the row"
            )
        position = int(end)
        spans.append((int(start), position))
    return spans


def check(labels: Iterable[Row | InputError], gold: Iterable[Row], moves: Sequence[str]) -> dict[str, list[str]]:
    """Ids of joined labels by how they compare with the gold rows they were written from: ``same``, or what differs."""
    wanted = {row.id: row for row in gold}
    found: dict[str, list[str]] = {"same": []}
    for row in labels:
        if isinstance(row, InputError):
            raise row
        original = wanted.pop(row.id, None)
        if original is None:
            reason = "not in the gold file"
        elif row.problem:
            reason = row.problem
        elif list(map(folded, original.sentences or ())) != list(row.sentences or ()):
            reason = "other sentences"
        elif any(original.cells.get(move) != row.cells.get(move) for move in moves):
            reason = "other numbers"
        else:
            reason = "same"
        found.setdefault(reason, []).append(row.id)
    return found | ({"not in the labels": list(wanted)} if wanted else {})


def joined(labels: Path, places: Sequence[Path], moves: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """The rows of a file of labels with their abstracts, and those whose abstract is missing or has changed.

    Raises InputError for a wrong row or file.
    """
    from finetune.dataset.inputs import Abstracts
    from harness.readers.tables import read
    from harness.readers.text import from_path

    table = read(from_path(labels, []), "csv", {"abstract": HASH}, [])
    found: tuple[list[Row], list[Row]] = ([], [])
    for row in label_rows(table, moves, Abstracts(places, offline=True)):
        if isinstance(row, InputError):
            raise row
        found[bool(row.problem)].append(row)
    return found


def gold_record(row: Row, moves: Sequence[str]) -> dict[str, Any]:
    """A joined row as gold."""
    stated = {move: list(row.cells[move].numbers or ()) if move in row.cells else [] for move in moves}
    texts = {"title": row.title, "abstract": row.abstract, "sentences": list(row.sentences or ())}
    return {"arxiv_id": row.id, **texts, "moves": stated}


def write_gold(records: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write gold JSONL, as ``finetune.mark_train`` and the data-set builder read it."""
    with atomic_write(path) as handle:
        handle.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


@guarded
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    writer = commands.add_parser("write", help="labels of a gold JSONL file as CSV, without abstracts")
    writer.add_argument("gold", type=Path)
    writer.add_argument("--out", type=Path, default=Path("data/gold_labels.csv"))
    checker = commands.add_parser("check", help="whether labels joined with abstracts say what the gold file says")
    checker.add_argument("labels", type=Path)
    checker.add_argument("--gold", type=Path, required=True)
    joiner = commands.add_parser("join", help="labels and their abstracts as a gold JSONL file")
    joiner.add_argument("labels", type=Path)
    joiner.add_argument("--abstracts", type=Path, action="append", required=True, help="file of papers with ids")
    joiner.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)

    moves = load_framework().names
    if args.command == "join":
        rows, lost = joined(args.labels, args.abstracts, moves)
        write_gold((gold_record(row, moves) for row in rows), args.out)
        print(f"{args.out}: {len(rows)} papers; {len(lost)} without the abstract that was labelled", file=sys.stderr)
        return 0
    if args.command == "write":
        print(f"{args.out}: labels of {write(gold_rows(args.gold, moves), args.out, moves)} papers", file=sys.stderr)
        return 0
    from harness.readers.tables import read
    from harness.readers.text import from_path

    texts = {row.id: Text(row.title, row.abstract) for row in gold_rows(args.gold, moves)}
    table = read(from_path(args.labels, []), "csv", {"abstract": HASH}, [])
    found = check(label_rows(table, moves, lambda ids: texts), gold_rows(args.gold, moves), moves)
    print(json.dumps({reason: len(ids) if reason == "same" else ids for reason, ids in found.items()}))
    return int(set(found) != {"same"})


if __name__ == "__main__":
    raise SystemExit(main())

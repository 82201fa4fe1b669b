"""Expansion data from a data set that exists: a local file, or one of Hugging Face by its name. No model is asked.

    python finetune/dataset/generate_offline.py expansions.csv --count 1000
    python finetune/dataset/generate_offline.py OWNER/NAME --split train

Reads .jsonl, .json, .csv, .tsv and .parquet; columns are found by their usual names or given. Lines with ``lex:``,
``vec:``, ``hyde:`` keep their type, others are told apart by their form; no line is made up, so rows without lex or vec
are left out.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # run as a file, Python looks for modules beside it, not in the checkout
    sys.path[0] = str(Path(__file__).resolve().parent.parent.parent)

from finetune.dataset.expansion_cli import GENERATED, check_out, command, gives_output
from finetune.dataset.expansion_schema import load_examples, write_examples
from finetune.dataset.offline import columns, convert
from harness.arguments import guarded
from harness.errors import Exit, InputError, Offline, UsageError

Row = dict[str, Any]


@guarded
def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    parser = command("generate_offline.py", __doc__)
    add = parser.add_argument
    add("data", help="a file, or the name of a data set of Hugging Face (mind its licence)")
    gives_output(parser, GENERATED, "the examples")
    add("--split", default="train", help="of a Hugging Face data set (default: train)")
    add("--query-column", default="", metavar="NAME")
    add("--output-column", default="", metavar="NAME", help="the expansions: a list, or text with lex:, vec:, hyde: lines")
    add("--count", type=int, default=0, metavar="N", help="so many examples at most")
    add("--known", type=Path, action="append", default=[], metavar="FILE", help="examples whose questions are left out")
    add("--offline", action="store_true", help="never use the network")
    args = parser.parse_args(argv)
    if args.count < 0:
        raise UsageError(f"--count {args.count} is too few", "give 1 or more, or leave it out")
    check_out(args)
    path = Path(args.data)
    local = path.exists() or path.suffix.lower() in READERS
    rows = read_file(path) if local else read_hub(args.data, args.split, offline=args.offline)
    head, rest = _first(rows, args.data)
    try:
        query, output = columns(head, args.query_column, args.output_column)
    except LookupError as error:
        there = f"its columns are {', '.join(map(str, head))}"
        raise InputError(f"{args.data}: {error.args[0]}; {there}", "give --query-column and --output-column") from None
    known = {example.stem for example in load_examples(args.known)} if args.known else set()
    source = path.stem if local else args.data
    found = convert(rest, query, output, source=source, known=known, count=args.count)
    if not found.examples:
        told = ", ".join(f"{reason} ({count})" for reason, count in found.dropped.most_common(3))
        raise InputError(f"{args.data}: no row gives an example: {told}", "give other columns")
    write_examples(args.out, found.examples, overwrite=args.yes)
    print(f"{args.out}: {len(found.examples)} examples from {args.data}")
    for reason, count in found.dropped.most_common():
        print(f"  left out: {reason}: {count}")
    return Exit.DONE


def _first(rows: Iterator[Row], name: str) -> tuple[Row, Iterable[Row]]:
    """The first row, and all rows. Raises InputError where there are none."""
    from itertools import chain

    head = next(rows, None)
    if head is None:
        raise InputError(f"{name}: has no rows", "give another file")
    return head, chain([head], rows)


def read_file(path: Path) -> Iterator[Row]:
    """The rows of a local file. Raises UsageError, InputError."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise UsageError(f"{path}: cannot read {path.suffix or 'a file without a suffix'}", f"use {' '.join(READERS)}")
    try:
        yield from reader(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or 'not UTF-8'})", "check the file"
        ) from None


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as handle:
        for number, line in enumerate(handle, 1):
            if line.strip():
                yield _object(_json(line, f"{path}: line {number}"), f"{path}: line {number}")


def _list(path: Path) -> Iterator[Row]:
    rows = _json(path.read_text(encoding="utf-8-sig"), str(path))
    for number, row in enumerate(rows if isinstance(rows, list) else [rows], 1):
        yield _object(row, f"{path}: row {number}")


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise InputError(f"{where} is no JSON", "correct it") from None


def _object(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise InputError(f"{where} is no JSON object", "give objects with a query and its expansions")
    return value


def _table(path: Path) -> Iterator[Row]:
    csv.field_size_limit(10_000_000)
    with path.open(encoding="utf-8-sig", newline="") as handle:
        yield from csv.DictReader(handle, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")


def _parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(f"{path}: Parquet needs pyarrow", "pip install 'marginalia[tables]'") from None
    try:
        for batch in pyarrow.parquet.ParquetFile(path).iter_batches(1000):
            yield from batch.to_pylist()
    except pyarrow.ArrowInvalid:
        raise InputError(f"{path}: is no Parquet file", "check the file") from None


READERS = {".jsonl": _jsonl, ".json": _list, ".csv": _table, ".tsv": _table, ".parquet": _parquet}


def read_hub(name: str, split: str, *, offline: bool) -> Iterator[Row]:
    """The rows of a data set of Hugging Face, streamed. Raises InputError, Offline."""
    if offline:
        raise Offline(f"{name}: no such file, and data sets of that name are not fetched: offline", "give a local file")
    try:
        from datasets import load_dataset
    except ImportError:
        raise InputError(
            f"{name}: no such file, and data sets need a package", "pip install 'marginalia[finetune]'"
        ) from None
    try:
        yield from load_dataset(name, split=split, streaming=True)
    except Exception as error:  # noqa: BLE001 - the library raises whatever its transports raise
        line = str(error).partition("\n")[0]
        raise InputError(
            f"{name}: cannot be read from Hugging Face ({line})", "check the name, or give a local file"
        ) from None


if __name__ == "__main__":
    raise SystemExit(main())

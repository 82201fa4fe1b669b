"""Annotations as CSV, Parquet, Markdown and JSON: what stands where. Files are opened and renamed in ``outputs.py``.

Cells are verbatim: a cell that starts with ``=``, ``+``, ``-`` or ``@`` is not altered, because a quote must equal its
sentence. Whoever opens foreign papers in a spreadsheet should import the file as text.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import IO, Any, Literal

from harness.errors import UsageError

Record = Mapping[str, Any]
Row = Mapping[str, str]

RECORD_KEYS = ("id", "title", "status", "moves", "absent", "style", "model", "error")
MODEL_KEYS = ("name", "backend", "digest")
MOVE_KEYS = ("text", "sentences", "spans", "confidence")
PARQUET_ROWS = 1000
"""Rows held at once while Parquet is written."""

_CONTROL: dict[int, str | None] = dict.fromkeys((*range(0x20), 0x7F, *range(0x80, 0xA0), *range(0xD800, 0xE000)))
_CONTROL |= {ord("\t"): "\t", ord("\n"): "\n", 0x0B: "\n", 0x0C: "\n", 0x85: "\n"}
_NOT_RAW_IN_JSON: dict[int, str] = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
_NOT_RAW_IN_JSON |= {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029)}
_MARKUP = re.compile(r"([\\`*_\[\]~|$#])")


@dataclass(frozen=True)
class Annotations:
    """What is written: annotation records, and the input's own columns where the input had any.

    ``rows`` is empty or as long as ``records``, in the same order. ``moves`` are the names of the framework in force.
    """

    records: Sequence[Record]
    moves: Sequence[str]
    rows: Sequence[Row] = ()
    fieldnames: Sequence[str] = ()
    title: str = ""

    def __post_init__(self) -> None:
        if self.rows and len(self.rows) != len(self.records):
            raise ValueError(f"{len(self.rows)} input rows for {len(self.records)} records")

    def pairs(self) -> Iterator[tuple[Record, Row]]:
        """Each record with its input row (an empty one where the input had no columns)."""
        return zip(self.records, self.rows or repeat({}), strict=False)


# ---- what a record says ----


def clean(value: object) -> str:
    """Text without control characters (terminal escapes among them) and lone surrogates; line ends become ``\\n``."""
    if value is None:
        return ""
    return str(value).replace("\r\n", "\n").replace("\r", "\n").translate(_CONTROL)


def one_line(value: object) -> str:
    """Clean text with every run of white space made one space."""
    return " ".join(clean(value).split())


def found(record: Record, move: str) -> Mapping[str, Any] | None:
    """What the record says of a move; None is not stated."""
    return (record.get("moves") or {}).get(move) or None


def confidence(record: Record, move: str) -> float | None:
    """How sure it is that the move is stated as quoted, or that it is not stated; None where the record does not say."""
    entry, absent = found(record, move), record.get("absent")
    if entry is None:
        entry = {"confidence": absent.get(move)} if isinstance(absent, Mapping) else {}
    value = entry.get("confidence")
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def has_confidence(table: Annotations) -> bool:
    """Whether any move of any record carries a confidence."""
    return any(confidence(record, move) is not None for record in table.records for move in table.moves)


def model_name(record: Record) -> str:
    """The name of the model that made a record; empty where none did."""
    model = record.get("model")
    return one_line(model.get("name") if isinstance(model, Mapping) else model)


def annotated(records: Sequence[Record]) -> list[Record]:
    """The records that could be annotated: shares are shares of these."""
    return [record for record in records if record.get("status") != "error"]


# ---- CSV and Parquet ----


@dataclass(frozen=True)
class Column:
    """One column of CSV and Parquet: its name, its type, and how a record and its input row fill it."""

    name: str
    kind: Literal["text", "sentences", "confidence"]
    value: Callable[[Record, Row], Any]


def _from_input(name: str, record: Record, row: Row) -> str:
    return clean(row.get(name))


def _from_record(name: str, record: Record, row: Row) -> str:
    return clean(record.get(name))


def _from_move(move: str, kind: str, record: Record, row: Row) -> Any:
    if kind == "confidence":
        return confidence(record, move)
    entry = found(record, move)
    if kind == "sentences":
        return list((entry or {}).get("sentences") or ())
    return clean(entry.get("text")) if entry else None


def _free(name: str, taken: set[str]) -> str:
    """The name, or the first of ``name_2``, ``name_3``, … that no column has yet."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    taken.add(free)
    return free


def columns(table: Annotations) -> list[Column]:
    """The layout of DESIGN.md. The input's columns keep their names; ours give way where they collide.

    An input without columns (a typed abstract, a PDF) is given ``id`` and ``title``.
    """
    given = dict.fromkeys((*table.fieldnames, *(name for row in table.rows for name in row)))
    made = [Column(clean(name), "text", partial(_from_input, name)) for name in given]
    made = made or [Column(name, "text", partial(_from_record, name)) for name in ("id", "title")]
    made += [Column(move, "text", partial(_from_move, move, "text")) for move in table.moves]
    made += [Column(f"{move}_sentences", "sentences", partial(_from_move, move, "sentences")) for move in table.moves]
    if has_confidence(table):
        names = ((move, f"{move}_confidence") for move in table.moves)
        made += [Column(name, "confidence", partial(_from_move, move, "confidence")) for move, name in names]
    made += [Column(f"annotation_{name}", "text", partial(_from_record, name)) for name in ("status", "error")]
    made.append(Column("annotation_model", "text", lambda record, row: model_name(record)))
    taken: set[str] = set()
    return [Column(_free(clean(column.name), taken), column.kind, column.value) for column in made]


def _csv_cell(kind: str, value: Any) -> Any:
    if kind == "sentences":
        return ";".join(str(number) for number in value)
    if kind == "confidence":
        return "" if value is None else round(value, 4)
    return value  # csv writes None as an empty cell


def write_csv(handle: IO[str], table: Annotations, delimiter: str = ",") -> None:
    """CSV as DESIGN.md lays it out: blank is not stated, sentences as ``5;7``."""
    layout = columns(table)
    writer = csv.writer(handle, delimiter=delimiter, lineterminator="\n")
    writer.writerow([column.name for column in layout])
    for record, row in table.pairs():
        writer.writerow([_csv_cell(column.kind, column.value(record, row)) for column in layout])


def write_tsv(handle: IO[str], table: Annotations) -> None:
    """The same with tabs between the cells; a cell with a tab or a line end stands in quotes, as in CSV."""
    write_csv(handle, table, "\t")


def no_parquet() -> UsageError:
    """What to raise where pyarrow is missing."""
    return UsageError("Parquet needs pyarrow, which is not installed", "pip install 'marginalia[tables]', or save as .csv")


def write_parquet(handle: IO[bytes], table: Annotations) -> None:
    """The columns of the CSV, typed: strings (null is not stated), lists of integers, floats.

    Raises UsageError where pyarrow is missing.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise no_parquet() from None
    types = {"text": pyarrow.string(), "sentences": pyarrow.list_(pyarrow.int32()), "confidence": pyarrow.float64()}
    layout = columns(table)
    schema = pyarrow.schema([(column.name, types[column.kind]) for column in layout])
    pairs = list(table.pairs())
    with parquet.ParquetWriter(handle, schema) as writer:
        for start in range(0, len(pairs), PARQUET_ROWS):
            part = pairs[start : start + PARQUET_ROWS]
            values = [[column.value(record, row) for record, row in part] for column in layout]
            arrays = [pyarrow.array(cells, field.type) for cells, field in zip(values, schema, strict=True)]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


# ---- JSON ----


def _ordered(mapping: Mapping[str, Any], first: Sequence[str]) -> dict[str, Any]:
    """The same mapping: the keys of ``first`` in their order, then the others by name."""
    known = [key for key in first if key in mapping]
    return {key: mapping[key] for key in (*known, *sorted(set(mapping) - set(known)))}


def json_line(record: Record, moves: Sequence[str]) -> str:
    """A record as one line of JSON whose keys always stand in the same order; nothing is added to it.

    Control characters are escaped; lone surrogates become U+FFFD (replaced, not removed: spans count characters).
    """
    ordered = _ordered(record, RECORD_KEYS)
    if isinstance(ordered.get("model"), Mapping):
        ordered["model"] = _ordered(ordered["model"], MODEL_KEYS)
    if isinstance(ordered.get("moves"), Mapping):
        entries = _ordered(ordered["moves"], moves)
        ordered["moves"] = {move: entry and _ordered(entry, MOVE_KEYS) for move, entry in entries.items()}
    if isinstance(ordered.get("absent"), Mapping):
        ordered["absent"] = _ordered(ordered["absent"], moves)
    return json.dumps(ordered, ensure_ascii=False).translate(_NOT_RAW_IN_JSON)


def write_jsonl(handle: IO[str], table: Annotations) -> None:
    """One record a line."""
    for record in table.records:
        handle.write(json_line(record, table.moves) + "\n")


def write_json(handle: IO[str], table: Annotations) -> None:
    """One array, one record a line."""
    handle.write("[")
    for number, record in enumerate(table.records):
        handle.write((",\n" if number else "\n") + json_line(record, table.moves))
    handle.write("\n]\n")


# ---- Markdown ----


def escape_markdown(value: object) -> str:
    """Foreign text as one line of Markdown that shows exactly that text: no markup, no HTML, no table cell ends."""
    text = one_line(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\1", text)


def _markdown_move(record: Record, move: str) -> str:
    entry = found(record, move)
    notes = []
    if sentences := (entry or {}).get("sentences"):
        notes.append(f"sentence{'s' * (len(sentences) > 1)} {', '.join(str(number) for number in sentences)}")
    if (sure := confidence(record, move)) is not None:
        notes.append(f"confidence {sure:.2f}")
    note = f" ({'; '.join(notes)})" if notes else ""
    text = escape_markdown(entry.get("text")) if entry else "*not stated*"
    return f"- **{escape_markdown(move)}** {text}{note}\n"


def _markdown_summary(table: Annotations) -> Iterator[str]:
    usable = annotated(table.records)
    failed = len(table.records) - len(usable)
    models = ", ".join(dict.fromkeys(name for record in table.records if (name := model_name(record))))
    yield f"# {escape_markdown(table.title) or 'Annotations'}\n\n"
    yield f"{len(table.records)} papers, {failed} failed{f'; model {escape_markdown(models)}' * bool(models)}.\n\n"
    yield "| move | papers that state it | share |\n| --- | ---: | ---: |\n"
    for move in table.moves:
        count = sum(found(record, move) is not None for record in usable)
        yield f"| {escape_markdown(move)} | {count} of {len(usable)} | {count / max(1, len(usable)):.0%} |\n"


def write_markdown(handle: IO[str], table: Annotations) -> None:
    """A summary table of several papers, then each with its moves, the sentences they rest on, and what went wrong."""
    several = len(table.records) != 1
    if several:
        handle.writelines(_markdown_summary(table))
    for record in table.records:
        name = escape_markdown(record.get("title")) or escape_markdown(record.get("id")) or "Untitled"
        handle.write("\n" * several + f"## {name}\n\n")
        if record.get("id") and record.get("title"):
            handle.write(f"{escape_markdown(record['id'])}\n\n")
        if record.get("status") != "ok":
            reason = escape_markdown(record.get("error")) or "no reason given"
            handle.write(f"**{escape_markdown(record.get('status'))}:** {reason}\n\n")
        if record.get("status") != "error":
            handle.writelines(_markdown_move(record, move) for move in table.moves)

"""Parquet through pyarrow, in batches."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.readers.jsonfile import cell
from harness.readers.source import Record, Table

_BATCH = 256


def read(path: Path) -> Table:
    """The table in ``path``. Raises InputError where pyarrow is missing or the file is no Parquet."""
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise InputError(f"{path}: reading Parquet needs pyarrow", "pip install 'marginalia[tables]'") from error
    damage = (pyarrow.ArrowException, OSError)
    try:
        with parquet.ParquetFile(path) as file:
            fieldnames, total = tuple(file.schema_arrow.names), file.metadata.num_rows
    except damage as error:
        raise _damaged(path, error) from error
    if len(set(fieldnames)) < len(fieldnames):
        raise InputError(f"{path} has several columns of the same name", "rename them")

    def records() -> Iterator[Record]:
        number = 0
        try:
            with parquet.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=_BATCH):
                    for values in batch.to_pylist():
                        number += 1
                        yield _record(number, values)
        except damage as error:
            raise _damaged(path, error) from error

    return Table(str(path), "parquet", fieldnames, records, total)


def _record(number: int, values: dict[str, Any]) -> Record:
    sentences = values.get("sentences")
    return Record(number, {name: _cell(value) for name, value in values.items()}, sentences)


def _cell(value: Any) -> str:
    if isinstance(value, float) and math.isnan(value):
        return ""  # how pandas writes a missing value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return cell(value) if value is None or isinstance(value, str | bool | int | float) else str(value)


def _damaged(path: Path, error: BaseException) -> InputError:
    return InputError(f"{path} is not a Parquet file that can be read ({' '.join(str(error).split())[:120]})")

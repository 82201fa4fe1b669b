"""What a GGUF file says about itself before its weights: read by hand, so that nothing heavy is imported for it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from harness.errors import ModelError

REFETCH_REMEDY = "fetch or build the model file again"
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of each scalar type of the format; 8 is a string, 9 an array."""
_STRING, _ARRAY = 8, 9
_INTEGERS = {4: "<I", 5: "<i", 10: "<Q", 11: "<q"}


class _Reader:
    """Little-endian values from a file; running past its end is a ModelError, however large a length claims to be."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file, self._path = file, path
        self._size = path.stat().st_size

    def bytes(self, count: int) -> bytes:
        self._check(count)
        return self._file.read(count)

    def skip(self, count: int) -> None:
        self._check(count)
        self._file.seek(count, 1)

    def number(self, layout: str) -> int:
        return int(struct.unpack(layout, self.bytes(struct.calcsize(layout)))[0])

    def _check(self, count: int) -> None:
        if count > self._size - self._file.tell():
            raise ModelError(f"{self._path}: the GGUF file is cut short or damaged", REFETCH_REMEDY)

    def skip_value(self, kind: int, count: int = 1) -> None:
        """Pass over ``count`` values of one type, arrays of arrays too."""
        if kind in _SIZES:
            self.skip(_SIZES[kind] * count)
        elif kind == _STRING:
            for _ in range(count):
                self.skip(self.number("<Q"))
        elif kind == _ARRAY:
            for _ in range(count):
                self.skip_value(self.number("<I"), self.number("<Q"))
        else:
            raise ModelError(f"{self._path}: the GGUF file is damaged (value of type {kind})", REFETCH_REMEDY)


def trained_context(path: Path) -> int:
    """Tokens that the model in the GGUF file ``path`` was trained to take at once.

    Raises ModelError, naming the file, where it is missing, not a GGUF file, cut short or without that number.
    """
    try:
        with path.open("rb") as file:
            return _find_context(_Reader(file, path), path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})", REFETCH_REMEDY) from None


def facts(path: Path) -> dict[str, int | str]:
    """The whole numbers and texts among a GGUF file's metadata, lists left out. Raises ModelError as above."""
    found: dict[str, int | str] = {}
    try:
        with path.open("rb") as file:
            reader = _Reader(file, path)
            for _ in range(_entries(reader, path)):
                key = reader.bytes(reader.number("<Q")).decode("utf-8", "replace")
                kind = reader.number("<I")
                if kind in _INTEGERS:
                    found[key] = reader.number(_INTEGERS[kind])
                elif kind == _STRING:
                    found[key] = reader.bytes(reader.number("<Q")).decode("utf-8", "replace")
                else:
                    reader.skip_value(kind)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})", REFETCH_REMEDY) from None
    return found


def _entries(reader: _Reader, path: Path) -> int:
    """How many entries of metadata follow; the reader stands before the first of them."""
    if reader.bytes(4) != b"GGUF":
        raise ModelError(f"{path}: is not a GGUF file", "name a model file in GGUF format")
    if (version := reader.number("<I")) not in (2, 3):
        raise ModelError(f"{path}: GGUF version {version} cannot be read", "convert the model to version 3")
    reader.skip(8)  # how many tensors
    return reader.number("<Q")


def _find_context(reader: _Reader, path: Path) -> int:
    for _ in range(_entries(reader, path)):
        key = reader.bytes(reader.number("<Q"))
        kind = reader.number("<I")
        if key.endswith(b".context_length") and kind in _INTEGERS:
            return reader.number(_INTEGERS[kind])
        reader.skip_value(kind)
    raise ModelError(f"{path}: the GGUF file does not say how long its context is", REFETCH_REMEDY)

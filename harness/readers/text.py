"""Text from files and standard input: encodings found out, lines bounded, binary files refused."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from harness.errors import InputError

MAX_RECORD = 16 * 1024 * 1024
"""Characters that one line, cell or row may have. The largest real row seen (3,303 authors) has 60,000."""
MAX_DOCUMENT = 64 * 1024 * 1024
"""Bytes of a file that has to be parsed as a whole (JSON, BibTeX)."""
SMALL = 16 * 1024 * 1024
"""Bytes up to which a table is walked once beforehand, to count its rows and see all its columns."""

_CHUNK = 1024 * 1024
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SIGNATURES = (
    (b"%PDF", "a PDF", "rename it to end in .pdf"),
    (b"PAR1", "a Parquet file", "rename it to end in .parquet"),
    (b"PK\x03\x04", "a zip archive or an Office document", "unpack it, or export the sheet as CSV"),
    (b"\xd0\xcf\x11\xe0", "an Office document", "export the sheet as CSV"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it first"),
    (b"SQLite format 3\x00", "a SQLite database", "export the table as CSV"),
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = bytes(sorted({*range(32), 127} - set(b"\t\n\r\f\x1b")))
_CP1252_UNDEFINED = b"\x81\x8d\x8f\x90\x9d"


def writable(text: str) -> str:
    """``text`` without lone surrogates, halves of characters that no file or database could hold (they come from JSON
    escapes, and from bytes of arguments, input and file names that are not UTF-8)."""
    return _SURROGATE.sub("\ufffd", text)


def shown(text: str, width: int = 60) -> str:
    """``text`` fit for a message: printable, on one line, at most ``width`` characters."""
    line = "".join(c if c.isprintable() else "�" for c in " ".join(text.split()))
    return line if len(line) <= width else line[: width - 1] + "…"


@dataclass(frozen=True)
class Text:
    """A text that can be opened again and again: a file in its encoding, or what came on standard input."""

    name: str
    size: int
    """Bytes of the file, or characters of a string."""
    open: Callable[[], TextIO]

    def lines(self) -> Iterator[str]:
        """Lines with their ends. Raises InputError at one of more than MAX_RECORD characters, having read no further."""
        with self.open() as stream:
            number = 0
            while line := stream.readline(MAX_RECORD + 1):
                number += 1
                if len(line) > MAX_RECORD:
                    raise InputError(
                        f"{self.name}: line {number} is longer than {MAX_RECORD >> 20} million characters",
                        "this is hardly a table of papers",
                    )
                yield line

    def whole(self, limit: int = MAX_DOCUMENT) -> str:
        """All of it. Raises InputError where it is larger than ``limit`` bytes."""
        if self.size > limit:
            raise InputError(
                f"{self.name} is larger than the {limit >> 20} MB that can be read at once",
                "split it, or give the papers as CSV or JSONL",
            )
        with self.open() as stream:
            return stream.read()


def from_string(name: str, text: str) -> Text:
    """A ``Text`` over a string."""
    text = writable(text).removeprefix("\ufeff")
    return Text(name, len(text), lambda: io.StringIO(text, newline=""))


def from_path(path: Path, notes: list[str]) -> Text:
    """A ``Text`` over a file; a guessed encoding is remarked in ``notes``.

    Raises InputError for a file that is empty, binary or not readable.
    """
    try:
        size = path.stat().st_size
        if not size:
            raise InputError(f"{path} is empty")
        encoding, remark = _detect(path)
    except OSError as error:
        raise unreadable(path, error) from error
    if remark:
        notes.append(f"{path}: {remark}")
    # Validated as UTF-8 where it claims to be; elsewhere a stray byte becomes U+FFFD instead of ending the run.
    return Text(writable(str(path)), size, lambda: path.open(encoding=encoding, errors="replace", newline=""))


def unreadable(path: Path, error: OSError) -> InputError:
    """One line for what the operating system said about ``path``."""
    return InputError(f"{path} cannot be read: {error.strerror or error}")


def _detect(path: Path) -> tuple[str, str]:
    """Name of the encoding and a remark where it was guessed. Raises InputError for a binary file."""
    with path.open("rb") as stream:
        head = stream.read(65536)
        for mark, encoding in _BOMS:
            if head.startswith(mark):
                return encoding, ""
        for signature, what, remedy in _SIGNATURES:
            if head.startswith(signature):
                raise InputError(f"{path} is {what}, not text", remedy)
        if encoding := _utf16_without_mark(head):
            return encoding, "read as UTF-16 (no byte-order mark)"
        stream.seek(0)
        encoding = _eight_bit(iter(lambda: stream.read(_CHUNK), b""))
    # Control characters: a stray one survives in text; valid UTF-8 full of them, or other bytes with some, is no text.
    control = sum(map(head.count, (bytes([c]) for c in _CONTROL))) / len(head)
    if control > (0.3 if encoding == "utf-8" else 0.02):
        raise InputError(f"{path} is a binary file, not text", "give CSV, JSONL, JSON, BibTeX, PDF or text")
    return encoding, "" if encoding == "utf-8" else f"not UTF-8; read as {encoding}, check accented letters"


def _utf16_without_mark(head: bytes) -> str:
    pairs = len(head) // 2
    low, high = head[0::2].count(0), head[1::2].count(0)
    if high > 0.4 * pairs and low < 0.05 * pairs:
        return "utf-16-le"
    return "utf-16-be" if low > 0.4 * pairs and high < 0.05 * pairs else ""


def _eight_bit(chunks: Iterator[bytes]) -> str:
    """``utf-8`` where every byte fits, else ``cp1252`` where every byte is defined there, else ``latin-1``."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    utf8 = cp1252 = True
    for chunk in chunks:
        if utf8:
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError:
                utf8 = False
        cp1252 = cp1252 and not any(byte in chunk for byte in _CP1252_UNDEFINED)
    if utf8:
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            utf8 = False
    if utf8:
        return "utf-8"
    return "cp1252" if cp1252 else "latin-1"

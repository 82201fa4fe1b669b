"""The child process that reads PDFs: PDFium is native code, and no file may take the whole program down or stop it.

``python -m harness.search.pdf_worker`` answers each line of JSON on its standard input (``path``, ``passwords``,
``pages``, ``seconds``) with one line: ``document`` and ``notes``, or ``error`` and ``remedy``. It ends with its input.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.readers.pdf import Line, largest, page_lines, stated_title
from harness.readers.text import unreadable
from harness.search.documents import Document, to_json
from harness.search.pdf_layout import blocks_of

MEMORY = 4 << 30
"""Bytes of address space the child may take, where the system can be told."""
_MAX_CHARS = 200_000
"""Characters read of one page; a page of a book has 4,000, a poster full of data perhaps 50,000."""
_HEAD = 1024
"""Bytes in which ``%PDF`` must stand."""
_LOOKS = (
    (b"<!doctype html", "an HTML page", ".html"),
    (b"<html", "an HTML page", ".html"),
    (b"PK\x03\x04", "a zip archive or an Office document", ".docx or .zip"),
    (b"\xd0\xcf\x11\xe0", "an Office document", ".doc"),
    (b"%!PS", "PostScript", ".ps"),
    (b"\x1f\x8b", "compressed with gzip", ".gz"),
    (b"\x89PNG", "an image", ".png"),
    (b"\xff\xd8\xff", "an image", ".jpg"),
)


def read(path: Path, passwords: Sequence[str], pages: int, seconds: float) -> tuple[Document, list[str]]:
    """The paper in a PDF and remarks. At most ``pages`` pages and about ``seconds`` seconds are spent on it.

    Raises InputError for a file that is empty, no PDF, damaged, encrypted with another password, or without text.
    """
    import pypdfium2 as pdfium

    _check_kind(path)
    document = _opened(path, passwords)
    notes: list[str] = []
    try:
        lines, total = _lines(document, pages, seconds, notes), len(document)
        title = stated_title(document)
    except pdfium.PdfiumError as error:
        raise InputError(f"{path} cannot be read ({error})", "download it again") from error
    finally:
        document.close()
    if not any(lines):
        if notes:
            raise InputError(f"{path}: {notes[0]}")
        what = f"has no text on its {total} pages (scanned?)" if total != 1 else "has no text on its page (scanned?)"
        raise InputError(f"{path} {what}", "run it through OCR first")
    title = title or largest([line for page in lines for line in page])
    return Document(title, tuple(blocks_of(lines, title)), pages=len(lines)), notes


def _lines(document: Any, pages: int, seconds: float, notes: list[str]) -> list[list[Line]]:
    """The lines of every page within the limits; what was left out is remarked in ``notes``."""
    import pypdfium2 as pdfium

    deadline, total = time.monotonic() + seconds, len(document)
    lines: list[list[Line]] = []
    for number in range(total):
        if number >= pages:
            notes.append(f"read {number} of {total} pages, which is the limit")
            break
        if time.monotonic() > deadline:
            notes.append(f"read {number} of {total} pages in {seconds:.0f} s, then stopped")
            break
        try:
            lines.append(page_lines(document, number, _MAX_CHARS))
        except pdfium.PdfiumError:
            lines.append([])
            notes.append(f"page {number + 1} is damaged and was left out")
    return lines


def _check_kind(path: Path) -> None:
    """Raises InputError for a file that is empty or something else than its name says."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD)
    except OSError as error:
        raise unreadable(path, error) from error
    if not head:
        raise InputError(f"{path} is empty")
    if b"%PDF" in head:
        return
    for start, what, suffix in _LOOKS:
        if head.lstrip().lower().startswith(start.lower()):
            raise InputError(f"{path} is {what}, not a PDF", f"rename it to end in {suffix}")
    with contextlib.suppress(UnicodeDecodeError):
        head[: _HEAD - 4].decode()
        if not any(byte < 9 for byte in head):
            raise InputError(f"{path} is text, not a PDF", "rename it to end in .txt")
    raise InputError(f"{path} is not a PDF", "check where it came from")


def _opened(path: Path, passwords: Sequence[str]) -> Any:
    """The opened document; the passwords are tried in turn."""
    import pypdfium2 as pdfium

    for password in (None, *passwords):
        try:
            return pdfium.PdfDocument(path, password=password)
        except pdfium.PdfiumError as error:
            if "password" not in str(error).lower():
                raise InputError(f"{path} is damaged or cut short", "download it again") from error
        except OSError as error:
            raise unreadable(path, error) from error
    if passwords:
        raise InputError(f"{path} is encrypted, and no password given opens it", "give the right one with --password")
    raise InputError(f"{path} is encrypted with a password", "give it with --password")


def _answer(request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        limits = int(request["pages"]), float(request["seconds"])
        document, notes = read(Path(request["path"]), request["passwords"], *limits)
    except InputError as error:
        return {"error": error.message, "remedy": error.remedy}
    except MemoryError:
        return {"error": f"{request['path']} takes more than {MEMORY >> 30} GB of memory", "remedy": "leave it out"}
    return {"document": to_json(document), "notes": notes}


def main() -> None:
    """Serve requests until the input ends."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on Windows; a lower limit may be in force
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for line in sys.stdin.buffer:
        answer = json.dumps(_answer(json.loads(line)), separators=(",", ":"))
        sys.stdout.buffer.write(answer.encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

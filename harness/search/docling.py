"""Papers as Docling reads them, with tables and equations: its JSON documents, and PDFs where it is installed.

A DoclingDocument (``docling --to json paper.pdf``) is a tree of references into lists of texts and tables, each item with a
label and the page it stands on. Page headers and footers are left out. A table becomes a block of its own, a line a row; an
equation is its LaTeX between dollar signs. Docling itself is run as a program: it has models of its own, takes seconds a
page, and what it does to memory ends with it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.readers.text import writable
from harness.search.documents import Block, Document
from harness.search.sections import Outline

PROGRAM = "docling"
SECONDS = 1800.0
"""That one PDF may take."""
_SCHEMA = "DoclingDocument"
_HEADINGS = frozenset({"title", "section_header"})
_LEFT_OUT = frozenset({"page_header", "page_footer"})
_BESIDE = frozenset({"caption", "footnote"})
"""What of a table is not in its grid."""
_DEEPEST = 50
"""Levels of the tree."""


def is_document(data: Any) -> bool:
    """Whether parsed JSON is a document of Docling's."""
    return isinstance(data, Mapping) and data.get("schema_name") == _SCHEMA and isinstance(data.get("body"), Mapping)


def document_of(data: Mapping[str, Any], where: str) -> Document:
    """The paper in a DoclingDocument. Raises InputError, naming ``where`` it is from, for one whose tree is broken."""
    try:
        items = list(_items(data, data["body"], 0))
        title = next((item["text"] for item in items if item["label"] == "title"), "")
        outline, blocks, last = Outline(), list[Block](), 0
        for item in items:
            label, text = item["label"], _text(item)
            page = int(item["prov"][0]["page_no"]) if item.get("prov") else 0
            last = max(last, page)
            if label in _HEADINGS and text:
                if label != "title":
                    outline.enter(int(item.get("level") or 1), text)
            elif text and label not in _LEFT_OUT:
                blocks.append(Block(text, outline.path, ((0, page),) if page else (), outline.in_references))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise InputError(f"{where}: is no whole document of Docling ({why})", "convert it again") from None
    return Document(" ".join(writable(str(title)).split()), tuple(blocks), pages=last)


def _items(
    data: Mapping[str, Any], node: Mapping[str, Any], depth: int, *, in_table: bool = False
) -> Iterator[Mapping[str, Any]]:
    """The items below a node in reading order: of pictures their captions, of tables, whose grid has the rest, too."""
    if depth > _DEEPEST:
        raise ValueError("too deep")
    for child in node.get("children") or ():
        _, kind, place = child["$ref"].split("/")
        item = data[kind][int(place)]
        if kind in ("texts", "tables") and (not in_table or item["label"] in _BESIDE):
            yield item
        yield from _items(data, item, depth + 1, in_table=in_table or kind == "tables")


def _text(item: Mapping[str, Any]) -> str:
    if "data" in item:
        return "\n".join(" | ".join(_cell(cell) for cell in row) for row in item["data"]["grid"])
    text = writable(item["text"]).strip()
    return f"${text}$" if item["label"] == "formula" and text and not text.startswith("$") else text


def _cell(cell: Mapping[str, Any]) -> str:
    return " ".join(writable(cell["text"]).split())


def read_pdf(path: Path, seconds: float = SECONDS) -> tuple[Document, list[str]]:
    """A PDF as Docling reads it, and remarks. Raises InputError where it is not installed, fails or takes too long."""
    program = shutil.which(PROGRAM)
    if program is None:
        raise InputError("docling is not installed", "pip install 'marginalia[docling]', or leave out --docling")
    with tempfile.TemporaryDirectory(prefix="marginalia-docling-") as folder:
        options = ("--from", "pdf", "--to", "json", "--image-export-mode", "placeholder", "--output", folder)
        try:
            done = _run([program, *options, str(path)], seconds)
        except subprocess.TimeoutExpired:
            raise InputError(f"{path}: docling took more than {seconds:g} s", "read it without --docling") from None
        found = sorted(Path(folder).rglob("*.json"))
        if done.returncode or not found:
            said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise InputError(f"{path}: docling cannot read it ({writable(said)[:200]})", "read it without --docling")
        data = json.loads(found[0].read_text(encoding="utf-8"))
    if not is_document(data):
        raise InputError(f"{path}: docling wrote no document", "read it without --docling")
    return document_of(data, str(path)), []


def _run(command: Sequence[str], seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", errors="replace", timeout=seconds, check=False
    )

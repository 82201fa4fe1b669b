"""What the user's input means: files, arXiv ids, a typed abstract, a topic, or standard input."""

from __future__ import annotations

import difflib
import glob
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError, UsageError
from harness.readers.arxiv import parse_ids
from harness.readers.plain import sentence_count
from harness.readers.text import shown

KINDS = {
    ".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json",
    ".parquet": "parquet", ".pq": "parquet", ".bib": "bibtex", ".bibtex": "bibtex",
    ".ris": "tagged", ".nbib": "tagged", ".ciw": "tagged", ".pdf": "pdf",
    ".txt": "text", ".text": "text", ".md": "text", ".markdown": "text",
}  # fmt: skip
"""Kind of a file by its suffix."""
_QUOTES = ('""', "''", "“”", "‘’", "«»", "„“")
_PROSE_WORDS = 40
_LONGEST_PATTERN = 1000


@dataclass(frozen=True)
class Located:
    """One of the five: ``kind`` files, arxiv, typed, topic or stdin; ``text`` is what was typed, without quotes."""

    kind: str
    text: str = ""
    paths: tuple[Path, ...] = ()
    ids: tuple[str, ...] = ()


def locate(source: str, has_stdin: bool) -> Located:
    """What ``source`` means. An existing file comes first, then arXiv, prose, and a path that does not exist.

    Raises UsageError where there is nothing, InputError for a path or URL that leads nowhere.
    """
    bare = source.strip()
    text = _unquoted(bare)
    if bare in ("", "-") or not text:
        if has_stdin:
            return Located("stdin")
        raise UsageError("there is nothing to read", "name a file, an arXiv id or a topic, or pipe papers in")
    if paths := files(bare) or files(text):
        return Located("files", text, tuple(paths))
    if ids := parse_ids(text):
        return Located("arxiv", text, ids=tuple(ids))
    if _is_prose(text, quoted=text != bare):
        return Located("typed", text)
    if re.match(r"[a-z][a-z0-9+.-]*://", text, re.IGNORECASE):
        raise InputError(f"{shown(text)} is not a paper on arXiv", "other addresses are not read; save the page as a file")
    if _is_path_like(text):
        raise not_found(text)
    if text.startswith('"') and text.count('"') % 2:  # half an abstract, perhaps: a topic may be searched for online
        raise UsageError(f"the quote that opens {shown(text, 40)} is not closed", "put a quotation mark at the end")
    return Located("topic", text)


def files(text: str) -> list[Path]:
    """The existing files that ``text`` names: a path, a folder, a pattern, or several of these; else none."""
    if found := _expand(text):
        return found
    try:
        parts = shlex.split(text, posix=os.name != "nt")
    except ValueError:  # an apostrophe in running text
        return []
    # Every word must be meant as a path: running text may well have a word that is also a folder's name.
    if len(parts) < 2 or not all(_exists(part) or _is_path_like(part) for part in parts):
        return []
    expanded = [_expand(part) for part in parts]
    missing = [part for part, found in zip(parts, expanded, strict=True) if not found]
    if missing and len(missing) < len(parts):
        raise not_found(missing[0])
    return list(dict.fromkeys(path for found in expanded for path in found))


def in_folder(folder: Path) -> list[Path]:
    """The files of a folder that can be read, by name. Raises InputError where there are none."""
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix.lower() in KINDS and path.is_file())
    except OSError as error:
        raise InputError(f"{folder} cannot be listed ({error.strerror})") from error
    if not found:
        raise InputError(f"{folder} holds no file that can be read", f"known are {', '.join(KINDS)}")
    return found


def _expand(text: str) -> list[Path]:
    try:
        path = Path(text).expanduser()
        if path.is_dir():
            return in_folder(path)
        if path.exists():
            return [path]
        if re.search(r"[*?\[]", text) and len(text) < _LONGEST_PATTERN:
            found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
            return [path for path in found if path.suffix.lower() in KINDS and path.is_file()]
    except (OSError, ValueError, RuntimeError, re.error):  # too long for a name, a NUL inside, an unknown ~user
        pass
    return []


def _exists(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False


def _unquoted(text: str) -> str:
    if len(text) > 1 and text[0] + text[-1] in _QUOTES and text[0] not in text[1:-1]:
        return text[1:-1].strip()
    return text


def _is_prose(text: str, quoted: bool) -> bool:
    """Whether this is running text: several sentences, or one long one, or one in quotes."""
    count, sentences = len(text.split()), sentence_count(text)
    return count >= _PROSE_WORDS or (count >= 12 and sentences >= (1 if quoted else 2))


def _is_path_like(text: str) -> bool:
    if "\n" in text:
        return False
    if Path(text).suffix.lower() in KINDS or text.startswith(("./", "../", "~/", "/", "\\\\")):
        return True
    return not re.search(r"\s", text) and bool(re.search(r"[/\\*]", text))


def not_found(text: str) -> InputError:
    """The error for a path that leads nowhere, with the names that are near it."""
    path = Path(text)
    if re.search(r"[*?\[]", text):
        return InputError(f"no file that can be read matches {shown(text)}", f"known are {', '.join(KINDS)}")
    try:
        folder = path.expanduser().parent
        if not folder.is_dir():
            return InputError(f"there is no file '{shown(text)}'", f"there is no folder '{shown(str(folder))}' either")
        names = sorted(os.listdir(folder))
    except (OSError, ValueError, RuntimeError):
        names = []
    near = _nearest(path.name, names)
    remedy = f"near it: {', '.join(shown(name) for name in near)}" if near else "check the path"
    return InputError(f"there is no file '{shown(text, 200)}'", remedy)


def _nearest(name: str, names: Sequence[str]) -> list[str]:
    """Up to three of ``names`` that begin with ``name`` or are most like it, case aside."""
    by_fold = {other.casefold(): other for other in names}
    begun = [folded for folded in by_fold if name and folded.startswith(name.casefold())]
    near = dict.fromkeys([*begun, *difflib.get_close_matches(name.casefold(), by_fold, 3, 0.5)])
    return [by_fold[folded] for folded in near][:3]

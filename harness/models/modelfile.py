"""Modelfiles of the registry's GGUFs, for people who use ``ollama create`` themselves.

    python -m harness.models.modelfile

writes ``Modelfiles/`` anew. Values are quoted as Ollama's own parser reads them, which knows no escapes: what cannot be
quoted is refused, so that data never becomes another line.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from harness.config import ROOT
from harness.errors import InputError
from harness.registry import load
from harness.registry_entry import Entry

MODELFILES = ROOT / "Modelfiles"
HEADER = "# Generated from the registry by `python -m harness.models.modelfile`; do not edit."
_PARAMETER = re.compile(r"[a-z][a-z0-9_]*")
_PLAIN = re.compile(r"[A-Za-z0-9_./:@<>|-]+")


def quote(text: str) -> str:
    """A value for one Modelfile command: plain where it is one word, else in three quotes.

    Raises InputError for three quotes in a row, which Ollama's parser cannot hold, and for control characters.
    """
    if _PLAIN.fullmatch(text):
        return text
    if '"""' in text or any(ord(letter) < 32 and letter not in "\n\t" for letter in text):
        raise InputError(f"{text[:40]!r} cannot stand in a Modelfile", "take out triple quotes and control characters")
    return f'"""{text}"""'


def file_name(entry: Entry) -> str:
    """``NAME.Modelfile`` by the name in Ollama, or ``NAME-TAG.Modelfile`` for another tag than ``latest``.

    A colon is not allowed in every file system.
    """
    return (entry.ollama or entry.name).removesuffix(":latest").replace("/", "-").replace(":", "-") + ".Modelfile"


def render(entry: Entry, folder: Path = MODELFILES) -> str:
    """The Modelfile of an entry that has a GGUF, to be written into ``folder``. Raises InputError."""
    head = [
        HEADER,
        f"# ollama create {(entry.ollama or entry.name).removesuffix(':latest')} -f Modelfiles/{file_name(entry)}",
    ]
    return "\n".join([*head, *commands(entry, folder)]) + "\n"


def commands(entry: Entry, folder: Path) -> list[str]:
    """The commands of an entry's Modelfile in ``folder``, FROM first. Raises InputError."""
    if entry.gguf_path is None:
        raise InputError(f"{entry.name}: has no GGUF to make a Modelfile of", "give it [gguf]")
    path = Path(os.path.relpath(entry.gguf_path, folder)).as_posix()
    lines = [f"FROM {quote(path if path.startswith('../') else f'./{path}')}"]
    if entry.template:
        lines.append(f"TEMPLATE {quote(entry.template)}")
    if entry.system:
        lines.append(f"SYSTEM {quote(entry.system)}")
    for key, value in entry.parameters.items():
        if not _PARAMETER.fullmatch(key):
            raise InputError(f"{entry.name}: {key!r} is not a parameter of Ollama", "correct its registry entry")
        lines += [f"PARAMETER {key} {quote(_text(one))}" for one in (value if isinstance(value, list) else [value])]
    if entry.licence:
        lines.append(f"LICENSE {quote(entry.licence)}")
    return lines


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def render_all(registry: Path = ROOT / "registry", folder: Path = MODELFILES) -> dict[Path, str]:
    """Every Modelfile that ``folder`` should hold, with its text. Raises InputError, also for two of one name."""
    files: dict[Path, str] = {}
    for entry in load(registry):
        if entry.gguf is None:
            continue
        path = folder / file_name(entry)
        if path in files:
            raise InputError(f"{path}: two entries would write it", f"rename {entry.name}")
        files[path] = render(entry, folder)
    return files


def write_all(registry: Path = ROOT / "registry", folder: Path = MODELFILES) -> list[Path]:
    """Write the Modelfiles of a registry and remove generated ones that have no entry any more; the paths written."""
    from harness.outputs import atomic_write

    files = render_all(registry, folder)
    for path, text in files.items():
        with atomic_write(path) as handle:
            handle.write(text)
    for path in sorted(folder.glob("*")):
        if path.is_file() and path not in files and path.read_bytes().startswith(HEADER.encode()):
            path.unlink()
    return sorted(files)


if __name__ == "__main__":
    import sys

    for written in write_all():
        sys.stderr.write(f"{written}\n")

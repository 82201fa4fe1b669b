"""The personas as data: a TOML file that names each reader, the lens, the rubric, and the checks that break it."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from curation.checks import CHECKS
from harness.errors import InputError

DEFAULT = Path(__file__).with_name("personas.toml")
MOST = 15
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


@dataclass(frozen=True)
class Persona:
    """One reader: a role, not a person."""

    name: str
    lens: str
    rubric: tuple[str, ...]
    breaks: frozenset[str]
    """Names of the checks whose serious findings make this reader's vote a 1."""


@dataclass(frozen=True)
class Panel:
    """The readers who vote, in order."""

    personas: tuple[Persona, ...]
    digest: str
    """Of the file: part of what a verdict is cached under."""


@cache
def load_panel(path: Path = DEFAULT) -> Panel:
    """Read a personas file. Raises InputError naming the file and what is wrong with it."""
    try:
        raw = path.read_bytes()
        rows = tomllib.loads(raw.decode("utf-8")).get("personas")
    except FileNotFoundError:
        raise InputError(f"{path}: no such personas file", "check the path") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: cannot be read as TOML ({error})", "correct it") from None
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: needs 1 to {MOST} [[personas]] tables", f"see {DEFAULT}")
    personas = tuple(_persona(row, f"{path}: persona {number}") for number, row in enumerate(rows, 1))
    if len({persona.name for persona in personas}) != len(personas):
        raise InputError(f"{path}: two personas have the same name", "rename one of them")
    return Panel(personas, f"sha256:{hashlib.sha256(raw).hexdigest()}")


def _persona(row: Mapping[str, Any], where: str) -> Persona:
    """One table of the file. Raises InputError."""
    name, lens = str(row.get("name", "")), str(row.get("lens", "")).strip()
    if not _NAME.fullmatch(name):
        raise InputError(f"{where}: name {name!r} must be lower-case letters, digits and -", "rename it")
    if not lens:
        raise InputError(f"{where} ({name}): has no lens", "say what it looks at")
    lists = {key: row.get(key, []) for key in ("rubric", "breaks")}
    for key, value in lists.items():
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InputError(f"{where} ({name}): {key} is no list of texts", f"see {DEFAULT}")
    if unknown := sorted(set(lists["breaks"]) - set(CHECKS)):
        raise InputError(f"{where} ({name}): there is no check {unknown[0]!r}", f"known: {', '.join(CHECKS)}")
    return Persona(name, lens, tuple(lists["rubric"]), frozenset(lists["breaks"]))

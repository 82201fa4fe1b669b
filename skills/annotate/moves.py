"""The moves as data: a framework is a TOML file that names each move and says what it takes and leaves."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.errors import InputError

DEFAULT = Path(__file__).with_name("moves.toml")
MAX_MOVES = 16
_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


@dataclass(frozen=True)
class Move:
    """One move: its name (also its column), the question it answers, what counts and what does not."""

    name: str
    question: str
    takes: str = ""
    leaves: str = ""
    most: int = 4
    """A move rests on at most this many sentences."""


@dataclass(frozen=True)
class Framework:
    """A named, ordered set of moves."""

    name: str
    title: str
    moves: tuple[Move, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the moves in order."""
        return tuple(move.name for move in self.moves)


def load_framework(path: Path = DEFAULT) -> Framework:
    """Read a framework file. Raises InputError naming the file and what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{path}: no such framework file", "check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise InputError(f"{path}: cannot be read ({why})", "name a TOML file") from None
    return _framework(text, path)


@cache  # by what it says: a file that is edited during a conversation counts as it is now
def _framework(text: str, path: Path) -> Framework:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: cannot be read as TOML ({error})", "correct it") from None
    rows = data.get("moves")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_MOVES or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path}: needs 1 to {MAX_MOVES} [[moves]] tables", f"see {DEFAULT}")
    moves = tuple(_move(row, f"{path}: move {number}") for number, row in enumerate(rows, 1))
    if len({move.name for move in moves}) != len(moves):
        raise InputError(f"{path}: two moves have the same name", "rename one of them")
    return Framework(str(data.get("name", path.stem)), str(data.get("title", path.stem)), moves)


def _move(row: Mapping[str, Any], where: str) -> Move:
    """One table of the file. Raises InputError."""
    name, most = str(row.get("name", "")), row.get("most", Move.most)
    if not _NAME.fullmatch(name):
        raise InputError(f"{where}: name {name!r} must be lower-case letters, digits and _", "rename it")
    texts = {key: str(row.get(key, "")) for key in ("question", "takes", "leaves")}
    if not texts["question"].strip():
        raise InputError(f"{where} ({name}): has no question", "say what it answers")
    if type(most) is not int or most < 1:
        raise InputError(f"{where} ({name}): most = {most!r} is not a number of sentences", "give 1 or more")
    return Move(name=name, most=most, **texts)

"""The moves as data: a framework is a TOML file that names each move and says what it takes and leaves."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

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


@cache
def load_framework(path: Path = DEFAULT) -> Framework:
    """Read a framework file. Raises InputError naming the file and what is wrong with it."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such framework file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: cannot be read as TOML ({error})") from None
    rows = data.get("moves")
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_MOVES:
        raise InputError(f"{path}: needs 1 to {MAX_MOVES} [[moves]] tables", f"see {DEFAULT.name}")
    moves = []
    for number, row in enumerate(rows, 1):
        name = str(row.get("name", ""))
        if not _NAME.fullmatch(name):
            raise InputError(f"{path}: move {number}: name {name!r} must be lower-case letters, digits and _")
        if not str(row.get("question", "")).strip():
            raise InputError(f"{path}: move {number} ({name}): needs a question")
        texts = {key: str(row.get(key, "")) for key in ("question", "takes", "leaves")}
        moves.append(Move(name=name, most=int(row.get("most", 4)), **texts))
    if len({move.name for move in moves}) != len(moves):
        raise InputError(f"{path}: two moves have the same name")
    return Framework(str(data.get("name", path.stem)), str(data.get("title", path.stem)), tuple(moves))

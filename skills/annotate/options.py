"""The flags of /annotate and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.flags import COLUMN, columns_of
from harness.task import Flag, Task, file_path
from skills.annotate.moves import DEFAULT, Framework, load_framework

FLAGS = (
    Flag(
        "style",
        "quote (verbatim sentences, default) or prose (written, needs a chat model)",
        choices=("quote", "prose"),
    ),
    Flag("framework", "another set of moves, a TOML file like skills/annotate/moves.toml", metavar="FILE", path=True),
    COLUMN,
    Flag("papers", "local files to search when the input is a topic", metavar="FILE", path=True, repeat=True),
    Flag("limit", "annotate only the first N papers", metavar="N"),
    Flag("json", "show the records as JSON, one a line"),
    Flag("review", "go through the annotations of FILE, least confident first", metavar="FILE", path=True),
    Flag("gold", "where --review writes its decisions (default: beside FILE)", metavar="FILE", path=True),
    Flag("fresh", "do not take results from the journal"),
)


@dataclass(frozen=True)
class AnnotateOptions:
    """The flags, checked."""

    style: str = "quote"
    framework_path: Path = DEFAULT
    columns: tuple[tuple[str, str], ...] = ()
    papers: tuple[Path, ...] = ()
    limit: int = 0
    """0: all of them."""
    json: bool = False
    review: Path | None = None
    gold: Path | None = None
    fresh: bool = False

    @property
    def framework(self) -> Framework:
        """The moves in force."""
        return load_framework(self.framework_path)

    @property
    def own_moves(self) -> bool:
        """Whether a framework other than the built-in one is asked for."""
        return self.framework_path != DEFAULT


def options_of(task: Task) -> AnnotateOptions:
    """Options from a task. Raises UsageError for a value that means nothing."""
    flags = task.flags

    def many(name: str) -> tuple[str, ...]:
        value = flags.get(name, ())
        return value if isinstance(value, tuple) else (str(value),)

    def path(name: str) -> Path | None:
        return file_path(str(flags[name])) if name in flags else None

    limit = str(flags.get("limit", ""))
    if limit and not (limit.isdecimal() and int(limit)):
        raise UsageError(f"--limit {limit}: not a number of papers", "give 1 or more")
    return AnnotateOptions(
        style=str(flags.get("style", "quote")),
        framework_path=path("framework") or DEFAULT,
        columns=columns_of(many("column")),
        papers=tuple(map(file_path, many("papers"))),
        limit=int(limit or 0),
        json=bool(flags.get("json", False)),
        review=path("review"),
        gold=path("gold"),
        fresh=bool(flags.get("fresh", False)),
    )

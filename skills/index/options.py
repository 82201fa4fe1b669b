"""The flags of /index and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.errors import UsageError
from harness.flags import COLUMN, columns_of, rerank_flag, rerank_seconds
from harness.task import Flag, Task, file_path

FLAGS = (
    Flag("find", 'show the passages that fit best: words, "phrases", -exclusions', metavar="QUERY"),
    Flag("line", "with --find: a line of an expansion, e.g. --line 'lex: token eviction'", metavar="LINE", repeat=True),
    Flag("corpus", "with --find: terms that the best passages have in common join the query"),
    Flag("limit", "with --find: how many passages (default 10)", metavar="N"),
    Flag("embed", "search by meaning, too: an embedding model of Ollama or a .gguf file; none for words alone", "NAME"),
    rerank_flag("with --find: "),
    Flag("references", "with --find: search lists of references, too"),
    Flag("explain", "with --find: every score of every stage"),
    Flag("list", "what is in the index"),
    Flag("forget", "take a file or a folder out of the index", metavar="PATH", path=True),
    Flag("password", "for encrypted PDFs", metavar="TEXT", repeat=True),
    COLUMN,
    Flag("pages", "read at most N pages of a PDF (default 2000)", metavar="N"),
    Flag("seconds", "spend at most N seconds on a PDF (default 20)", metavar="N"),
    Flag("docling", "read PDFs by Docling, which sees tables and equations (slow; needs the extra docling)"),
    Flag("fresh", "read everything anew"),
)


@dataclass(frozen=True)
class IndexOptions:
    """The flags, checked."""

    find: str = ""
    lines: tuple[str, ...] = ()
    corpus: bool = False
    limit: int = 10
    embed: str | None = None
    """None leaves it to the settings."""
    rerank: float = 0.0
    """Seconds; 0 does without."""
    references: bool = False
    explain: bool = False
    list: bool = False
    forget: Path | None = None
    passwords: tuple[str, ...] = ()
    columns: tuple[tuple[str, str], ...] = ()
    pages: int = 2000
    seconds: int = 20
    docling: bool = False
    fresh: bool = False


def options_of(task: Task) -> IndexOptions:
    """Options from a task. Raises UsageError for a value that means nothing, or for flags that exclude each other."""
    flags = task.flags

    def many(name: str) -> tuple[str, ...]:
        value = flags.get(name, ())
        return value if isinstance(value, tuple) else (str(value),)

    def number(name: str, usual: int) -> int:
        value = str(flags.get(name, usual))
        if not value.isdecimal() or int(value) < 1:
            raise UsageError(f"--{name} {value}: is not a whole number above 0")
        return int(value)

    given = [name for name in ("find", "list", "forget") if name in flags]
    if len(given) > 1:
        raise UsageError(f"--{given[0]} and --{given[1]} are two different things", "give one of them")
    if "find" in flags and not str(flags["find"]).strip():
        raise UsageError("--find has nothing to look for", "give it words")
    for name in ("line", "corpus", "limit", "rerank", "references", "explain"):
        if name in flags and "find" not in flags:
            raise UsageError(f"--{name} goes with --find", "add --find QUERY")
    if "embed" in flags and given and "find" not in flags:
        raise UsageError(f"--embed does not go with --{given[0]}", "give it with files or with --find")
    return IndexOptions(
        find=str(flags.get("find", "")),
        lines=many("line"),
        corpus=bool(flags.get("corpus", False)),
        limit=number("limit", 10),
        embed=str(flags["embed"]).strip() if "embed" in flags else None,
        rerank=rerank_seconds(str(flags["rerank"])) if "rerank" in flags else 0.0,
        references=bool(flags.get("references", False)),
        explain=bool(flags.get("explain", False)),
        list=bool(flags.get("list", False)),
        forget=file_path(str(flags["forget"])) if "forget" in flags else None,
        passwords=many("password"),
        columns=columns_of(many("column")),
        pages=number("pages", 2000),
        seconds=number("seconds", 20),
        docling=bool(flags.get("docling", False)),
        fresh=bool(flags.get("fresh", False)),
    )

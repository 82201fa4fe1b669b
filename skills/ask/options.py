"""The flags of /ask and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError
from harness.flags import column_flag, column_of, rerank_flag, rerank_seconds
from harness.task import Flag, Task

if TYPE_CHECKING:
    from harness.search.search import Line

FLAGS = (
    Flag("docs", "answer from this file, folder or pattern, indexing it first", metavar="PATH", path=True, repeat=True),
    Flag("passages", "how many passages are read (default 8)", metavar="N"),
    Flag("extractive", "answer with sentences of the papers; no chat model takes part"),
    Flag("threshold", "evidence that an answer needs, 0 (always answer) to 1 (default: calibrated)", metavar="0-1"),
    Flag("explain", "every score of every stage, which model answers and why"),
    Flag("expand", "search with the lines that /expand makes of the question, too"),
    Flag("no-expand", "search without them (the default)"),
    Flag("lex", "search for these keywords, too", metavar='"WORDS"', repeat=True),
    Flag("vec", "search for this meaning, too (needs an embedding model)", metavar='"TEXT"', repeat=True),
    Flag("hyde", "search for what is like this passage, too (needs an embedding model)", metavar='"TEXT"', repeat=True),
    Flag("embed", "search by meaning, too: an embedding model of Ollama or a .gguf file; none for words alone", "NAME"),
    rerank_flag(),
    Flag("late", "put the best passages in the order of a ColBERT model (needs the extra late)", metavar="MODEL"),
    Flag("rate", "ask no more than so many questions of a file a minute (default: no limit)", metavar="N"),
    Flag("references", "search lists of references, too"),
    Flag("password", "for encrypted PDFs", metavar="TEXT", repeat=True),
    column_flag("question"),
    Flag("json", "show the records as JSON, one a line"),
    Flag("fresh", "do not take answers to a file of questions from the journal"),
)
PASSAGES = 8
MOST_PASSAGES = 50
MOST_A_MINUTE = 100_000
LINES = ("lex", "vec", "hyde")


@dataclass(frozen=True)
class AskOptions:
    """The flags, checked."""

    docs: tuple[str, ...] = ()
    passages: int = PASSAGES
    extractive: bool = False
    threshold: float | None = None
    """None takes the calibrated one."""
    explain: bool = False
    expand: bool = False
    lines: tuple[tuple[str, str], ...] = ()
    """Type and text of lines given by hand."""
    embed: str | None = None
    """None leaves it to the settings."""
    rerank: float = 0.0
    """Seconds; 0 leaves the order of the search."""
    late: str = ""
    """A model of late interaction; empty leaves the order of the search."""
    rate: float = 0.0
    """Questions of a file a minute; 0 is no limit."""
    references: bool = False
    passwords: tuple[str, ...] = ()
    column: str = ""
    json: bool = False
    fresh: bool = False

    @property
    def search_lines(self) -> list[Line]:
        """The lines given by hand, for the search."""
        from harness.search.search import parse_line

        return [parse_line(f"{kind}: {text}") for kind, text in self.lines]


def options_of(task: Task) -> AskOptions:
    """Options from a task. Raises UsageError for a value that means nothing, or for flags that exclude each other."""
    flags = task.flags
    if "expand" in flags and "no-expand" in flags:
        raise UsageError("--expand and --no-expand exclude each other", "give one of them")
    lines = [(kind, text) for kind in LINES for text in _many(flags.get(kind))]
    if empty := next((kind for kind, text in lines if not text.strip()), ""):
        raise UsageError(f"--{empty} has nothing to look for", "give it words")
    return AskOptions(
        docs=_many(flags.get("docs")),
        passages=_passages(str(flags.get("passages", PASSAGES))),
        extractive=bool(flags.get("extractive", False)),
        threshold=_threshold(str(flags["threshold"])) if "threshold" in flags else None,
        explain=bool(flags.get("explain", False)),
        expand=bool(flags.get("expand", False)),
        lines=tuple(lines),
        embed=str(flags["embed"]).strip() if "embed" in flags else None,
        rerank=rerank_seconds(str(flags["rerank"])) if "rerank" in flags else 0.0,
        late=str(flags.get("late", "")).strip(),
        rate=_rate(str(flags["rate"])) if "rate" in flags else 0.0,
        references=bool(flags.get("references", False)),
        passwords=_many(flags.get("password")),
        column=column_of(str(flags.get("column", "")), "question"),
        json=bool(flags.get("json", False)),
        fresh=bool(flags.get("fresh", False)),
    )


def _many(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (str(value),)


def _passages(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MOST_PASSAGES:
        raise UsageError(f"--passages {text}: is not a whole number from 1 to {MOST_PASSAGES}", "for example --passages 8")
    return int(text)


def _rate(text: str) -> float:
    value = _number(text)
    if not 0 < value <= MOST_A_MINUTE:
        raise UsageError(f"--rate {text}: is not a number of questions a minute", "for example --rate 5")
    return value


def _number(text: str) -> float:
    """The number in a text; not a number where there is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _threshold(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= 1:
        raise UsageError(f"--threshold {text}: is not a number from 0 to 1", "for example --threshold 0.3")
    return value

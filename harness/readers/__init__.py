"""Papers from files, standard input and arXiv, all as one ``Paper`` record."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from harness.readers.paper import Paper
from harness.readers.source import PaperSource

__all__ = ["Paper", "PaperSource", "open_papers"]


def open_papers(
    source: str,
    *,
    columns: Mapping[str, str] = MappingProxyType({}),
    stdin: str | None = None,
    offline: bool = False,
    corpus: Sequence[Path] = (),
    limit: int = 0,
    tell: Callable[[str], None] | None = None,
) -> PaperSource:
    """The papers that ``source`` names.

    ``source`` is what the user typed behind the command: a file (also several, a folder, a pattern), an arXiv id or
    URL, an abstract, a topic; empty or ``-`` takes ``stdin``. ``columns`` says which column is the ``abstract``,
    ``title`` or ``id``. A topic is looked up in the ``corpus`` files, else, where not ``offline``, at arXiv.
    ``limit`` is the largest number of papers wanted (0: all; of a topic 25). ``tell`` is given one line before anything is
    asked of arXiv: what, and where; without it the line is among the notes.

    Raises UsageError, InputError or Offline, each one line for the user. A single row or file among several that
    cannot be used raises nothing: its Paper has an ``error``.
    """
    from harness.readers.opening import open_source

    return open_source(source, dict(columns), stdin, offline, tuple(corpus), limit, tell)

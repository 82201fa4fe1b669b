"""Terms of the user's own papers as a further ``lex`` line: what an expansion cannot know, the index does.

What the passages that BM25 finds for a query have in common says how these papers speak of its subject
(``harness/search/feedback.py``). The line is looked up anew each time and never journaled: the index changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.errors import InputError
from skills.expand.choice import excluding
from skills.expand.expansion import LONGEST, Line
from skills.expand.prompt import Query

CorpusLines = Callable[[Query], list[Line]]
"""The lex line of the corpus for a query; none where its type is not wanted, or the passages have nothing in common."""


@contextmanager
def open_corpus() -> Iterator[CorpusLines]:
    """The user's index as a source of lines. Raises InputError where nothing is indexed."""
    from harness.search.feedback import expansion_line
    from harness.search.sqlite_store import SqliteStore, index_path

    nothing = InputError("--corpus: nothing is indexed yet", 'index your papers first, for example "/index papers/"')
    if not index_path().exists():
        raise nothing
    with SqliteStore(index_path()) as store:
        if not any(file.chunks for file in store.files().values()):
            raise nothing

        def lines(query: Query) -> list[Line]:
            if "lex" not in query.types:
                return []
            text = expansion_line(store, query.text, LONGEST["lex"])
            return excluding(query, [Line("lex", text)] if text else [])

        yield lines

"""Terms of the user's own papers as a further ``lex`` line: what an expansion cannot know, the index does.

What the passages that BM25 finds for a query have in common says how these papers speak of its subject
(``harness/search/feedback.py``). The line is looked up anew each time and never journaled: the index changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from harness.errors import InputError
from skills.expand.choice import excluding
from skills.expand.expansion import LONGEST, Line
from skills.expand.prompt import Query

if TYPE_CHECKING:
    from harness.config import Settings

CorpusLines = Callable[[Query], list[Line]]
"""The lex line of the corpus for a query; none where its type is not wanted, or the passages have nothing in common."""


@contextmanager
def open_corpus(settings: Settings) -> Iterator[CorpusLines]:
    """The user's index as a source of lines. Raises InputError where nothing is indexed, or its store knows no words."""
    from harness.search.feedback import TermStore, expansion_line
    from harness.search.stores import open_store

    with open_store(settings) as store:
        if not isinstance(store, TermStore):
            raise InputError("--corpus: this store does not know its words", "leave out the setting store")
        if not any(file.chunks for file in store.files().values()):
            raise InputError("--corpus: nothing is indexed yet", 'index your papers first, for example "/index papers/"')

        def lines(query: Query) -> list[Line]:
            if "lex" not in query.types:
                return []
            text = expansion_line(store, query.text, LONGEST["lex"])
            return excluding(query, [Line("lex", text)] if text else [])

        yield lines

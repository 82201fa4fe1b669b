"""The stems that FTS5 makes of words, asked of FTS5 itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

TOKENIZER = "porter unicode61 remove_diacritics 2"
"""By which the store's index cuts and stems."""
_MOST_KEPT = 100_000
"""Words whose stems are remembered."""


class Stemmer:
    """Stems of single words, by a tiny index of their own in memory. The caller locks."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._stems: dict[str, str] = {}

    def stems(self, words: Sequence[str]) -> list[str]:
        """The stem of each word; "" for what is not one word to the index."""
        if len(self._stems) > _MOST_KEPT:
            self._stems.clear()
        if unknown := [word for word in dict.fromkeys(words) if word not in self._stems]:
            self._stems.update(zip(unknown, self._made_of(unknown), strict=True))
        return [self._stems[word] for word in words]

    def close(self) -> None:
        """Let go of the index; the next word makes it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _made_of(self, words: Sequence[str]) -> list[str]:
        """Index the words, a row each, and read what the tokenizer made of them."""
        if self._connection is None:
            self._connection = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
            self._connection.execute(f"CREATE VIRTUAL TABLE words USING fts5(word, tokenize='{TOKENIZER}')")
            self._connection.execute("CREATE VIRTUAL TABLE made USING fts5vocab('words', 'instance')")
        self._connection.execute("DELETE FROM words")
        self._connection.executemany("INSERT INTO words (rowid, word) VALUES (?, ?)", enumerate(words))
        found: dict[int, list[str]] = {}
        for term, row in self._connection.execute("SELECT term, doc FROM made"):
            found.setdefault(row, []).append(term)
        return [made[0] if len(made := found.get(row, [])) == 1 else "" for row in range(len(words))]

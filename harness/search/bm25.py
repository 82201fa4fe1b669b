"""What a user typed as an FTS5 query: any text is safe, words rank, "phrases" are required, -words are excluded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from harness.readers.text import writable

MOST_TERMS = 200
"""Distinct words of one query; of a longer text the first ones count."""
WEIGHTS = (2.0, 1.0)
"""Weight of a word in the header and in the text of a chunk (measured: benchmarks/retrieval.py)."""
_TOKEN = re.compile(r'(?:(?<!\S)(?P<minus>-)(?=["“\w]))?(?:["“](?P<phrase>[^"“”]*)["”]|(?P<word>[^\s"“”]+))')
_PARTS = re.compile(r"[^\W_]+(?:[-'’.][^\W_]+)*")
"""Words; what a hyphen, an apostrophe or a full stop holds together is one."""
_SHORT_FORM = re.compile(r"['’](?:s|t|re|ve|ll|d|m)$")
_LETTERS = re.compile(r"[^\W_]+")
"""The parts of such a word. They are looked for as well: alone they count less than side by side."""
STOP_WORDS = frozenset(
    "a about also am an and any are as at be been being but by can could did do does for from had has have how i if in "
    "into is it its me may might my no nor not of on or our shall she should so some such than that the their them then "
    "there these they this those to too us was we were what when where whether which while who whom whose why will with "
    "would you your".split()
)
"""English function words: they rank nothing, and in a large index they make every chunk a candidate."""


@dataclass(frozen=True)
class LexicalQuery:
    """The parts of a query. An empty one matches nothing."""

    words: tuple[str, ...]
    """Any of them may match; the rarer, the more it counts. Without function words, where there are others."""
    phrases: tuple[str, ...] = ()
    """Each of them must occur, its words side by side."""
    without: tuple[str, ...] = ()
    """None of them may occur."""

    @property
    def match(self) -> str:
        """The FTS5 query; "" where there is nothing to look for. (FTS5 ranks by phrases, so they stand in the OR, too.)

        >>> parse('memory of "long inputs" -graphs').match
        '(("long inputs") AND ("memory" OR "long inputs")) NOT ("graphs")'
        """
        terms = [*self.words, *self.phrases]
        if not terms:
            return ""
        wanted = " OR ".join(map(_quoted, terms))
        if self.phrases and self.words:
            wanted = f"({_all(self.phrases)}) AND ({wanted})"
        elif self.phrases:
            wanted = _all(self.phrases)
        return f"({wanted}) NOT ({any_of(self.without)})" if self.without else wanted

    def accepts(self) -> tuple[str, str]:
        """FTS5 queries that any chunk found by other means must match, and must not match; "" where all will do."""
        return _all(self.phrases), any_of(self.without)


def parse(text: str) -> LexicalQuery:
    """The query in a text.

    >>> parse('How does "in-context learning" differ from fine-tuning? -vision')
    LexicalQuery(words=('differ', 'fine-tuning', 'fine', 'tuning'), phrases=('in-context learning',), without=('vision',))
    """
    words: dict[str, None] = {}
    phrases: dict[str, None] = {}
    without: dict[str, None] = {}
    for token in _TOKEN.finditer(writable(text).replace("\0", " ")):
        parts = _PARTS.findall(token["word"] if token["phrase"] is None else token["phrase"])
        if not parts:
            continue  # FTS5 would see an empty phrase, and find nothing at all
        if token["minus"] and not parts[0][0].isdigit():  # -5 is a number
            without[" ".join(parts)] = None
        elif token["phrase"] is not None:
            phrases[" ".join(parts)] = None
        else:
            for part in (_SHORT_FORM.sub("", part.lower()) for part in parts):
                words.update(dict.fromkeys([part, *_LETTERS.findall(part)]))
    content = [word for word in words if word not in STOP_WORDS]
    kept = content or (list(words) if not phrases else [])
    return LexicalQuery(tuple(kept[:MOST_TERMS]), tuple(phrases)[:MOST_TERMS], tuple(without)[:MOST_TERMS])


def _quoted(text: str) -> str:
    return f'"{text}"'


def any_of(texts: Sequence[str]) -> str:
    """The FTS5 query that any of some words or phrases match; "" for none."""
    return " OR ".join(map(_quoted, texts))


def _all(texts: tuple[str, ...]) -> str:
    return " AND ".join(map(_quoted, texts))

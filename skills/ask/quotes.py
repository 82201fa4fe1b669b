"""Quotes found again in the text they are said to come from, up to how it was set.

Two texts count as the same words where they differ only in white space, capitals, ligatures, forms of quotation marks and
dashes, hyphens inside words (a line may end there) and invisible characters. Digits, signs and every other character must
agree. What is found is given as a span of the original text, so that the file's own words are shown.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

LEAST_LETTERS = 12
"""Letters and digits of a quote that says something; a whole sentence may have fewer."""
LONGEST = 1200
"""Characters between the parts of a quote with an ellipsis."""
_DASHES = frozenset("-‐‑‒–—―−﹣－\ufffe\u00ad")
_MARKS = dict.fromkeys("“”„‟«»″‶＂", '"') | dict.fromkeys("‘’‚‛′‵`´", "'")
_ELLIPSIS = re.compile(r"\s*(?:\[\s*(?:\.\.\.|…)\s*\]|\.\.\.+|…)\s*")
_EDGE = re.compile(r"^(?:[\s\"'“”‘’«»,;:…]|\.(?!\d))+|[\s\"'“”‘’«».,;:…‐‑‒–—-]+$")
"""What a writer puts around a quote, and the hyphen where it breaks off; the dot of ``.5`` is a part of it."""


@dataclass(frozen=True)
class Plain:
    """A text as it is compared: ``text[i]`` comes from the character at ``at[i]`` of the original."""

    text: str
    at: tuple[int, ...]


@lru_cache(maxsize=256)
def plain(text: str) -> Plain:
    """The comparable form of a text.

    >>> plain("A ﬁne-\\ntuned  model: 5 %").text
    'afinetunedmodel:5%'
    """
    characters, at = [], []
    for index, character in enumerate(text):
        for one in _forms(text, index, character):
            characters.append(one)
            at.append(index)
    return Plain("".join(characters), tuple(at))


def find(quote: str, text: str) -> tuple[int, int] | None:
    """Start and end in ``text`` of a quote, which must begin and end with whole words and numbers; None if it is not there.

    A quote may leave something out: parts around an ellipsis must follow each other, and the span covers them all.

    >>> find("Fine tuned models", "We use ﬁne-\\ntuned models.")
    (7, 24)
    >>> find("5% of users", "about 15% of users") is None
    True
    """
    whole = _find(quote, text, 0)
    if whole is not None or not _ELLIPSIS.search(quote):
        return whole
    parts = [part for part in _ELLIPSIS.split(quote) if trimmed(part)]
    spans = list[tuple[int, int]]()
    for part in parts:
        span = _find(part, text, spans[-1][1] if spans else 0)
        if span is None:
            return None
        spans.append(span)
    if not spans or spans[-1][1] - spans[0][0] > LONGEST:
        return None
    return spans[0][0], spans[-1][1]


def trimmed(quote: str) -> str:
    """A quote without the marks around it.

    >>> trimmed("“… a gain of .5”.")
    'a gain of .5'
    """
    return _EDGE.sub("", quote)


def says_something(quote: str) -> bool:
    """Whether a quote is long enough to show anything."""
    return sum(map(str.isalnum, quote)) >= LEAST_LETTERS


def _find(quote: str, text: str, start: int) -> tuple[int, int] | None:
    wanted, there = plain(trimmed(quote)).text, plain(text)
    position = bisect_right(there.at, start - 1)
    while wanted and (position := there.text.find(wanted, position)) >= 0:
        end = position + len(wanted)
        first, last = there.at[position], there.at[end - 1]
        whole = (position == 0 or there.at[position - 1] < first) and (end == len(there.at) or there.at[end] > last)
        if whole and not _joined(text, first - 1, first) and not _joined(text, last, last + 1):
            return first, last + 1
        position += 1
    return None


def _joined(text: str, left: int, right: int) -> bool:
    """Whether the characters at two neighbouring places belong to one word or number."""
    if left < 0 or right >= len(text):
        return False
    one, other = text[left], text[right]
    if (one.isalnum() and other.isalnum()) or (unicodedata.combining(other) and not one.isspace()):
        return True
    before, after = text[left - 1 : left], text[right + 1 : right + 2]
    if one in ".,":  # 1|.5 seen from the right, and .|5
        return other.isdecimal() and (before.isdigit() or one == ".")
    if other in ".,":
        return one.isdigit() and after.isdigit()
    return one in "-−–" and other.isdigit() and not before.isalnum()


def _forms(text: str, index: int, character: str) -> str:
    """What a character is compared as; "" for what does not count."""
    if character.isspace():
        return " " if _parts_numbers(text, index) else ""
    if character in _DASHES:
        return "" if character in "\u00ad\ufffe" or _inside_word(text, index) else "-"
    if character in _MARKS:
        return _MARKS[character]
    category = unicodedata.category(character)
    if category in ("Cf", "Cc"):
        return ""
    if category == "No":  # NFKD would make 102 of 10²
        return character
    return unicodedata.normalize("NFKD", character).casefold()


def _inside_word(text: str, index: int) -> bool:
    """Whether a hyphen stands right after a letter, and a letter follows, on the next line perhaps."""
    after = text[index + 1 : index + 9].lstrip()
    return index > 0 and text[index - 1].isalpha() and after[:1].isalpha()


def _parts_numbers(text: str, index: int) -> bool:
    """Whether a white space is the first of those between two digits: ``1 2`` is not ``12``."""
    if index == 0 or not text[index - 1].isdigit():
        return False
    after = index
    while after < len(text) and text[after].isspace():
        after += 1
    return text[after : after + 1].isdigit()

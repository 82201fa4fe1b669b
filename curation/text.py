"""Words, stems, numbers and names of a text, read alike wherever the curator compares two texts."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

from curation.lexicon import SPELT, STOPWORDS

_WORD = re.compile(r"[^\W\d_]+(?:'t\b)?|\d+")
_LATEX = re.compile(r"\\(?:text\w*|math\w+|emph|mathrm|operatorname)\s*\{([^{}]*)\}")
_NUMBER = re.compile(r"(?<![\w.])[~≈<>±+-]?(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.?\d+)(?![\d])")
_IN_NAME = re.compile(r"[^\W\d_][-_/]$")
_SUFFIXES = ("ing", "ed", "es", "s")
_DASHES = str.maketrans(dict.fromkeys("‐‑‒–—−", "-") | {"“": '"', "”": '"', "’": "'", "‘": "'"})


def plain(text: str) -> str:
    """A text with one space between words, plain dashes and quotes, and the commonest LaTeX dressing taken off.

    >>> plain("a  \\\\textbf{bold}\\nclaim — 12\\\\%")
    'a bold claim - 12%'
    """
    text = unicodedata.normalize("NFKC", text).translate(_DASHES)
    text = _LATEX.sub(r"\1", text)
    return " ".join(text.replace("\\%", "%").replace("\\&", "&").replace("\\_", "_").replace("$", "").split())


@lru_cache(maxsize=65536)
def stem(word: str) -> str:
    """A lower-case word without its inflection; crude, but the same on both sides of every comparison.

    >>> [stem(word) for word in ("improve", "improves", "improving", "studies", "study")]
    ['improv', 'improv', 'improv', 'study', 'study']
    """
    if word.endswith("ies") and len(word) > 5:
        return word[:-3] + "y"
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3 and not word.endswith("ss"):
            word = word[: -len(suffix)]
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def tokens(text: str) -> list[str]:
    """The lower-case words and runs of digits of a text, in order."""
    return _WORD.findall(text.lower())


def stems(text: str) -> list[str]:
    """The stems of a text's words in order, stop words and digits among them."""
    return [stem(word) for word in tokens(text)]


@lru_cache(maxsize=1024)
def content(text: str) -> tuple[str, ...]:
    """The stems of the words that carry meaning, in order: no stop words, no digits, no single letters."""
    return tuple(stem(word) for word in tokens(text) if len(word) > 1 and not word[0].isdigit() and word not in STOPWORDS)


def values(text: str) -> set[float]:
    """The numbers that stand in a text by themselves: ``GPT-4`` and ``7B`` are names and hold none.

    >>> sorted(values("GPT-4 gains 12.5% on 1,200 tasks, 3x faster"))
    [3.0, 12.5, 1200.0]
    """
    found = set()
    for match in _NUMBER.finditer(text):
        after = text[match.end() : match.end() + 2]
        if _IN_NAME.search(text[: match.start()]):
            continue
        if after[:1].isalpha() and not re.match(r"(?:x|k|ms|s|h|d|st|nd|rd|th|pp|px)(?![a-z])", after.lower() + " "):
            continue
        found.add(float(match[1].replace(",", "")))
    return found


def spelt(text: str) -> set[float]:
    """The values of a text's number words; ``twenty-three`` is 23, 20 and 3.

    >>> sorted(spelt("Twenty-three of forty"))
    [3.0, 20.0, 23.0, 40.0]
    """
    words = tokens(text)
    found = {SPELT[word] for word in words if word in SPELT}
    pairs = [(SPELT.get(a, 0.0), SPELT.get(b, 0.0)) for a, b in pairwise(words)]
    return found | {tens + ones for tens, ones in pairs if 20 <= tens < 100 and tens % 10 == 0 and 0 < ones < 10}

"""Whether a text is English, told by its commonest words: enough to say where a model that reads only English must fail."""

from __future__ import annotations

import re

_COMMON = frozenset(
    "the of and to for we that with are this by be from which our it at or can these have not using were its their but "
    "also between such been than both they into while how all".split()
)
"""Frequent words of English that are rare in other languages, unlike "a", "as", "in", "is", "on" and "was"."""
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[a-zà-öø-ɏ]")
_FEWEST = 20
"""Words below which nothing is said; a title or a formula may well have none of the common ones."""
_SHARE = 0.05
"""Of 18,500 English abstracts of arXiv the poorest has 0.087; samples in seven other languages have none."""

_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
"""Letters of Thai, Lao, Burmese, Khmer, Japanese and Chinese, which put no spaces between words."""


def word_count(text: str) -> int:
    """Words of ``text``; in scripts without spaces about two letters are one.

    >>> word_count("We fly kites."), word_count("我们提出了一种用于预测的方法。")
    (3, 7)
    """
    unspaced = len(_UNSPACED.findall(text))
    return max(len(text.split()), unspaced // 2)


def is_foreign(text: str) -> bool:
    """Whether ``text`` is long enough to tell and is hardly English.

    >>> is_foreign("Wir stellen ein Verfahren vor. " * 5), is_foreign("We present a method for the detection. " * 5)
    (True, False)
    """
    words = _WORD.findall(text.casefold())
    letters = "".join(words)
    if len(letters) >= _FEWEST and 2 * len(_LATIN.findall(letters)) < len(letters):
        return True
    return len(words) >= _FEWEST and sum(word in _COMMON for word in words) < _SHARE * len(words)

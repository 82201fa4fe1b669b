"""The word lists of ``lexicon.toml``, read once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_DATA: Mapping[str, Any] = tomllib.loads(Path(__file__).with_name("lexicon.toml").read_text(encoding="utf-8"))

STOPWORDS = frozenset(_DATA["stopwords"].split())
OPEN_ENDS = frozenset(_DATA["open_ends"].split())
NEGATORS = frozenset(_DATA["negators"].split())
OPPOSITES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = tuple(
    (tuple(line.partition("/")[0].split()), tuple(line.partition("/")[2].split())) for line in _DATA["opposites"]
)
"""Pairs of poles: the words of one, the words of the other."""
COMMON_NAMES = frozenset(_DATA["common_names"].split())
SMALL_WORDS: Mapping[str, frozenset[str]] = {name: frozenset(words.split()) for name, words in _DATA["small_words"].items()}
SPELT: Mapping[str, float] = {word: float(value) for word, value in _DATA["spelt"].items()}

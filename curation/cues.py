"""Which move a sentence states, by its words: eight small logistic regressions that need nothing but this file's data.

The features are the stems of the sentence as 1- to 3-grams, those of its neighbours as 1-grams, and its place. The
weights (L1, some hundreds; ``cues.json``) are fitted by ``curation/fit_cues.py`` on the design half of the training gold.
They tell a result from a limitation well; they do not tell a right annotation from a nearly right one, and are only
used where cells clearly belong elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

from curation.text import stem, tokens

PATH = Path(__file__).with_name("cues.json")
_AUTHORS = re.compile(
    r"\b(?:the (?:authors?|papers?)|th(?:is|e present) (?:paper|work|study|article)|authors)\b", re.IGNORECASE
)
_PLACES = 5


@dataclass(frozen=True)
class Cues:
    """Intercepts and weights by move, and the stems that so many abstracts hold that they tell nothing of one."""

    intercepts: Mapping[str, float]
    weights: Mapping[str, Mapping[str, float]]
    """Feature → move → weight."""
    generic: frozenset[str]

    def scores(self, sentences: Sequence[str]) -> list[dict[str, float]]:
        """For each sentence of an abstract, move → log-odds that the sentence states it."""
        return [self._score(features(sentences, index)) for index in range(len(sentences))]

    def _score(self, found: Sequence[str]) -> dict[str, float]:
        total = dict(self.intercepts)
        for feature in found:
            for move, weight in self.weights.get(feature, {}).items():
                total[move] += weight
        return total


@cache
def load_cues(path: Path = PATH) -> Cues:
    """The cues that are shipped."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return Cues(data["intercepts"], data["weights"], frozenset(data["generic"]))


@lru_cache(maxsize=64)
def move_scores(sentences: tuple[str, ...]) -> list[dict[str, float]]:
    """``scores`` by the cues that are shipped; several checks ask for those of the same abstract. Do not change them."""
    return load_cues().scores(sentences)


def features(sentences: Sequence[str], index: int) -> list[str]:
    """The features of one sentence, sorted: its n-grams (``^`` is its start), ``<`` and ``>`` neighbours, ``@`` place."""
    own = ["^", *_stems(sentences[index])]
    found = {" ".join(own[i : i + n]) for n in (1, 2, 3) for i in range(len(own) - n + 1)}
    if index:
        found |= {f"<{token}" for token in _stems(sentences[index - 1])}
    if index + 1 < len(sentences):
        found |= {f">{token}" for token in _stems(sentences[index + 1])}
    last = len(sentences) - 1
    found.add(f"@{min(_PLACES - 1, index * _PLACES // max(1, last))}")
    found |= {name for name, place in (("@first", 0), ("@last", last), ("@before-last", last - 1)) if index == place}
    return sorted(found)


def _stems(sentence: str) -> list[str]:
    return ["0" if word[0].isdigit() else stem(word) for word in tokens(_AUTHORS.sub("we", sentence))]

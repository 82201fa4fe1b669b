"""How much a sentence reads as a finding (a result, a conclusion) rather than as background, aim or method.

A logistic regression over which of a few hundred words and pairs of words are there: ``findings.json``, which names what
it was fitted on (``benchmarks/ask_findings.py``). Only cues that occur in more than one field of science are in it, so
that it knows how papers report, and nothing of what they report on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path

PATH = Path(__file__).with_name("findings.json")
_TOKEN = re.compile(r"[^\W\d_]+|\d+(?:[.,]\d+)*|[%?=<>±]")


def cues(text: str) -> set[str]:
    """The words of a sentence and its pairs of neighbouring words, in lower case; every number is ``0``.

    >>> sorted(cues("We found 3.5%."))
    ['%', '0', '0 %', 'found', 'found 0', 'we', 'we found']
    """
    tokens = ["0" if token[0].isdecimal() else token for token in _TOKEN.findall(text.lower())]
    return {*tokens, *(f"{one} {other}" for one, other in pairwise(tokens))}


def probability(text: str) -> float:
    """That a sentence reports a finding, 0 to 1."""
    intercept, weights = _model()
    return 1 / (1 + math.exp(-intercept - sum(weights.get(cue, 0.0) for cue in cues(text))))


@cache
def _model() -> tuple[float, Mapping[str, float]]:
    data = json.loads(PATH.read_text(encoding="utf-8"))
    return data["intercept"], data["weights"]

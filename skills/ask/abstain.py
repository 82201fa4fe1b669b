"""Whether passages can answer a question at all, judged before anything is written.

A logistic regression over a few measures of how much of the question is there: ``abstain.json``, which names what it was
fitted on (``benchmarks/ask_calibrate.py``). All measures are shares of what this question could reach in this index, so
they mean the same for long and short questions, small and large indexes, and with any search before them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from skills.ask.passages import Evidence, pair_coverage, strengths
from skills.ask.record import Answer
from skills.ask.terms import Terms

PATH = Path(__file__).with_name("abstain.json")
BACKGROUND = 10
"""Passages that a verdict looks at."""
MEASURES = ("passage", "pairs", "above")
NOT_ANSWERED = "Not answered by these papers."
SHOWN_WORDS = 5
CLOSEST = 3
"""Passages that are shown instead of an answer."""


@dataclass(frozen=True)
class Verdict:
    """How likely the passages are to hold the answer."""

    probability: float
    threshold: float
    measures: Mapping[str, float]
    missing: tuple[str, ...]
    """Words of the question that the best passage lacks, the rarest first."""
    unknown: tuple[str, ...] = ()
    """Those that nothing in the index has, where they are too much of the question for it to be answered."""

    @property
    def enough(self) -> bool:
        """Whether an answer should be tried."""
        return self.probability >= self.threshold and not self.unknown

    @property
    def reason(self) -> str:
        """Why not, in words."""
        if self.unknown:
            return f"Nothing that is indexed has {', '.join(self.unknown[:SHOWN_WORDS])}."
        lacks = f"; the best one lacks {', '.join(self.missing[:SHOWN_WORDS])}" if self.missing else ""
        return f"No passage has enough of the question: evidence {self.probability:.2f}, asked {self.threshold:.2f}{lacks}."


def measures(evidence: Sequence[Evidence], terms: Terms) -> dict[str, float]:
    """What the regression sees of the ``BACKGROUND`` best passages; all 0 where nothing was found.

    ``passage``: the most of the question's idf that one passage has with its heading. ``pairs``: how much of the
    question's neighbouring words stand together in one sentence of the best passage. ``above``: how far the best
    passage's BM25, as a share of the highest possible, lies above that of the last of the ``BACKGROUND`` passages (0 where
    there are fewer): how much it stands out from what merely shares the topic. Several papers may answer alike.
    """
    if not evidence or not terms.stems:
        return dict.fromkeys(MEASURES, 0.0)
    strong = strengths(evidence, terms)
    best = evidence[_best(strong)]
    rest = sorted(strong, reverse=True)[BACKGROUND - 1 : BACKGROUND] or [0.0]
    return {
        "passage": max(terms.coverage([*one.stems, *one.header]) for one in evidence),
        "pairs": pair_coverage([sentence.stems for sentence in best.sentences], terms),
        "above": max(strong) - rest[0],
    }


def judge(evidence: Sequence[Evidence], terms: Terms, threshold: float | None = None) -> Verdict:
    """The verdict on the best ``BACKGROUND`` passages of a search; ``threshold`` is the calibrated one unless given.

    With a threshold of 0 every question is tried, words that nothing has or not.
    """
    model = calibration()
    threshold = model["threshold"] if threshold is None else threshold
    found = measures(evidence, terms)
    strange = threshold > 0 and terms.known < model["known"]
    unknown = tuple(terms.missing(terms.words.keys() - terms.unknown)) if strange else ()
    if not evidence or not terms.stems:
        return Verdict(0.0, threshold, found, tuple(terms.lacking(())), unknown)
    logit = model["intercept"] + sum(model["weights"][name] * found[name] for name in MEASURES)
    best = evidence[_best(strengths(evidence, terms))]
    missing = tuple(terms.lacking([*best.stems, *best.header]))
    return Verdict(1 / (1 + math.exp(-logit)), threshold, found, missing, unknown)


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=lambda at: (values[at], -at))


@cache
def calibration() -> Mapping[str, Any]:
    """``intercept``, ``weights``, ``threshold``, ``with_model`` (that before a chat model), ``known``, ``lineage``."""
    data: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
    return data


def abstained(question: str, verdict: Verdict) -> Answer:
    """The answer that is none."""
    return Answer(question, verdict.reason, NOT_ANSWERED, abstained=True, style="extractive")

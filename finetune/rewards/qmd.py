"""QMD's reward for query expansions: 0 to 1 for training, points and reasons for people.

    python finetune/rewards/qmd.py

runs the self-test and prints its table (exit 1 where a score is not the expected one). The same numbers as the published
rubric's code (github.com/tobi/qmd, finetune/reward.py), so that scores stand beside the published ones; the rules are told
in SCORING.md beside this file. It can be gamed: a fixed template scores above most hand-made answers. Train on
``strict.py`` and report both.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # run as a file, Python looks for modules beside it, not in the checkout
    import os.path

    sys.path[0] = os.path.abspath(os.path.join(os.path.dirname(__file__), "..", ".."))

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from finetune.rewards.qmd_score import Score, reward, score
from finetune.rewards.qmd_text import (
    Parsed,
    clean_model_output,
    detect_only_mode,
    echoes_query,
    extract_named_entities,
    extract_query_from_prompt,
    is_diverse,
    lex_is_generic,
    parse_expansion,
    word_repetition_penalty,
)

__all__ = [
    "Parsed",
    "QMDRewardFunction",
    "Score",
    "clean_model_output",
    "detect_only_mode",
    "echoes_query",
    "extract_named_entities",
    "extract_query_from_prompt",
    "is_diverse",
    "lex_is_generic",
    "parse_expansion",
    "score",
    "score_expansion",
    "score_expansion_detailed",
    "word_repetition_penalty",
]

CASES = Path(__file__).with_name("qmd_cases.json")
Chat = Sequence[Mapping[str, str]]
"""A prompt or completion as chat messages."""


def score_expansion(query: str, expansion: str) -> float:
    """The reward of a model's output for a query, 0 to 1."""
    return reward(query, expansion)


def score_expansion_detailed(query: str, expansion: str) -> dict[str, Any]:
    """The points by dimension, under upstream's keys and as upstream reports them.

    ``entity`` is shown as 0 where it is negative (``total`` counts what it is), ``percentage`` is rounded to one digit.
    """
    found = score(query, expansion)
    # A failed output is shown as the model wrote it, but for one that lacks the type asked for.
    as_written = found.failed and not found.reasons[0].startswith("no ")
    return {
        "format": found.points.format,
        "diversity": found.points.diversity,
        "hyde": found.points.hyde,
        "quality": found.points.quality,
        "entity": max(0, found.points.entity),
        "think_bonus": found.points.think,
        "total": found.total,
        "max_possible": found.max_possible,
        "percentage": round(found.percentage, 1),
        "rating": found.rating,
        "deductions": list(found.reasons),
        "parsed": parse_expansion(expansion if as_written else clean_model_output(expansion)[0]),
        "entities_detected": list(found.entities),
        "only_mode": found.only,
    }


class QMDRewardFunction:
    """The reward as TRL's GRPOTrainer calls it; prompts and completions are texts or chat messages."""

    __name__ = "qmd_scoring_reward"

    def __call__(
        self, completions: Sequence[str | Chat], prompts: Sequence[str | Chat] | None = None, **columns: object
    ) -> list[float]:
        """A reward for each completion. Raises ValueError where there is not one prompt for each."""
        if prompts is None:
            raise ValueError("the reward needs the prompts: it compares an expansion with its query")
        pairs = zip(prompts, completions, strict=True)
        return [score_expansion(extract_query_from_prompt(_last(prompt)), _last(text)) for prompt, text in pairs]


def _last(chat: str | Chat) -> str:
    """The text itself, or that of the last message."""
    return chat if isinstance(chat, str) else chat[-1]["content"]


class Case(NamedTuple):
    """An invented output and what upstream's code (commit dbfd0b4) says of it."""

    name: str
    query: str
    output: str
    points: list[int]
    """Format, diversity, hyde, quality, entity (0 where negative) and think."""
    total: int
    most: int
    percentage: float

    def holds(self) -> bool:
        """Whether our numbers are the same, and the reward follows from the detailed score."""
        found = score(self.query, self.output)
        points = [*found.points[:4], max(0, found.points.entity), found.points.think]
        same = (points, found.total, found.max_possible) == (self.points, self.total, self.most)
        return same and round(found.percentage, 1) == self.percentage and found.reward == reward(self.query, self.output)


def cases() -> list[Case]:
    """The self-test: a case for each rule of SCORING.md."""
    return [Case(**case) for case in json.loads(CASES.read_text(encoding="utf-8"))]


def main() -> int:
    """Score the self-test's outputs, print them as a table; 1 where a number is not the expected one."""
    rows = cases()
    print(f"  {'case':25}{'query':28}{'points':>8}{'reward':>8}{'%':>7}  first reason")
    for case in rows:
        found = score(case.query, case.output)
        points = f"{found.total}/{found.max_possible}"
        why = found.reasons[0] if found.reasons else ""
        mark = " " if case.holds() else "!"
        print(f"{mark} {case.name:25}{case.query:28}{points:>8}{found.reward:8.3f}{found.percentage:7.1f}  {why}")
    good = sum(case.holds() for case in rows)
    print(f"{good} of {len(rows)} as expected")
    return 0 if good == len(rows) else 1


if __name__ == "__main__":
    import argparse

    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    raise SystemExit(main())

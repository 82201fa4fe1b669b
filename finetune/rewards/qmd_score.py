"""QMD's rubric as a whole: from a query and a model's output to points, percentage, rating and reward."""

from __future__ import annotations

from typing import NamedTuple

from finetune.rewards import qmd_words as rules
from finetune.rewards.qmd_measure import Facts, measure
from finetune.rewards.qmd_only import measure_only, points_only, reasons_only
from finetune.rewards.qmd_points import MOST, MOST_WITH_HYDE, Points, points_of, reasons
from finetune.rewards.qmd_text import Kind, Query, clean_model_output, parse_expansion, read_query

NO_POINTS = Points(0, 0, 0, 0, 0, 0)
PASSAGE = Facts._fields.index("passage")
FAILED_MOST = 100
"""What a failed output is said to be out of."""


class Score(NamedTuple):
    """The points of one expansion and what follows from them."""

    points: Points
    total: int
    """Their sum, not below 0 where all types are asked for; it may pass ``max_possible``."""
    max_possible: int
    percentage: float
    """0 to 100, not rounded; at most 50 where a lex line echoes the query."""
    reasons: tuple[str, ...]
    """A line for each deduction."""
    entities: tuple[str, ...]
    """The query's named entities, in lower case."""
    only: Kind | None
    """The one type that was asked for."""

    @property
    def failed(self) -> bool:
        """Whether the output could not be scored at all."""
        return self.points is NO_POINTS

    @property
    def rating(self) -> str:
        """The percentage in a word."""
        if self.percentage >= rules.EXCELLENT:
            return "Excellent"
        if self.percentage >= rules.GOOD:
            return "Good"
        if self.percentage >= rules.ACCEPTABLE:
            return "Acceptable"
        return "Poor" if self.percentage >= rules.POOR else "Failed"

    @property
    def reward(self) -> float:
        """0 to 1, as training gets it. The cap on echoes does not hold here: upstream's reward has none."""
        return max(0.0, min(1.0, self.total / self.max_possible))


def reward(query: str, expansion: str) -> float:
    """``score(query, expansion).reward``, without what only people want to know."""
    text, thought = clean_model_output(expansion)
    asked = read_query(query)
    if "<|" in text:
        return score(query, expansion).reward  # it may leak chat tokens
    if asked.only:
        parsed = parse_expansion(text)
        if parsed["invalid"] or not parsed[asked.only]:
            return 0.0
        share = sum(points_only(measure_only(asked, asked.only, parsed), asked, thought)) / MOST
    else:
        counts = measure(text, asked)
        if isinstance(counts, str):
            return 0.0
        share = sum(points_of(counts, asked.several, thought)) / (MOST if counts[PASSAGE] is None else MOST_WITH_HYDE)
    return 0.0 if share < 0 else 1.0 if share > 1 else share


def score(query: str, expansion: str) -> Score:
    """The points of a model's output for a query, which may end with ``/only:TYPE``."""
    text, thought = clean_model_output(expansion)
    asked = read_query(query)
    for token in rules.CHAT_TOKENS:
        if token in text:
            return _failed(f"leaks the chat template: {token.strip()}", asked)
    if asked.only:
        return _score_only(asked, asked.only, text, thought)
    counts = measure(text, asked)
    if isinstance(counts, str):
        return _failed(f"a line of no type: {counts[:50]}", asked)
    facts = Facts._make(counts)
    points = Points._make(points_of(counts, asked.several, thought))
    most = MOST if facts.passage is None else MOST_WITH_HYDE
    percentage = max(0.0, min(100.0, sum(points) / most * 100))
    why = tuple(reasons(facts, thought))
    if facts.lex_echoes:
        percentage = min(percentage, rules.ECHO_CAP)
        why = (f"at most {rules.ECHO_CAP:.0f}%: {facts.lex_echoes} lex line(s) echo the query", *why)
    return Score(points, max(0, sum(points)), most, percentage, why, asked.entities, None)


def _failed(reason: str, asked: Query) -> Score:
    return Score(NO_POINTS, 0, FAILED_MOST, 0.0, (reason,), (), asked.only)


def _score_only(asked: Query, only: Kind, text: str, thought: bool) -> Score:
    parsed = parse_expansion(text)
    if parsed["invalid"]:
        return _failed(f"a line of no type: {parsed['invalid'][0][:50]}", asked)
    if not parsed[only]:
        return _failed(f"no {only} line, which was asked for", asked)
    facts = measure_only(asked, only, parsed)
    points = points_only(facts, asked, thought)
    why = reasons_only(facts, points, asked)
    percentage = max(0.0, min(100.0, sum(points) / MOST * 100))
    return Score(points, sum(points), MOST, percentage, tuple(why), asked.entities, only)

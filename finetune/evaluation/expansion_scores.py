"""What expansions are worth by both rewards: a row a query, figures by category, differences in pairs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from finetune.evaluation.counts import Estimate, verdict
from finetune.evaluation.expansion_queries import EvalQuery, Judged, typed
from finetune.evaluation.expansion_source import Expanded
from finetune.metrics import Floats
from finetune.rewards.background import query_stems
from finetune.rewards.qmd import score
from finetune.rewards.qmd_words import EXCELLENT
from finetune.rewards.strict import StrictReward
from finetune.rewards.words import content_stems
from harness.search.evaluate import difference, interval
from skills.expand.words import holds, named_entities

DIMENSIONS = ("format", "diversity", "hyde", "quality", "entity", "think")
OTHER_MEASURES = ("percentage", "strict", "entities_kept")
JUDGED = ("must_keep", "good_terms", "bad_terms")
MOST_COMPARED = 500
"""Expansions of which each pair is compared."""
FAILED = "nothing was written"
_REASON = re.compile(r"(format|diversity|hyde|quality|entity|think) -(\d+): (.*)")
_DETAILS = re.compile(r"(lost |line\(s\) without (?!an? )|a line of no type|leaks the chat template).*")

Row = dict[str, Any]


def row_of(query: EvalQuery, found: Expanded, strict: StrictReward | None) -> Row:
    """The scores of one expansion. One that failed has 0 in everything."""
    row: Row = {"query": query.text, "category": query.category, "text": found.text, "error": found.error}
    row |= {"parseable": found.parseable and not found.error, "removed": dict(found.removed)}
    if found.error:
        nothing = dict.fromkeys((*DIMENSIONS, "percentage"), 0.0)
        return row | nothing | {"strict": None if strict is None else 0.0, "entities_kept": None, "reasons": [FAILED]}
    points = score(query.text, found.text)
    return row | {
        **dict(zip(DIMENSIONS, map(float, points.points), strict=True)),
        "percentage": points.percentage,
        "strict": None if strict is None else strict(query.text, found.text),
        "entities_kept": entities_kept(query, found),
        "reasons": list(points.reasons),
    }


def entities_kept(query: EvalQuery, found: Expanded) -> float | None:
    """The share of the query's names that some lex line holds; None without names, or where no lex line was asked for."""
    others = [line.text for line in found.lines if line.type != "lex"]
    names = named_entities(query.query.text, others)
    if not names or "lex" not in query.query.types:
        return None
    lexical = [line.text for line in found.lines if line.type == "lex"]
    return sum(any(holds(text, name) for text in lexical) for name in names) / len(names)


def summary(rows: Sequence[Row], *, seed: int) -> dict[str, Any]:
    """The figures of some rows: means with intervals, counts, diversity, and the reasons for deductions summed."""
    kept = values(rows, "entities_kept")
    return {
        "queries": len(rows),
        "failed": sum(bool(row["error"]) for row in rows),
        "percentage": _bounds(values(rows, "percentage"), seed),
        "excellent": sum(row["percentage"] >= EXCELLENT for row in rows),
        "parseable": sum(row["parseable"] for row in rows),
        "strict": _bounds(values(rows, "strict"), seed),
        "entities_kept": round(float(kept.mean()), 4) if len(kept) else None,
        "with_entities": len(kept),
        "diversity": diversity([(row["query"], row["text"]) for row in rows]),
        "dimensions": {name: round(float(values(rows, name).mean()), 3) for name in DIMENSIONS},
        "reasons": reasons(rows),
    }


def by_category(rows: Sequence[Row], *, seed: int) -> dict[str, dict[str, Any]]:
    """The figures of each category, in the order in which they come."""
    names = dict.fromkeys(row["category"] for row in rows)
    return {name: summary([row for row in rows if row["category"] == name], seed=seed) for name in names}


def values(rows: Sequence[Row], measure: str) -> Floats:
    """One measure of all rows that have it."""
    return np.array([row[measure] for row in rows if row[measure] is not None], dtype=np.float64)


def reasons(rows: Iterable[Row]) -> dict[str, list[int]]:
    """For each reason of deductions in how many expansions it holds and the points it cost, the costliest first."""
    times: Counter[str] = Counter()
    cost: Counter[str] = Counter()
    for row in rows:
        for reason in row["reasons"]:
            name, points = reason_kind(reason)
            times[name] += 1
            cost[name] += points
    return {name: [times[name], cost[name]] for name in sorted(times, key=lambda name: (-cost[name], -times[name], name))}


def reason_kind(reason: str) -> tuple[str, int]:
    """A reason without what is particular to one expansion, and the points that it cost.

    >>> reason_kind("diversity -4: 2 pair(s) of lex lines alike")
    ('diversity: pair(s) of lex lines alike', 4)
    >>> reason_kind("entity -40: lost tds, motorsports")
    ('entity: lost …', 40)
    """
    match = _REASON.fullmatch(reason)
    dimension, points, text = (f"{match[1]}: ", int(match[2]), match[3]) if match else ("", 0, reason)
    text = _DETAILS.sub(r"\1…", text)
    return dimension + re.sub(r"\b\d+ (?=pair|lex|vec|line|generic|character)|\(\d+ characters\)", "", text).strip(), points


def diversity(expansions: Sequence[tuple[str, str]]) -> float | None:
    """1 less the mean Jaccard overlap of the words that two expansions add to their queries; a template has 0.

    Of more than ``MOST_COMPARED`` every second one, or third, and so on, stands for all.

    >>> diversity([("tea", "lex: tea guide"), ("rust", "lex: rust guide")]), diversity([("tea", "lex: tea cup")]) is None
    (0.0, True)
    """
    added = []
    for query, text in expansions[:: -(-len(expansions) // MOST_COMPARED)]:
        words = " ".join(line.partition(":")[2] for line in text.splitlines())
        added.append(frozenset(content_stems(words)) - query_stems(query))
    pairs = [len(a & b) / len(a | b) for a, b in combinations([stems for stems in added if stems], 2)]
    return round(1 - float(np.mean(pairs)), 4) if pairs else None


def paired(ours: Sequence[Row], theirs: Sequence[Row], *, seed: int) -> dict[str, dict[str, Any]]:
    """For each dimension the mean difference on the same queries with its 95% interval, and what it says."""
    found = {}
    for name in (*DIMENSIONS, *OTHER_MEASURES):
        both = [(a[name], b[name]) for a, b in zip(ours, theirs, strict=True)]
        pairs = [pair for pair in both if None not in pair]
        if pairs:
            one, other = np.array(pairs, dtype=np.float64).T
            interval_ = difference(one, other, seed)
            estimate = Estimate(interval_.mean, interval_.low, interval_.high)
            found[name] = {"difference": estimate.rounded(), "verdict": verdict(estimate), "queries": len(pairs)}
    return found


def judged_scores(judged: Sequence[Judged], found: Sequence[Expanded], *, seed: int) -> dict[str, Any]:
    """How many ``must_keep`` stand in some lex line, how many good and bad terms in any line; shares with intervals.

    ``must_keep`` is matched as part of a word, the others on the borders of words; case does not count. A query without
    terms of a kind says nothing about it.
    """
    terms_of = [_terms_found(one, expanded) for one, expanded in zip(judged, found, strict=True)]
    figures: dict[str, Any] = {}
    for name in JUDGED:
        counted = [terms[name] for terms in terms_of if terms[name]]
        shares = np.array([sum(terms.values()) / len(terms) for terms in counted], dtype=np.float64)
        hits, all_terms = sum(sum(terms.values()) for terms in counted), sum(map(len, counted))
        figures[name] = {"found": hits, "terms": all_terms, "mean_share": _bounds(shares, seed)}
    rows = [{"query": typed(one.query), "kind": one.kind, **terms} for one, terms in zip(judged, terms_of, strict=True)]
    return {"queries": len(rows), **figures, "rows": rows}


def _terms_found(judged: Judged, found: Expanded) -> dict[str, dict[str, bool]]:
    """For each kind of terms which of them the lines of an expansion hold."""
    lexical = [line.text.casefold() for line in found.lines if line.type == "lex"]
    everything = "\n".join(line.text for line in found.lines)
    return {
        "must_keep": {term: any(term.casefold() in text for text in lexical) for term in judged.must_keep},
        "good_terms": {term: _stands(term, everything) for term in judged.good},
        "bad_terms": {term: _stands(term, everything) for term in judged.bad},
    }


def _stands(term: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(term)}(?!\w)", text, re.IGNORECASE) is not None


def _bounds(numbers: Floats, seed: int) -> list[float] | None:
    """``[mean, low, high]``; None of nothing."""
    if not len(numbers):
        return None
    found = interval(numbers, seed)
    return [round(found.mean, 4), round(found.low, 4), round(found.high, 4)]

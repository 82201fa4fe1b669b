"""What the votes look like: shares and scores per persona, and which checks rejected how much."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from curation.checks import CHECKS
from curation.panel import KEPT
from curation.votes import CHECKS_SOURCE

SCORES = (1, 2, 3, 4, 5)
_CHECK = re.compile(rf"(?:^|; )({'|'.join(map(re.escape, CHECKS))}): ")
Record = Mapping[str, Any]


@dataclass(frozen=True)
class PersonaStats:
    """The votes of one persona."""

    name: str
    votes: int
    passed: int
    failed: int
    """Replies that could not be read."""
    by_model: int
    scores: Mapping[int, int]

    @property
    def mean(self) -> float | None:
        """Of the scores that could be read; None where there is none."""
        count = sum(self.scores.values())
        return sum(score * number for score, number in self.scores.items()) / count if count else None


def by_persona(records: Sequence[Record]) -> list[PersonaStats]:
    """Statistics of each persona, in the order in which they first vote."""
    votes: dict[str, list[Mapping[str, Any]]] = {}
    for record in records:
        for vote in record["votes"]:
            votes.setdefault(vote["persona"], []).append(vote)
    return [_stats(name, cast) for name, cast in votes.items()]


def _stats(name: str, votes: Sequence[Mapping[str, Any]]) -> PersonaStats:
    counts = Counter(vote["score"] for vote in votes)
    return PersonaStats(
        name=name,
        votes=len(votes),
        passed=sum(bool(vote.get("pass")) for vote in votes),
        failed=counts[None],
        by_model=sum(vote.get("source") != CHECKS_SOURCE for vote in votes),
        scores={score: counts[score] for score in SCORES},
    )


def by_check(records: Iterable[Record]) -> Counter[str]:
    """For each check, in how many rows that were not kept it made a vote fail."""
    counts: Counter[str] = Counter()
    for record in records:
        if record["verdict"] != KEPT:
            reasons = (v["reason"] for v in record["votes"] if v.get("source") == CHECKS_SOURCE and not v.get("pass"))
            counts.update({name for reason in reasons for name in _CHECK.findall(str(reason))})
    return counts


def stats_rows(records: Sequence[Record]) -> tuple[list[str], list[list[str]]]:
    """The table for people: heads and rows, one a persona."""
    head = ["persona", "votes", "by a model", "unreadable", "pass", "mean", *(f"score {score}" for score in SCORES)]
    rows = []
    for one in by_persona(records):
        share = f"{one.passed / one.votes:.0%}"
        mean = "" if one.mean is None else f"{one.mean:.2f}"
        counts = [str(one.scores[score]) for score in SCORES]
        rows.append([one.name, str(one.votes), str(one.by_model), str(one.failed), share, mean, *counts])
    return head, rows


def stats_record(records: Sequence[Record]) -> dict[str, Any]:
    """The same for machines."""
    return {
        "rows": len(records),
        "verdicts": dict(sorted(Counter(record["verdict"] for record in records).items())),
        "personas": [
            {
                "name": one.name,
                "votes": one.votes,
                "by_model": one.by_model,
                "unreadable": one.failed,
                "passed": one.passed,
                "mean": None if one.mean is None else round(one.mean, 3),
                "scores": {str(score): one.scores[score] for score in SCORES},
            }
            for one in by_persona(records)
        ],
        "rejected_by_check": dict(by_check(records).most_common()),
    }

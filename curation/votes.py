"""Votes and verdicts: what a persona says of a row, and what follows from all of them. Pure functions.

The rule of the deterministic vote. A persona starts at 5. A serious finding of a check that its rubric lists makes it 1;
a slight one costs a point. Checks are facts: asking five personas about one fact gives five equal answers, not five
opinions whose noise a quorum averages out. ``personas.toml`` therefore lists each check with every persona whose
rubric it breaks, three at least, and one serious defect that any single lens can see rejects a row at 3 of 5. What only
the cue lexicon says is a guess: it decides where nobody else votes, and is left to the chat model where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from curation.checks.finding import Finding
from curation.personas import Persona

CHECKS_SOURCE = "checks"
BEST, WORST = 5, 1
SLIGHT_WORST = 2
"""Slight findings alone never make a vote worse than this."""
NOTHING = "the checks find nothing against it"


@dataclass(frozen=True)
class Vote:
    """One persona's vote on one row."""

    persona: str
    score: int | None
    """1 to 5; None for a reply that could not be read, which is a failed vote."""
    reason: str
    source: str
    """``checks``, or the name of the model that gave it."""

    def passes(self, threshold: float) -> bool:
        """Whether the vote is for keeping the row."""
        return self.score is not None and self.score >= threshold

    def record(self, threshold: float) -> dict[str, Any]:
        """The vote as the log has it."""
        return {**asdict(self), "pass": self.passes(threshold)}


def from_record(record: Mapping[str, Any]) -> Vote:
    """A vote back from the log or the journal."""
    return Vote(str(record["persona"]), record["score"], str(record["reason"]), str(record["source"]))


def broken(persona: Persona, findings: Sequence[Finding], *, guesses: bool = True) -> list[Finding]:
    """The serious findings that break this persona's rubric; without ``guesses`` only those that are facts."""
    serious = (finding for finding in findings if finding.fatal and (guesses or not finding.guess))
    return [finding for finding in serious if finding.check in persona.breaks]


def by_checks(persona: Persona, findings: Sequence[Finding]) -> Vote:
    """The vote that the checks cast for a persona."""
    serious = broken(persona, findings)
    if serious:
        return Vote(persona.name, WORST, _told(serious), CHECKS_SOURCE)
    slight = [finding for finding in findings if finding.check in persona.breaks]
    score = max(SLIGHT_WORST, BEST - len(slight))
    return Vote(persona.name, score, _told(slight) or NOTHING, CHECKS_SOURCE)


def _told(findings: Sequence[Finding]) -> str:
    return "; ".join(f"{finding.check}: {finding}" for finding in findings)


def is_kept(votes: Sequence[Vote], *, threshold: float, quorum: int) -> bool:
    """The verdict: kept when at least ``quorum`` votes reach ``threshold``."""
    return sum(vote.passes(threshold) for vote in votes) >= quorum

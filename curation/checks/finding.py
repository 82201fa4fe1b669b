"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass

WHOLE = ""
"""The move of a finding about the annotation as a whole."""


@dataclass(frozen=True)
class Finding:
    """One defect that a check found."""

    check: str
    """The check's name in kebab case, as ``personas.toml`` lists it."""
    move: str
    """The move whose cell has it, or WHOLE."""
    detail: str
    """One clause for people; text of papers in it is data."""
    fatal: bool = True
    """Whether it alone breaks the rubric of the personas that list it; otherwise it costs them a point."""
    guess: bool = False
    """Whether it rests on the cue lexicon: likely, but no fact. Where a chat model votes, it is asked instead."""

    def __str__(self) -> str:
        return f"{self.move}: {self.detail}" if self.move else self.detail

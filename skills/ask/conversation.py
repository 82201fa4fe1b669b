"""What /ask remembers of a session: the last questions with their answers, and where they were looked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from skills.ask.follow_up import TURNS, Turn

_KEY = "conversation"


@dataclass
class Conversation:
    """The turns so far, the newest last, and the files that the last one was answered from."""

    turns: list[Turn] = field(default_factory=list)
    files: tuple[str, ...] | None = None
    """None: the whole index."""

    def add(self, question: str, answer: str, files: Sequence[str] | None) -> None:
        """Remember a turn; only the last few are kept."""
        self.turns = [*self.turns, Turn(question, answer)][-TURNS:]
        self.files = tuple(files) if files is not None else None


def conversation(memory: dict[str, Any]) -> Conversation:
    """The conversation in a skill's memory; a new one where there is none."""
    found = memory.setdefault(_KEY, Conversation())
    assert isinstance(found, Conversation)
    return found

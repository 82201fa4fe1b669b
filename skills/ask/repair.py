"""What a model is told of an answer that failed its checks, so that it can write it again."""

from __future__ import annotations

from collections.abc import Sequence

from harness.errors import ModelError
from skills.ask.verify import Checked

SHOWN = 160
"""Characters of a sentence that a complaint repeats."""
TOKENS = 600
"""That a complaint may take, generously."""
_AGAIN = (
    "Write the whole JSON again. Correct these sentences from the passages, or leave out what the passages do not say; "
    "when nothing is left, set answered to false. Sentences that are not named here may stay."
)


def complaint(checked: Sequence[Checked]) -> str:
    """Each failed check of each sentence, and what to do."""
    lines = ["These sentences failed checks against the passages:"]
    for one in checked:
        if one.problems:
            text = one.text if len(one.text) <= SHOWN else f"{one.text[:SHOWN]}…"
            lines.append(f"- “{text}”: {'; '.join(dict.fromkeys(problem.message for problem in one.problems))}.")
    return "\n".join([*lines, _AGAIN])


def malformed(error: ModelError) -> str:
    """For an answer that could not be read."""
    return f"{error.message}. Write only the JSON object, with the keys reasoning, answered and answer."


def better(first: Sequence[Checked], second: Sequence[Checked]) -> bool:
    """Whether a second answer is at least as good: it has sentences that hold, and no larger share of others."""

    def failing(checked: Sequence[Checked]) -> float:
        return sum(one.fails for one in checked) / len(checked) if checked else 1.0

    return failing(second) <= failing(first)

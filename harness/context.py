"""What a skill may use: settings, the console, models, other skills, standard input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.config import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from harness.models.base import Model
    from harness.skills import Skill


class OpenModel(Protocol):
    """``open_model("annotate")``: the model that serves a task here (resolve.py); it stays open for the session.

    With ``general`` only chat models count: the task needs more than the fine-tunes can do. ``variant`` prefers a
    quantisation (``q8_0``) where the registry has it. Raises NoModelError. The choice and why are printed as one line on
    stderr.
    """

    def __call__(self, task: str, *, general: bool = False, variant: str = "") -> Model: ...


@dataclass
class Context:
    """Handed to ``run`` of a skill. ``console`` writes to stderr; results go into the Outcome."""

    settings: Settings
    console: Console
    home: Path
    open_model: OpenModel
    skill: Callable[[str], Skill]
    """Another skill by name, through the loader."""
    stdin: str | None = None
    """What was piped in, where anything was."""
    interactive: bool = False
    """True in the REPL: questions may be asked."""
    memory: dict[str, Any] = field(default_factory=dict)
    """What this skill keeps from one task of a session to the next; ``/clear`` empties it."""

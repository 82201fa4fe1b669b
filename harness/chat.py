"""Talking to a general chat model: the conversation with its history, and skills that are an instruction only."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.errors import ContextOverflow, UsageError
from harness.models.base import Message, Model, OnText, Options, Reply, Request
from harness.models.resolve import CHAT
from harness.skills import Outcome

if TYPE_CHECKING:
    from harness.context import Context
    from harness.skill_files import SkillFile
    from harness.task import Flag, Task

CONTEXT = 8192
"""Tokens of prompt and reply that are reserved unless one turn alone needs more."""
REPLY = 2048
"""Tokens that a reply may take."""
SHORTEST_REPLY = 256
PER_MESSAGE = 8
"""Tokens of the chat template around each message, generously."""


class Chat:
    """A conversation. Turns that no longer fit are dropped whole, oldest first, and counted; nothing is cut."""

    def __init__(self, system: str = "") -> None:
        self._system = (Message("system", system),) if system else ()
        self._turns: list[tuple[Message, Message]] = []

    def clear(self) -> None:
        """Forget all turns."""
        self._turns.clear()

    def ask(
        self, model: Model, text: str, *, on_text: OnText | None = None, cancel: threading.Event | None = None
    ) -> Outcome:
        """One turn. ``details["dropped_turns"]`` says how many old ones no longer took part.

        Raises ContextOverflow where ``text`` alone is too long, ModelError and its kind.
        """
        user = Message("user", text)
        fixed = _tokens(model, (*self._system, user))
        limit = model.info.context or CONTEXT + fixed
        if fixed + SHORTEST_REPLY > limit:
            raise ContextOverflow(
                f"the text takes {fixed} tokens, {model.info.name} holds {limit} with its reply", "give less text"
            )
        room = min(limit, max(CONTEXT, fixed + REPLY))
        reply_tokens = min(REPLY, room - fixed)
        costs = [_tokens(model, turn) for turn in self._turns]
        dropped = _too_many(costs, room - fixed - reply_tokens)
        del self._turns[:dropped]
        model.reserve(room)
        messages = (*self._system, *(message for turn in self._turns for message in turn), user)
        reply = model.generate(
            Request(messages=messages, options=Options(max_tokens=reply_tokens)), on_text=on_text, cancel=cancel
        )
        if reply.text:
            self._turns.append((user, Message("assistant", reply.text)))
        return _outcome(model, reply, dropped)


def _tokens(model: Model, messages: Sequence[Message]) -> int:
    return sum(model.count_tokens(message.content) + PER_MESSAGE for message in messages)


def _too_many(costs: Sequence[int], room: int) -> int:
    """How many of the first costs must go so that the rest fits into ``room``."""
    total = sum(costs)
    for dropped, cost in enumerate(costs):
        if total <= room:
            return dropped
        total -= cost
    return len(costs)


def _outcome(model: Model, reply: Reply, dropped: int) -> Outcome:
    return Outcome(
        text=reply.text,
        records=[{"text": reply.text, "finish": reply.finish, "model": model.info.record()}],
        model=model.info,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        context_used=reply.prompt_tokens + reply.completion_tokens,
        details={"finish": reply.finish, "dropped_turns": dropped},
    )


def notes(outcome: Outcome) -> list[str]:
    """What a user must know about a reply: that it was stopped by its limit, that old turns were left out."""
    lines = []
    if dropped := outcome.details.get("dropped_turns"):
        lines.append(f"the oldest {dropped} turns of this conversation no longer fit and were dropped")
    if outcome.details.get("finish") == "length":
        lines.append(f"the reply was stopped at {outcome.completion_tokens} tokens and is incomplete")
    return lines


def with_input(text: str, piped: str | None) -> str:
    """The user's words and, below, what was piped in."""
    return "\n\n".join(part for part in (text, (piped or "").strip()) if part)


class InstructionSkill:
    """A skill folder without code: its body is the system instruction of the general chat model."""

    FLAGS: tuple[Flag, ...] = ()

    def __init__(self, file: SkillFile) -> None:
        self._file = file

    def run(self, task: Task, context: Context) -> Outcome:
        """Ask the chat model; with ``save to`` the reply goes to a Markdown file."""
        from harness.outputs import atomic_write, check_target

        text = with_input(task.text, context.stdin)
        if not text:
            raise UsageError(f"/{task.skill} needs some text", f'write /{task.skill} "…" or pipe it in')
        if task.save_to is not None:
            if task.save_to.suffix.lower() != ".md":
                raise UsageError(f"{task.save_to}: /{task.skill} writes Markdown", "name a file ending in .md")
            check_target(task.save_to, yes=context.settings.yes)
        system = f'<skill_content name="{self._file.name}">\n{self._file.body}\n</skill_content>'
        outcome = Chat(system).ask(context.open_model(CHAT), text)
        for note in notes(outcome):
            context.console.print(note)
        if task.save_to is not None:
            with atomic_write(task.save_to, overwrite=context.settings.yes) as handle:
                handle.write(outcome.text + "\n")
            outcome.saved = [str(task.save_to)]
            context.console.print(f"saved {task.save_to}")
        return outcome

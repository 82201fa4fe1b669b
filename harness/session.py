"""One session: settings, skills, opened models and the conversation, for the command line and the REPL alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from harness import config
from harness.config import Settings
from harness.context import Context
from harness.errors import Exit, MarginaliaError, NoModelError, UsageError
from harness.models.base import Model, ModelInfo, OnText
from harness.skill_files import GENERAL, WITHOUT
from harness.skills import BUILT_IN, InstalledSkill, Outcome, Skill, find_skills, get_skill
from harness.task import Task, parse_task, slash_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from harness.chat import Chat
    from harness.log import Entry

Piped = str | Callable[[], str | None] | None
"""Standard input: its text, or how to read it when a skill asks for it."""


class _LazyContext(Context):
    """Reads standard input when a skill looks at it, not before: an idle pipe must not stop one that has its input."""

    _piped: Piped = None

    @property
    def stdin(self) -> str | None:
        """What was piped in."""
        if callable(self._piped):
            self._piped = self._piped()
        return self._piped

    @stdin.setter
    def stdin(self, value: Piped) -> None:
        self._piped = value


class Session:
    """Runs tasks and answers plain text; keeps models open in between. Close it at the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models: dict[tuple[str, str], Model] = {}
        """By task and variant. One model may serve several; it is opened once."""
        self._opened: dict[object, Model] = {}
        self._last: ModelInfo | None = None
        self._context_used = 0
        self._log_broken = False
        self._memories: dict[str, dict[str, Any]] = {}
        """What each skill keeps for the session."""
        self._running: dict[str, Any] = {}
        """What the log will say of the run in progress."""
        self.home: Path = config.home()

    @property
    def settings(self) -> Settings:
        """Settings in force. Setting them closes the models: others may be meant now."""
        return self._settings

    @settings.setter
    def settings(self, value: Settings) -> None:
        self.close()
        self._settings, self._last = value, None

    @cached_property
    def console(self) -> Console:
        """Where messages go: stderr."""
        from harness.console import stderr_console

        return stderr_console()

    @cached_property
    def skills(self) -> list[InstalledSkill]:
        """All skills that are installed here; those that are hidden or unusable are told once on stderr."""
        skills, warnings = find_skills(self.home)
        for warning in warnings:
            self.console.print(f"warning: {warning}", style="yellow")
        return skills

    @cached_property
    def _chat(self) -> Chat:
        from harness.chat import Chat

        return Chat()

    def skill(self, name: str) -> Skill:
        """The skill of this name, loaded. Raises UsageError (unknown, not trusted) or InputError (broken)."""
        return get_skill(name, self.skills).load()

    def parse(self, text: str) -> Task:
        """What ``text`` asks for. Raises UsageError."""
        name = slash_name(text.strip())
        for skill in self.skills:
            if skill.name == name:
                skill.load()  # "not trusted" must come before "no such flag"
        return parse_task(text, self.skills)

    def run(self, text: str, *, stdin: Piped = None, interactive: bool = True) -> Outcome:
        """Do a task, or answer plain text, and log it.

        Raises MarginaliaError for what the user can mend and KeyboardInterrupt when stopped.
        """
        with self._logged(text) as entry:
            task = self.parse(text)
            if task.skill is None:
                return self._note(entry, self._answer(with_piped(task.text, stdin)))
            entry["skill"] = task.skill
            if task.why:
                self.console.print(task.why, style="dim")
            with self._blaming(get_skill(task.skill, self.skills)) as skill:
                outcome = skill.run(task, self._context(task, stdin, interactive))
            return self._note(entry, outcome)

    @contextmanager
    def _blaming(self, installed: InstalledSkill) -> Iterator[Skill]:
        """The loaded skill. What its code raises unforeseen is told as a fault of the skill where it is not one of ours."""
        try:
            yield installed.load()
        except (MarginaliaError, BrokenPipeError):
            raise
        except Exception as error:
            if installed.source == BUILT_IN:
                raise
            from harness.console import clean
            from harness.crash import keep

            where = keep(type(error), error, error.__traceback__)
            what = " ".join(clean(f"{type(error).__name__}: {error}").split())
            raise MarginaliaError(
                f"the skill {installed.name} in {installed.file.folder} has a fault ({what}); {where}", "tell its author"
            ) from error

    def chat(self, text: str, on_text: OnText | None = None, cancel: threading.Event | None = None) -> Outcome:
        """Answer plain text from the general chat model, with the conversation so far, and log it.

        Raises NoModelError where there is no such model, ContextOverflow for a text that is too long.
        """
        with self._logged(text) as entry:
            return self._note(entry, self._answer(text, on_text, cancel))

    def clear(self) -> None:
        """Forget the conversation, and what skills remember of it."""
        self._chat.clear()
        self._memories.clear()

    def close(self) -> None:
        """Close all models; the session can be used on."""
        while self._opened:
            _, model = self._opened.popitem()
            model.close()
        self._models.clear()

    def status(self) -> Mapping[str, Any]:
        """``model``, ``backend``, ``context_used`` and ``context`` (tokens) of the last request."""
        info = self._last
        if info is None:
            return {"model": self.settings.model}
        return {
            "model": info.name,
            "backend": info.backend,
            "context_used": self._context_used,
            "context": info.context,
        }

    def open_model(self, task: str, *, general: bool = False, variant: str = "") -> Model:
        """The model that serves ``task`` here (with ``general``: a chat model); it stays open.

        ``variant`` prefers a quantisation where the registry has it. One line on stderr says which and why. Raises
        NoModelError with the commands that would help.
        """
        from harness.models.resolve import CHAT, open_choice, resolve

        task = CHAT if general else task
        if (task, variant) in self._models:
            return self._noted(self._models[task, variant])
        try:
            choice = resolve(task, self.settings, allow_general=self._may_be_general(task), variant=variant)
        except NoModelError as error:
            raise (self._no_chat() if task == CHAT and not self.settings.model else error) from None
        self.console.print(f"model: {choice.name} ({choice.backend}), {choice.why}", style="dim")
        key = (choice.name, choice.backend)
        if key not in self._opened:
            self._opened[key] = open_choice(choice, self.settings)
        self._models[task, variant] = self._opened[key]
        return self._noted(self._opened[key])

    def _noted(self, model: Model) -> Model:
        """The model, once the log knows of it: a run that fails or is stopped names it, too."""
        self._running |= _model_values(model.info)
        return model

    def _may_be_general(self, task: str) -> bool:
        """A general model may chat, and run each skill that does not forbid it."""
        from harness.models.resolve import CHAT

        own = next((skill for skill in self.skills if skill.name == task), None)
        return task == CHAT or (own is not None and own.file.metadata.get(GENERAL, "yes") != "no")

    def _no_chat(self) -> NoModelError:
        """What plain text and some tasks need is not here; what works all the same."""
        from harness.models.resolve import resolve

        working = []
        for skill in self.skills:
            if skill.file.has_code:
                try:
                    if WITHOUT not in skill.file.metadata:
                        resolve(skill.name, self.settings, allow_general=False)
                except MarginaliaError:
                    continue
                working.append(f"/{skill.name}")
        here = f" (what works without: {', '.join(working)})" if working else ""
        return NoModelError(f"no general chat model is here{here}", "to get one: ollama pull qwen3:4b")

    def _answer(self, text: str, on_text: OnText | None = None, cancel: threading.Event | None = None) -> Outcome:
        from harness.chat import notes
        from harness.models.resolve import CHAT

        if not text:
            raise UsageError("the task is empty", 'try: python agent.py "/annotate papers.csv save to out.csv"')
        outcome = self._chat.ask(self.open_model(CHAT), text, on_text=on_text, cancel=cancel)
        for note in notes(outcome):
            self.console.print(note, style="yellow")
        return outcome

    def _context(self, task: Task, stdin: Piped, interactive: bool) -> Context:
        context = _LazyContext(
            settings=replace(self.settings, yes=self.settings.yes or task.yes),
            console=self.console,
            home=self.home,
            open_model=self.open_model,
            skill=self.skill,
            interactive=interactive,
            memory=self._memories.setdefault(task.skill or "", {}),
        )
        context.stdin = cast("str | None", stdin)
        return context

    def _note(self, entry: dict[str, Any], outcome: Outcome) -> Outcome:
        """Keep what an outcome says for status and log."""
        if outcome.model is not None:
            self._last, self._context_used = outcome.model, outcome.context_used
            entry |= _model_values(outcome.model)
        entry |= {
            "prompt_tokens": outcome.prompt_tokens,
            "completion_tokens": outcome.completion_tokens,
            "context_used": outcome.context_used,
            "exit": int(outcome.exit),
            "details": {**outcome.details, **({"saved": list(outcome.saved)} if outcome.saved else {})},
        }
        return outcome

    @contextmanager
    def _logged(self, text: str) -> Iterator[dict[str, Any]]:
        """Write one log entry for what happens inside, from the values that the block fills in."""
        from harness.log import Entry, now

        values = self._running = {"time": now(), "task": text}
        start = time.monotonic()
        try:
            yield values
        except MarginaliaError as error:
            values |= {"exit": int(error.exit), "details": {"error": str(error)}}
            raise
        except KeyboardInterrupt:
            values["exit"] = int(Exit.INTERRUPTED)
            raise
        finally:
            values.setdefault("exit", int(Exit.FAILED))
            values["seconds"] = round(time.monotonic() - start, 3)
            entry = Entry(**values)
            if self.settings.verbose and entry.model:
                self.console.print(figures(entry), style="dim")
            self._write_log(entry)

    def _write_log(self, entry: Entry) -> None:
        from harness import log

        if not self.settings.log or self._log_broken:
            return
        try:
            log.write(self.home, entry)
        except MarginaliaError as error:
            self._log_broken = True
            self.console.print(f"warning: this run is not logged: {error}", style="yellow")


def _model_values(info: ModelInfo) -> dict[str, Any]:
    return {"model": info.name, "backend": info.backend, "digest": info.digest}


def figures(entry: Entry) -> str:
    """What ``-v`` tells of a run: model, its weights, tokens, time."""
    tokens = f"{entry.prompt_tokens:,} tokens read, {entry.completion_tokens:,} written"
    largest = f"largest request {entry.context_used:,} tokens"
    return f"{entry.model} ({entry.digest[:19] or 'no digest'}): {tokens}, {largest}, {entry.seconds:.1f} s"


def with_piped(text: str, piped: Piped) -> str:
    """The user's words and, below, what was piped in."""
    from harness.chat import with_input

    return with_input(text, piped() if callable(piped) else piped)

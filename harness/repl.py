"""The interactive session: reads a line, does it, shows what came of it, until the user leaves.

Imported only when a REPL starts (prompt_toolkit and rich are heavy). Nothing runs while the prompt is up, so Ctrl-C
has one meaning at a time: at the prompt it clears the line, in a task it stops the task.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.filters import Condition, is_searching
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout

from harness import crash
from harness.config import Settings, home
from harness.console import clean, show_outcome, stderr_console, stdout_console
from harness.errors import Exit, MarginaliaError
from harness.log import masked
from harness.models.base import OnText
from harness.repl_commands import BUILTINS, Desk, descriptions, flags_of, unknown
from harness.repl_completion import ReplCompleter, Vocabulary
from harness.repl_models import ModelNames, available
from harness.repl_reply import show_reply
from harness.skills import Outcome
from harness.task import Parsable, Task, slash_name

PROMPT = "› "
CONTINUATION = "… "
_ENDS = {Exit.DONE: "done", Exit.INTERRUPTED: "stopped"}


class SkillEntry(Parsable, Protocol):
    """What the REPL must know about a skill: what the parser must, a description, an example."""

    @property
    def description(self) -> str: ...

    @property
    def example(self) -> str: ...


class ReplSession(Protocol):
    """What the REPL needs of ``harness.session.Session``."""

    settings: Settings

    @property
    def skills(self) -> Sequence[SkillEntry]: ...

    def parse(self, text: str) -> Task:
        """What the text asks for. Raises MarginaliaError."""
        ...

    def run(self, text: str, *, stdin: str | None = None, interactive: bool = True) -> Outcome:
        """Do a task. Raises MarginaliaError, and KeyboardInterrupt when stopped."""
        ...

    def chat(self, text: str, on_text: OnText, cancel: threading.Event) -> Outcome:
        """Answer plain text; setting ``cancel`` ends the reply soon."""
        ...

    def status(self) -> Mapping[str, Any]:
        """``model``, ``backend``, ``context_used``, ``context`` (tokens) of the last request; answers at once."""
        ...

    def clear(self) -> None:
        """Forget the conversation."""
        ...


def run_repl(session: ReplSession, models: Callable[[], Mapping[str, str]] | None = None) -> int:
    """Run the interactive session until the user leaves; the exit code. The caller closes ``session``.

    ``models`` finds the models that can be named (name → where it comes from); by default registry and Ollama.
    """
    return Repl(session, models or (lambda: available(session.settings))).run()


class Repl:
    """One interactive session."""

    def __init__(self, session: ReplSession, models: Callable[[], Mapping[str, str]]) -> None:
        self._session = session
        self._notices = stderr_console()
        self._desk = Desk(session, stdout_console(), open_history(home() / "history"), models)
        self._leaving = False
        """Ctrl-C was pressed at an empty prompt: once more leaves."""
        self._job = "ready"

    def run(self) -> int:
        """Read and do, until the user leaves."""
        prompt = self._prompt()
        skills = ", ".join(f"/{skill.name}" for skill in self._session.skills) or "no skills"
        self._notices.print(f"{skills}; /help says what can be typed, Ctrl-D leaves.", style="dim")
        while True:
            try:
                with patch_stdout(raw=True):
                    text = prompt.prompt(PROMPT, bottom_toolbar=toolbar(self._session.status(), self._job))
            except EOFError:
                return Exit.DONE
            except KeyboardInterrupt:
                if self._leaving:
                    return Exit.DONE
                self._leaving = True
                self._notices.print("Ctrl-C once more leaves.", style="dim")
                continue
            self._leaving = False
            text = _sound(text).strip()
            if text and self._attempt(text):
                return Exit.DONE

    def _prompt(self) -> PromptSession[str]:
        session = self._session
        vocabulary = Vocabulary(
            {name: builtin.help for name, builtin in BUILTINS.items()},
            lambda: descriptions(session),
            lambda name: flags_of(session, name),
            ModelNames(self._desk.models),
        )
        prompt: PromptSession[str] = PromptSession(
            history=self._desk.history,
            completer=ReplCompleter(vocabulary),
            complete_in_thread=True,
            complete_while_typing=Condition(lambda: prompt.default_buffer.text.startswith("/")),
            key_bindings=self._keys(),
            multiline=True,
            prompt_continuation=CONTINUATION,
        )
        return prompt

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter", filter=~is_searching)
        def _(event: KeyPressEvent) -> None:
            buffer = event.current_buffer
            if buffer.complete_state is not None and buffer.complete_state.current_completion is not None:
                buffer.complete_state = None  # takes the choice; the next Enter submits
            elif buffer.document.text_before_cursor.endswith("\\"):
                buffer.delete_before_cursor()
                buffer.newline(copy_margin=False)
            else:
                buffer.validate_and_handle()

        @keys.add("escape", "enter")
        def _(event: KeyPressEvent) -> None:
            event.current_buffer.newline(copy_margin=False)

        @keys.add("c-c", filter=~is_searching)
        @keys.add("<sigint>")
        def _(event: KeyPressEvent) -> None:
            if event.current_buffer.text:
                self._leaving = False
                event.current_buffer.reset()
            else:
                event.app.exit(exception=KeyboardInterrupt())

        return keys

    def _attempt(self, text: str) -> bool:
        """Do one input and survive it; True leaves the REPL."""
        try:
            return self._do(text)
        except MarginaliaError as error:
            self._notices.print(f"error: {error}".replace("\n", " "), style="red")
        except KeyboardInterrupt:
            left = " The same command goes on with what is left." if slash_name(text) else ""
            self._notices.print(f"Stopped.{left}", style="yellow")
        except Exception as error:  # noqa: BLE001 - a bug in one task must not take the session with it
            crash.hook(type(error), error, error.__traceback__)
        return False

    def _do(self, text: str) -> bool:
        name = slash_name(text)
        if name is not None and (builtin := BUILTINS.get(name)) is not None:
            return builtin.run(self._desk, text[len(name) + 1 :].strip())
        if name is not None and name not in descriptions(self._session):
            raise unknown(name, self._session)
        skill = self._session.parse(text).skill
        if skill is None:
            self._timed("reply", lambda: self._chat(text))
        else:
            self._timed(f"/{skill}", lambda: self._task(text))
        return False

    def _task(self, text: str) -> Exit:
        outcome = self._session.run(text)
        show_outcome(outcome, as_json=self._session.settings.json)
        return outcome.exit

    def _chat(self, text: str) -> Exit:
        cancel = threading.Event()
        with _first_interrupt_sets(cancel):
            if self._session.settings.json:
                show_outcome(self._session.chat(text, lambda piece: None, cancel), as_json=True)
            else:
                show_reply(self._desk.out, lambda on_text: self._session.chat(text, on_text, cancel))
        if cancel.is_set():
            raise KeyboardInterrupt
        return Exit.DONE

    def _timed(self, name: str, work: Callable[[], Exit]) -> None:
        """Do ``work`` and keep for the toolbar how it ended, and after how long."""
        start = time.monotonic()
        end = "failed"
        try:
            end = _ENDS.get(work(), "done in part")
        except KeyboardInterrupt:
            end = _ENDS[Exit.INTERRUPTED]
            raise
        finally:
            self._job = f"{name} {end} after {time.monotonic() - start:.1f} s"


@contextmanager
def _first_interrupt_sets(cancel: threading.Event) -> Iterator[None]:
    """The first Ctrl-C sets ``cancel``, so that a reply ends in order; the second raises KeyboardInterrupt."""

    def on_interrupt(signum: int, frame: FrameType | None) -> None:
        if cancel.is_set():
            raise KeyboardInterrupt
        cancel.set()

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def open_history(path: Path) -> History:
    """The inputs of earlier sessions, in a file that only the user can read; in memory where that cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError:
        return InMemoryHistory()
    return _PatientHistory(path)


class _PatientHistory(FileHistory):
    """A full disk costs the entry, not the session. Passwords are not written down."""

    def store_string(self, string: str) -> None:
        with suppress(OSError):
            super().store_string(masked(_sound(string)))


def _sound(text: str) -> str:
    """``text`` with a ``?`` for each byte that a terminal sent and that is not UTF-8: it could not be written again."""
    return text.encode("utf-8", "replace").decode("utf-8")


def toolbar(status: Mapping[str, Any], job: str) -> str:
    """The line below the prompt: model, backend, context used of all, the state of the last job."""
    model = str(status.get("model") or "no model yet")
    used, whole = status.get("context_used") or 0, status.get("context") or 0
    context = f"context {used:,} of {whole:,}" if whole else ""
    return clean(" " + " · ".join(part for part in (model, status.get("backend"), context, job) if part))

"""The REPL's own slash-commands: one function each and one table that help, completion and dispatch read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.console import show_table
from harness.errors import UsageError
from harness.task import COMMON, did_you_mean

if TYPE_CHECKING:
    from prompt_toolkit.history import History
    from rich.console import Console

    from harness.repl import ReplSession
    from harness.task import Flag

SHOWN_HISTORY = 20
"""Inputs that ``/history`` shows unless told how many."""


@dataclass(frozen=True)
class Desk:
    """What a built-in command works on."""

    session: ReplSession
    out: Console
    history: History
    models: Callable[[], Mapping[str, str]]
    """Models: name → where it comes from; may take seconds."""


@dataclass(frozen=True)
class Builtin:
    """A built-in slash-command."""

    argument: str
    """How help writes its argument; empty where it takes none."""
    help: str
    run: Callable[[Desk, str], bool]
    """Does it with the text after its name; True leaves the REPL. Raises UsageError for a wrong argument."""


def descriptions(session: ReplSession) -> Mapping[str, str]:
    """Skills: name → description."""
    return {skill.name: skill.description for skill in session.skills}


def unknown(name: str, session: ReplSession) -> UsageError:
    """The error for a slash-command that nobody knows."""
    known = [*descriptions(session), *BUILTINS]
    return UsageError(f"unknown command /{name}", did_you_mean(name, known, "/") or "/help lists them all")


def _list(rows: Iterable[tuple[str, str]]) -> None:
    """Two columns on stdout, without headings."""
    show_table(("", ""), list(rows))


def _help(desk: Desk, argument: str) -> bool:
    name = argument.removeprefix("/")
    if not name:
        _list(((f"/{key} {one.argument}".rstrip(), one.help) for key, one in BUILTINS.items()))
        desk.out.print()
        _skills(desk, "")
        desk.out.print("\nAnything else goes to the chat model. Alt-Enter or a trailing \\ adds a line; Tab completes.")
    elif (builtin := BUILTINS.get(name)) is not None:
        _list([(f"/{name} {builtin.argument}".rstrip(), builtin.help)])
    elif name in descriptions(desk.session):
        _skill_help(desk, name)
    else:
        raise unknown(name, desk.session)
    return False


def usage(flag: Flag) -> str:
    """How a flag is written: ``--style quote|prose``, ``--out PATH``, ``--force``."""
    return f"--{flag.name} {'|'.join(flag.choices) or flag.metavar}".rstrip()


def flags_of(session: ReplSession, name: str) -> Sequence[Flag]:
    """The flags of the skill called ``name``; none where there is no such skill."""
    return next((tuple(skill.flags) for skill in session.skills if skill.name == name), ())


def _skill_help(desk: Desk, name: str) -> None:
    desk.out.print(f"/{name} INPUT [save to PATH]", style="bold")
    desk.out.print(descriptions(desk.session)[name], soft_wrap=False)
    _list((usage(flag), flag.help) for flag in (*flags_of(desk.session, name), *COMMON))
    if example := next((skill.example for skill in desk.session.skills if skill.name == name), ""):
        desk.out.print(f"example: {example}")


def _skills(desk: Desk, argument: str) -> bool:
    _list(((f"/{name}", meaning) for name, meaning in sorted(descriptions(desk.session).items())))
    return False


def _models(desk: Desk, argument: str) -> bool:
    names = desk.models()
    if not names:
        desk.out.print("No model is here; python agent.py doctor says what is missing.")
    used = desk.session.settings.model
    _list((name, f"{origin}, in use" if _same(name, used) else origin) for name, origin in names.items())
    return False


def _same(name: str, given: str) -> bool:
    return given in {name, name.removesuffix(":latest")}


def _model(desk: Desk, argument: str) -> bool:
    settings = desk.session.settings
    if not argument:
        used = settings.model or "chosen for each task"
        desk.out.print(f"Model: {used}; /model NAME sets it, /model auto lets each task choose")
        return False
    name = "" if argument == "auto" else argument
    desk.session.settings = replace(settings, model=name, chat_model=name)
    note = ""
    if name and (names := desk.models()) and not any(_same(known, name) for known in names):
        note = f" (not among the models here; {did_you_mean(name, names, '') or '/models lists them'})"
    desk.out.print(f"Model: {name or 'chosen for each task'}{note}")
    return False


def _history(desk: Desk, argument: str) -> bool:
    if argument and not (argument.isascii() and argument.isdigit()):
        raise UsageError(f"/history {argument}: not a number", "/history 50 shows the last 50 inputs")
    count = int(argument or SHOWN_HISTORY)
    inputs = list(desk.history.load_history_strings())[::-1]
    first = max(0, len(inputs) - count)
    _list(((str(first + at), text) for at, text in enumerate(inputs[first:], 1)))
    return False


def _clear(desk: Desk, argument: str) -> bool:
    desk.session.clear()
    desk.out.print("The conversation starts afresh.")
    return False


def _quit(desk: Desk, argument: str) -> bool:
    return True


BUILTINS: Mapping[str, Builtin] = {
    "help": Builtin("[SKILL]", "what can be typed here, or how a skill is used", _help),
    "skills": Builtin("", "the skills and what each is for", _skills),
    "models": Builtin("", "the models that can run here", _models),
    "model": Builtin("NAME", "use this model from now on; auto lets each task choose", _model),
    "history": Builtin("[N]", f"the last N inputs ({SHOWN_HISTORY} unless told)", _history),
    "clear": Builtin("", "forget the conversation so far", _clear),
    "quit": Builtin("", "leave; so do /exit, Ctrl-D and Ctrl-C twice", _quit),
    "exit": Builtin("", "leave", _quit),
}

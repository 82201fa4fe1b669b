"""What Tab offers in the REPL: slash-commands, a skill's flags and choices, paths, model names.

``suggest`` is a pure function of the text before the cursor (and of the folder it lists); ``ReplCompleter`` hands its
result to prompt_toolkit. Imported only when a REPL starts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from harness.console import clean
from harness.errors import MarginaliaError
from harness.task import COMMON, Flag

MOST_PATHS = 200
"""No menu is longer: nobody reads more, and a folder may hold 100,000 files."""

_WORD = re.compile(r"(?:--[A-Za-z][\w-]*=)?(?:\"[^\"]*\"?|'[^']*'?)|\S+")


@dataclass(frozen=True)
class Suggestion:
    """One entry of the menu: ``text`` takes the place of the last ``replaces`` characters before the cursor."""

    text: str
    replaces: int
    shown: str
    meta: str = ""


@dataclass(frozen=True)
class Vocabulary:
    """What can be completed."""

    commands: Mapping[str, str]
    """Built-in slash-commands: name without the slash → help."""
    skills: Callable[[], Mapping[str, str]]
    """Skills: name → description."""
    flags: Callable[[str], Sequence[Flag]]
    """The flags of the skill of this name."""
    models: Callable[[], Mapping[str, str]]
    """Models: name → where it comes from."""


def suggest(text: str, vocabulary: Vocabulary, folder: Path) -> Iterator[Suggestion]:
    """What could stand at the cursor when ``text`` stands before it; relative paths start in ``folder``."""
    words = _WORD.findall(text)
    word = words.pop() if words and text.endswith(words[-1]) else ""
    if not words and word.startswith("/"):
        known = {**vocabulary.skills(), **vocabulary.commands}
        yield from _matching(word, {f"/{name}": meta for name, meta in sorted(known.items())})
    elif words[:1] == ["/help"]:
        yield from _matching(word, {**vocabulary.skills(), **vocabulary.commands})
    elif words[:1] == ["/model"]:
        yield from _matching(word, vocabulary.models())
    elif words and words[0].startswith("/") and words[0][1:] in vocabulary.commands:
        return
    elif words and words[0].startswith("/"):
        yield from _in_task(words, word, (*vocabulary.flags(words[0][1:]), *COMMON), folder)
    else:
        yield from paths(word, folder)


def _in_task(words: Sequence[str], word: str, flags: Sequence[Flag], folder: Path) -> Iterator[Suggestion]:
    """Inside ``/skill …``: the value of the flag before the cursor, else a flag, else a path."""
    name, value = words[-1], word
    if word.startswith("--") and "=" in word:
        name, value = word.split("=", 1)
    flag = next((flag for flag in flags if flag.metavar and name == f"--{flag.name}"), None)
    if flag is not None and flag.path:
        yield from paths(value, folder)
    elif flag is not None:
        yield from _matching(value, dict.fromkeys(flag.choices, ""))
    else:
        saving = [part.lower() for part in words[-2:]] == ["save", "to"]
        if not saving and (not word or word.startswith("-")):
            free = (flag for flag in flags if flag.repeat or f"--{flag.name}" not in words)
            yield from _matching(word, {f"--{flag.name}": flag.help for flag in free})
        if not word.startswith("--"):
            yield from paths(word, folder)


def _matching(word: str, choices: Mapping[str, str]) -> Iterator[Suggestion]:
    for choice, meta in choices.items():
        if choice.casefold().startswith(word.casefold()):
            yield Suggestion(choice, len(word), choice, meta)


def paths(word: str, folder: Path) -> Iterator[Suggestion]:
    """Files and folders that ``word`` (perhaps with an opening quote) may become; names with spaces come in quotes."""
    quote = word[:1] if word[:1] in {'"', "'"} else ""
    typed = word.strip(quote) if quote else word
    head, tail = os.path.split(typed)
    try:
        with os.scandir(folder / os.path.expanduser(head)) as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries)
    except (OSError, ValueError):
        return
    fitting = (
        (name, is_folder)
        for name, is_folder in found
        if name.casefold().startswith(tail.casefold())
        and name.isprintable()  # a name with terminal escapes is not offered
        and (tail.startswith(".") or not name.startswith("."))
    )
    for _, (name, is_folder) in zip(range(MOST_PATHS), fitting, strict=False):
        full = typed[: len(typed) - len(tail)] + name
        if (text := _quoted(full, quote, is_folder)) is not None:
            yield Suggestion(text, len(word), name + "/" * is_folder)


def _quoted(path: str, quote: str, is_folder: bool) -> str | None:
    """The path as the task parser reads it back; a folder's quote stays open for what follows. None: not writable."""
    if not quote and re.search(r"[\s\"']", path):
        quote = "'" if '"' in path else '"'
    if quote and quote in path:
        return None
    return quote + path + "/" if is_folder else quote + path + quote


class ReplCompleter(Completer):
    """``suggest`` for prompt_toolkit."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """The completions at the cursor; relative paths start in the current folder. Broken skills have none."""
        try:
            for found in suggest(document.text_before_cursor, self._vocabulary, Path.cwd()):
                yield Completion(found.text, -found.replaces, display=found.shown, display_meta=clean(found.meta))
        except MarginaliaError:
            return

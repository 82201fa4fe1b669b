"""A task is what the user typed; here it is parsed: skill, input, flags, where to save.

The input stays verbatim: what is taken away are whole flags and ``save to PATH``, nothing else is touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from harness.errors import UsageError


@dataclass(frozen=True)
class Flag:
    """One flag of a skill, as parser, help and completion need it. ``name`` is written ``--name``."""

    name: str
    help: str
    metavar: str = ""
    """Empty (and no ``choices``): a switch that takes no value."""
    choices: tuple[str, ...] = ()
    path: bool = False
    """The value is a path (completion)."""
    repeat: bool = False
    """May be given several times; the values come as a tuple."""

    @property
    def takes_value(self) -> bool:
        """False for a switch."""
        return bool(self.metavar or self.choices)


@dataclass(frozen=True)
class Task:
    """A parsed task. ``skill`` is None for plain text, which goes to the chat model."""

    raw: str
    skill: str | None
    text: str
    """What is left when skill, flags and ``save to`` are taken away: the input."""
    flags: Mapping[str, str | bool | tuple[str, ...]] = field(default_factory=dict)
    save_to: Path | None = None
    yes: bool = False
    """``--yes`` stands in the task: replace files, save outside the working folder."""
    why: str = ""
    """Why the skill was activated, where no slash said so."""


class Parsable(Protocol):
    """What the parser must know about a skill."""

    @property
    def name(self) -> str: ...

    @property
    def triggers(self) -> Sequence[str]:
        """Patterns of words that activate the skill without a slash."""
        ...

    @property
    def flags(self) -> Sequence[Flag]: ...


def parse_task(raw: str, skills: Iterable[Parsable]) -> Task:
    """What ``raw`` asks for, given the skills that are there (where triggers compete, the first skill wins).

    Raises UsageError for an unknown slash-command or flag and for a flag without its value.
    """
    stripped = raw.strip()
    known = {skill.name: skill for skill in skills}
    why = ""
    if (name := slash_name(stripped)) is not None:
        if name not in known:
            raise UsageError(f"unknown command /{name}", did_you_mean(name, known, "/") or f"known: {_listed(known, '/')}")
        rest = stripped[len(name) + 1 :]
    elif (hit := _activated(stripped, known.values())) is not None:
        name, pattern, start = hit
        why = f'/{name}: the task begins like "{pattern}"'
        rest = stripped[start:]
    else:
        return Task(raw, None, stripped)
    flags, save_to, text = _take_apart(rest, known[name])
    yes = bool(flags.pop(YES.name, False))
    return Task(raw, name, _named_input(text) if why else unquote(text), flags, save_to, yes, why)


_SLASH = re.compile(r"/([A-Za-z0-9][\w-]*)(?=\s|$)")


def slash_name(text: str) -> str | None:
    """The slash-command that ``text`` begins with, in lower case; None for plain text, paths and URLs."""
    match = _SLASH.match(text)
    return match[1].lower() if match else None


def did_you_mean(name: str, known: Iterable[str], mark: str) -> str:
    """A remedy with the names like ``name``, each after ``mark``; empty where none is like it."""
    import difflib

    found = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return "did you mean " + " or ".join(mark + other for other in found) + "?" if found else ""


def _listed(names: Iterable[str], mark: str) -> str:
    return ", ".join(mark + name for name in names) or "none"


# --- words and quotes ------------------------------------------------------------------------------------------------

_QUOTES = {'"': '"', "'": "'", "“": "”"}
_CLOSING = {opening: re.compile(re.escape(closing) + r"(?=[\s,;.:!?)]|$)") for opening, closing in _QUOTES.items()}
_NONSPACE = re.compile(r"\S+")
_FLAG = re.compile(r"--([A-Za-z][A-Za-z0-9-]*)(=|(?=\s|$))")


@dataclass(frozen=True)
class _Word:
    """A word and where it stands; ``value`` is without quotes, and for ``--flag=value`` what follows the ``=``."""

    start: int
    end: int
    value: str
    quoted: bool
    flag: str = ""
    has_value: bool = False

    def is_bare(self, text: str) -> bool:
        return not self.quoted and not self.flag and self.value.lower() == text


def _words(text: str) -> Iterator[_Word]:
    """The words of ``text``. A quote opens only at the start of a word and only if it is closed: don't is a word."""
    hopeless: set[str] = set()  # quotes that close nowhere after here: looked for once, so time stays linear
    position = 0
    while (match := _NONSPACE.search(text, position)) is not None:
        start, end = match.span()
        lead = _FLAG.match(text, start)
        body = lead.end() if lead else start
        closing = None
        if body < end and (opening := text[body]) in _QUOTES and opening not in hopeless:
            closing = _CLOSING[opening].search(text, body + 1)
            if closing is None:
                hopeless.add(opening)
        value = text[body + 1 : closing.start()] if closing else text[body:end]
        position = closing.end() if closing else end
        yield _Word(start, position, value, closing is not None, lead[1] if lead else "", bool(lead and lead[2]))


def split_words(text: str) -> list[str]:
    """The words of ``text``, those in quotes without them: ``'a.csv "b c.csv"'`` names two files."""
    return [word.value for word in _words(text)]


def unquote(text: str) -> str:
    """``text`` without the quotes around all of it; quotes further inside stay as they are."""
    text = text.strip()
    if len(text) < 2 or _QUOTES.get(text[0]) != text[-1]:
        return text
    words = list(_words(text))
    several_quoted = len(words) > 1 and words[-1].quoted
    return text if several_quoted else text[1:-1]


# --- flags and where to save -----------------------------------------------------------------------------------------

OUT = Flag("out", "save the result to this file", metavar="PATH", path=True)
"""The same as ``save to PATH``."""
YES = Flag("yes", "replace existing files and save outside this folder without asking")
COMMON = (OUT, YES)
"""Flags of every skill."""


def _take_apart(text: str, skill: Parsable) -> tuple[dict[str, str | bool | tuple[str, ...]], Path | None, str]:
    """Flags, the path to save to, and what is left of ``text``."""
    known = {flag.name: flag for flag in (*skill.flags, *COMMON)}
    words = list(_words(text))
    flags: dict[str, str | bool | tuple[str, ...]] = {}
    taken: set[int] = set()
    position = 0
    while position < len(words):
        word = words[position]
        if word.flag:
            flag = known.get(word.flag)
            if flag is None:
                remedy = did_you_mean(word.flag, known, "--") or f"known: {_listed(known, '--')}"
                raise UsageError(
                    f"/{skill.name} has no flag --{word.flag}", f"{remedy} (text with -- in it goes in quotes)"
                )
            taken.add(position)
            if flag.takes_value and not word.has_value:
                position += 1
                taken.add(position)
            _add(flags, flag, word, words[position] if position < len(words) else None)
        position += 1
    save_to = _saved(words, taken)
    if (out := flags.pop(OUT.name, None)) is not None:
        if save_to is not None:
            raise UsageError("both save to and --out are given", "give one of them")
        save_to = str(out)
    return flags, None if save_to is None else file_path(save_to), _without(text, [words[index] for index in sorted(taken)])


def _add(flags: dict[str, str | bool | tuple[str, ...]], flag: Flag, word: _Word, value: _Word | None) -> None:
    """Put one flag with its value (the word itself for ``--flag=value``) into ``flags``."""
    earlier = flags.get(flag.name)
    if earlier is not None and not flag.repeat:
        raise UsageError(f"--{flag.name} is given twice", "give it once")
    if not flag.takes_value:
        if word.has_value:
            raise UsageError(f"--{flag.name} takes no value", f"write --{flag.name}")
        flags[flag.name] = True
        return
    if value is None or (value is not word and value.flag):
        raise UsageError(f"--{flag.name} has no value", f"write --{flag.name} {flag.metavar or '|'.join(flag.choices)}")
    if flag.choices and value.value not in flag.choices:
        raise UsageError(f"--{flag.name} {value.value}: not possible", f"one of: {', '.join(flag.choices)}")
    flags[flag.name] = (*(earlier if isinstance(earlier, tuple) else ()), value.value) if flag.repeat else value.value


def _saved(words: Sequence[_Word], taken: set[int]) -> str | None:
    """The path of a closing ``[and] save to PATH``, whose words are then added to ``taken``."""
    free = [index for index in range(len(words)) if index not in taken]
    if len(free) >= 2 and _are(words, free[-2:], "save", "to") and free[-1] - free[-2] == 1:
        raise UsageError("save to names no file", "write save to PATH")
    if len(free) < 3 or free[-1] - free[-3] != 2 or not _are(words, free[-3:-1], "save", "to"):
        return None
    taken.update(free[-3:])
    if len(free) > 3 and any(words[free[-4]].is_bare(link) for link in ("and", "then", ",")):
        taken.add(free[-4])
    return words[free[-1]].value


def _are(words: Sequence[_Word], places: Sequence[int], *texts: str) -> bool:
    return all(words[place].is_bare(text) for place, text in zip(places, texts, strict=True))


def file_path(text: str) -> Path:
    """The path that ``text`` names, ``~`` expanded. Raises UsageError for what cannot be the name of a file."""
    try:
        if text.strip() and text.isprintable():
            return Path(text).expanduser()
    except RuntimeError:  # ~name, and nobody here is called so
        pass
    raise UsageError(f"{text!r} cannot be the name of a file", "name another one")


def _without(text: str, words: Sequence[_Word]) -> str:
    """``text`` without these words and the white space after each."""
    parts = []
    position = 0
    for word in words:
        parts.append(text[position : word.start])
        position = word.end + len(text[word.end :]) - len(text[word.end :].lstrip())
    return ("".join(parts) + text[position:]).strip()


# --- activation without a slash --------------------------------------------------------------------------------------


def _activated(text: str, skills: Iterable[Parsable]) -> tuple[str, str, int] | None:
    """The first skill with a trigger that ``text`` begins with: its name, the pattern, where the input starts."""
    for skill in skills:
        for pattern in sorted(skill.triggers, key=len, reverse=True):
            if (match := trigger_regex(pattern).match(text)) is not None:
                return skill.name, pattern, match.end("verb")
    return None


def _named_input(text: str) -> str:
    """The input in a sentence: what stands in quotes at its end, else the files and addresses it names, else all of it.

    ``these abstracts in papers.csv`` gives ``papers.csv`` where there is such a file.
    """
    words = list(_words(text))
    quoted = next((word for word in words if word.quoted), None)
    if quoted is not None and text.endswith(_QUOTES[text[quoted.start]]):
        return unquote(text[quoted.start :])
    named = [text[word.start : word.end].rstrip(",;:") for word in words if _is_source(word.value.rstrip(",;:"))]
    return " ".join(named) or unquote(text)


def _is_source(word: str) -> bool:
    try:
        return word.startswith(("https://", "http://")) or Path(word).is_file()
    except (OSError, ValueError):  # too long, or a NUL in it
        return False


def trigger_regex(pattern: str) -> re.Pattern[str]:
    """A trigger as a regular expression for the start of a task, whatever its case.

    ``*`` alone stands for one to eight words, within a word for any letters. The words before the first ``*`` are the
    order, group ``verb``; the input is what comes after them. ``annotate *.csv`` on ``Annotate a.csv`` gives ``a.csv``.
    """
    words = pattern.split()
    wild = next((index for index, word in enumerate(words) if "*" in word), len(words))
    verb = r"\s+".join(map(re.escape, words[:wild]))
    rest = "".join(
        (r"\s+" if index or wild else "")
        + (r"\S+(?:\s+\S+){0,7}?" if word == "*" else re.escape(word).replace(r"\*", r"\S*"))
        for index, word in enumerate(words[wild:])
    )
    return re.compile(rf"(?P<verb>{verb}){rest}[,;.:!?]*(?=\s|$)", re.IGNORECASE)

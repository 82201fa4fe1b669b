"""The one format of expansion data: a JSON object a line, checked by pydantic, refused with line numbers where it is wrong.

    {"query": "auth config", "output": [["hyde", "…"], ["lex", "…"], ["vec", "…"]], "category": "technical", "intent": "…"}

``query`` may end with ``/only:lex`` (``vec``, ``hyde``); the output then has that type alone. ``category`` and ``intent``
are optional, and so are the notes ``source``, ``only`` and ``is_short`` that QMD's files carry. Nothing else is taken.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator, model_validator

from finetune.rewards.background import query_stems
from finetune.rewards.qmd_text import Kind, detect_only_mode
from harness.errors import InputError
from harness.outputs import atomic_write
from skills.expand.expansion import LONGEST, Line, lines_of, render

SHOWN_PROBLEMS = 10
"""Problems of a file that its error tells; the others are counted."""
_OLD_SUFFIX = re.compile(r"\s+only:\s*(lex|vec|hyde)\s*$", re.IGNORECASE)
"""How a part of QMD's data still asks for one type."""


class Example(BaseModel):
    """One query and its expansion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    query: str
    output: tuple[tuple[Kind, str], ...]
    category: str | None = None
    intent: str | None = None
    source: str | None = None
    """Where the row comes from."""
    only: Literal["lex", "vec", "hyde"] | None = None
    """The type that is asked for, where the query does not say it in the way of today."""
    is_short: bool | None = None
    """Of QMD's files; of no use here."""

    @field_validator("query", "category", "intent", "source")
    @classmethod
    def _plain(cls, text: str | None, info: ValidationInfo) -> str | None:
        if text is not None:
            _check_text(text, str(info.field_name))
        return text

    @model_validator(mode="after")
    def _consistent(self) -> Example:
        if not self.output:
            raise ValueError("output is empty")
        if not self.bare_query:
            raise ValueError("query asks for nothing")
        for kind, text in self.output:
            _check_text(text, f"a {kind} line")
            if len(text) > LONGEST[kind]:
                raise ValueError(f"a {kind} line has {len(text)} characters, at most {LONGEST[kind]} can be served")
        asked = detect_only_mode(self.query)[0]
        if asked and self.only and asked != self.only:
            raise ValueError(f"query asks for {asked}, only says {self.only}")
        if self.asked and (others := {kind for kind, _ in self.output} - {self.asked}):
            raise ValueError(f"asks for {self.asked} alone and has {', '.join(sorted(others))}")
        return self

    @property
    def asked(self) -> Kind | None:
        """The one type that is asked for, None for all."""
        return detect_only_mode(self.query)[0] or self.only

    @property
    def bare_query(self) -> str:
        """The query without ``/only:TYPE`` and its older form."""
        text = detect_only_mode(self.query)[1].strip()
        return _OLD_SUFFIX.sub("", text) if self.only else text

    @property
    def full_query(self) -> str:
        """The query as serving gets it: with ``/only:TYPE`` where one type is asked for."""
        return f"{self.bare_query} /only:{self.asked}" if self.asked else self.bare_query

    @property
    def stem(self) -> str:
        """Its question: see ``stem_of``."""
        return stem_of(self.bare_query)

    @property
    def lines(self) -> list[Line]:
        """The output as serving has it."""
        return lines_of(self.output)

    @property
    def text(self) -> str:
        """The output as a model writes it: hyde, then lex, then vec."""
        return render(self.lines)

    def texts(self, kind: str) -> list[str]:
        """The lines of one type."""
        return [text for own, text in self.output if own == kind]

    def json_line(self) -> str:
        """One line of JSON; fields without a value are left out."""
        return json.dumps(self.model_dump(exclude_none=True, mode="json"), ensure_ascii=False)


def stem_of(query: str) -> str:
    """Equal for all queries that ask the same in other words' forms or order: what may not stand in two splits.

    >>> stem_of("How to configure auth? /only:lex") == stem_of("auth configuration")
    True
    """
    bare = detect_only_mode(query)[1].strip()
    return " ".join(sorted(query_stems(bare))) or bare.casefold()


def _check_text(text: str, name: str) -> None:
    if not text.strip():
        raise ValueError(f"{name} is empty")
    if "\n" in text or "\r" in text:
        raise ValueError(f"{name} has a line break")
    if "<|" in text or "<think>" in text:
        raise ValueError(f"{name} holds marks of a chat template: {text[:40]!r}")


def read_examples(path: Path) -> Iterator[tuple[int, Example | str]]:
    """Line number and example, or what is wrong with the line. Raises InputError where the file cannot be read."""
    try:
        with path.open(encoding="utf-8-sig") as handle:
            for number, line in enumerate(handle, 1):
                if line.strip():
                    yield number, _example(line)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InputError(f"{path}: cannot be read ({reason})", "give a JSONL file of expansions") from None


def _example(line: str) -> Example | str:
    try:
        return Example.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        return f"{place}: {message}" if place else message


def load_examples(paths: Sequence[Path]) -> list[Example]:
    """All examples of some files. Raises InputError naming the file, the lines and what is wrong with each."""
    examples: list[Example] = []
    for path in paths:
        problems = []
        for number, found in read_examples(path):
            if isinstance(found, Example):
                examples.append(found)
            else:
                problems.append(f"line {number}: {found}")
        if problems:
            more = f"; and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
            told = "; ".join(problems[:SHOWN_PROBLEMS])
            raise InputError(f"{path}: {told}{more}", "correct these lines (the format: expansion_schema.py)")
    if not examples:
        raise InputError(f"{', '.join(map(str, paths))}: no examples", "give JSONL with a query and an output a line")
    return examples


def write_examples(path: Path, examples: Iterable[Example], *, overwrite: bool) -> None:
    """Write a JSONL file, whole or not at all. Raises InputError."""
    with atomic_write(path, overwrite=overwrite) as handle:
        handle.writelines(f"{example.json_line()}\n" for example in examples)


def file_hash(path: Path) -> str:
    """SHA-256 of a file, for cards."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()

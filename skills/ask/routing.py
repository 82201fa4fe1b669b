"""Routing by need: a question that asks for reasoning goes to the finer quantisation, others to the faster one.

The rules are data (``routing.toml``). They matter only where the registry serves more than one variant of the model.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TASK = "ask"
PATH = Path(__file__).with_name("routing.toml")


@dataclass(frozen=True)
class Route:
    """Where a question goes: a variant, "" where there is nothing to choose from, and why."""

    variant: str
    why: str


@dataclass(frozen=True)
class _Rule:
    variant: str
    why: str
    words: re.Pattern[str]


def needed(question: str) -> Route:
    """The variant that a question should have.

    >>> needed("Why does the loss rise?")
    Route(variant='q8_0', why='the question asks for reasoning: why')
    >>> needed("Which data set was used?").variant
    'q4'
    """
    default, rules = _rules()
    for rule in rules:
        if match := rule.words.search(question):
            return Route(rule.variant, f"{rule.why}: {match[0].lower()}")
    return Route(default, "the question asks for no reasoning")


def route(question: str, tags: Collection[str]) -> Route:
    """The variant of a question among the tags that the registry serves.

    >>> route("Why?", ["q4_0", "q8_0"]).variant
    'q8_0'
    >>> route("Why?", ["latest"])
    Route(variant='', why='the registry serves no q8_0 variant')
    """
    wanted = needed(question)
    if not any(tag.startswith(wanted.variant) or f"-{wanted.variant}" in tag for tag in tags):
        return Route("", f"the registry serves no {wanted.variant} variant")
    return wanted


def served_tags() -> list[str]:
    """The tags of the active models for /ask."""
    from harness.registry import scan

    entries = [entry for entry in scan()[0] if entry.task == TASK and entry.status == "active"]
    return [entry.name.rpartition(":")[2] for entry in entries]


@cache
def _rules() -> tuple[str, Sequence[_Rule]]:
    data = tomllib.loads(PATH.read_text(encoding="utf-8"))
    rules = [
        _Rule(rule["variant"], rule["why"], re.compile(rf"\b(?:{'|'.join(map(re.escape, rule['words']))})\b", re.I))
        for rule in data["rules"]
    ]
    return data["default"], rules

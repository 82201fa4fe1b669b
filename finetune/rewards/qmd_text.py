"""QMD's rubric, the part that reads texts: lines of an output, and what a query asks to be kept.

Everything that depends on the query alone is found once and kept (``read_query``): in GRPO several completions of one query
are scored in a row.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal, NamedTuple, TypedDict, cast

from finetune.rewards.qmd_words import (
    ECHO_MARGIN,
    FILLER,
    GENERIC_PHRASES,
    GENERIC_REST,
    LONG_QUERY,
    NO_KEY_TERM,
    QUERY_VERBS,
    REPEATABLE,
)

Kind = Literal["lex", "vec", "hyde"]


class Parsed(TypedDict):
    """The texts of an output by type, and the lines that have none."""

    lex: list[str]
    vec: list[str]
    hyde: list[str]
    invalid: list[str]


class Query(NamedTuple):
    """What the rubric wants to know about a query."""

    only: Kind | None
    """The type that a trailing ``/only:TYPE`` asks for."""
    lower: str
    """Without that suffix, in lower case, as echoes are compared with."""
    distance: int
    """By how many words two lines must differ to be diverse."""
    echo_limit: int
    """A line that holds the query and has fewer characters echoes it."""
    several: bool
    """Whether it has two words or more."""
    key_terms: frozenset[str]
    entities: tuple[str, ...]
    """Named entities in lower case, sorted."""
    filler: frozenset[str]
    """Padding words that the query itself does not use."""


_ONLY = re.compile(r"\s+/only:(lex|vec|hyde)\s*$", re.IGNORECASE)
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)
_WORD = re.compile(r"\w+")
_LOWER_WORDS = bytes(
    ord(chr(code).lower()) if chr(code).isalnum() or code == ord("_") else ord(" ") for code in range(128)
).ljust(256)
"""Translates ASCII: letters to lower case, all that is in no word, and what is not ASCII, to spaces."""
_ASCII = bytes(range(128))
_MARKS = "–—‘’“”…°×·•→′″€£≤≥±"
"""The usual characters beyond ASCII that are no letters."""
_FREE_BYTES: frozenset[Any] = frozenset(word.encode() for word in REPEATABLE)
_PUNCTUATION = ".,!?:;()[]\"'"
_TECHNICAL = frozenset(".+-#@")
_PLAIN = re.compile("[a-z0-9 ?,'\"]*").fullmatch
"""Most queries hold nothing else, and so no entity."""
_PHRASES = sorted(
    ((sum(map(len, words)) + GENERIC_REST, " ".join(words), words) for words in GENERIC_PHRASES), reverse=True
)
"""Letters from which on a line keeps enough when the phrase is taken out, the phrase, its words; the longest first."""
_PROMPT = "Expand this search query:"
_END = "<|im_end|>"


def parse_expansion(text: str) -> Parsed:
    """The lines of an output by type, stripped; lines without a type are ``invalid``, blank ones are left out."""
    parsed: Parsed = {"lex": [], "vec": [], "hyde": [], "invalid": []}
    for line in text.split("\n"):
        line = line.strip()
        if line.startswith("lex:"):
            parsed["lex"].append(line[4:].strip())
        elif line.startswith("vec:"):
            parsed["vec"].append(line[4:].strip())
        elif line.startswith("hyde:"):
            parsed["hyde"].append(line[5:].strip())
        elif line:
            parsed["invalid"].append(line)
    return parsed


def clean_model_output(text: str) -> tuple[str, bool]:
    """The text without end-of-turn tokens and closed thoughts, and whether there was a thought."""
    if "<" not in text:
        return text.strip(), False
    text = text.replace(_END, "").strip()
    thought = "<think>" in text and "</think>" in text
    return (_THOUGHT.sub("", text).strip() if thought else text), thought


def detect_only_mode(query: str) -> tuple[Kind | None, str]:
    """The type that a trailing ``/only:TYPE`` asks for (None: all), and the query without it."""
    found = _ONLY.search(query)
    return (cast("Kind", found[1].lower()), query[: found.start()].strip()) if found else (None, query)


@lru_cache(maxsize=64)
def read_query(query: str) -> Query:
    """All that scoring needs of a query. Pure; the latest are remembered, since GRPO scores several completions of each."""
    only, base = detect_only_mode(query) if "/" in query else (None, query)
    lower = base.lower().strip()
    words = lower.split()
    count = len(words)
    entities = () if _PLAIN(base) else tuple(sorted(extract_named_entities(base)))
    return Query(
        only,
        lower,
        3 if count >= LONG_QUERY else 2,
        len(lower) + ECHO_MARGIN,
        count > 1,
        frozenset([word for word in words if word not in NO_KEY_TERM]),
        entities,
        FILLER if FILLER.isdisjoint(words) else FILLER.difference(words),
    )


def extract_named_entities(query: str) -> set[str]:
    """Named entities of a query in lower case, by the rubric's rules of spelling.

    A word is one when it is in capitals (two characters or more), has a capital first letter, or holds one of ``.+-#@``;
    and so is the word after one, unless it says nothing (``NO_KEY_TERM``). The first word needs more: a capital there may
    only open the sentence, so common verbs do not count. Only words found by spelling draw in the next one.
    """
    entities: set[str] = set()
    previous = False
    for position, word in enumerate(query.split()):
        clean = word.strip(_PUNCTUATION)
        if clean.islower() and not previous:  # most words
            previous = not _TECHNICAL.isdisjoint(clean) and len(clean) >= 2
            if previous:
                entities.add(clean)
            continue
        lower = clean.lower()
        found = False
        if not clean:
            pass
        elif clean.isupper() and len(clean) >= 2:
            found = True
        elif clean[0].isupper() and lower not in NO_KEY_TERM:
            found = position > 0 or lower not in QUERY_VERBS
        elif len(clean) >= 2 and not _TECHNICAL.isdisjoint(clean):
            found = True
        elif len(clean) >= 2 and clean[0].isupper() and any(letter.isupper() for letter in clean[1:]):
            found = True  # reached by words of NO_KEY_TERM in odd case alone, such as "HoW"
        elif previous and lower not in NO_KEY_TERM:
            entities.add(lower)
        if found:
            entities.add(lower)
        previous = found
    return entities


def naming(lowers: Iterable[str], entities: tuple[str, ...]) -> int:
    """How many lower-case lines hold one of the entities, as part of a word too."""
    count = 0
    for lower in lowers:
        for entity in entities:
            if entity in lower:
                count += 1
                break
    return count


def alike(a: str, b: str, distance: int) -> bool:
    """Whether one of two lower-case lines holds the other, or fewer than ``distance`` words stand in only one of them.

    The first words of the shorter settle it for most pairs: those that are nowhere in the longer, not even within a word.
    One of them also shows that neither line holds the other.
    """
    if len(a) > len(b):
        a, b = b, a
    missing = set()
    for word in a.split():
        if word not in b:
            missing.add(word)
            if len(missing) >= distance:
                return False
    return a in b or len(set(a.split()) ^ set(b.split())) < distance


def lex_is_generic(line: str) -> bool:
    """Whether next to nothing of a lex line remains without a generic phrase such as ``how to``."""
    lower = line.lower().strip()
    letters = len("".join(lower.split()))
    for most, phrase, words in _PHRASES:
        if letters >= most:
            return False  # too much remains, of this phrase as of all shorter ones
        if phrase in lower or lower.startswith(words[0]):
            rest = lower
            for word in words:
                rest = rest.replace(word, "", 1).strip()
            if len(rest) < GENERIC_REST:
                return True
    return False


def is_diverse(a: str, b: str, min_distance: int = 2) -> bool:
    """Whether neither line holds the other and at least ``min_distance`` words stand in only one of them."""
    a, b = a.lower().strip(), b.lower().strip()
    return a not in b and b not in a and len(set(a.split()) ^ set(b.split())) >= min_distance


def echoes_query(expansion: str, query: str) -> bool:
    """Whether a line says the query again with next to nothing added."""
    line, query = expansion.lower().strip(), query.lower().strip()
    return query in line and len(line) < len(query) + ECHO_MARGIN


def word_repetition_penalty(text: str) -> int:
    """Two points for each further time that a word stands in a text after the second; short and common words are free."""
    raw = text.encode("utf-8", "replace")
    if text.isascii() or not any(map(str.isalnum, raw.translate(None, _ASCII).decode().strip(_MARKS))):
        # No letter beyond ASCII. Bytes are translated and split several times faster than a regular expression finds words.
        return _repeated(raw.translate(_LOWER_WORDS).split(), _FREE_BYTES)
    return _repeated(_WORD.findall(text.lower()), REPEATABLE)


def _repeated(words: list[Any], free: frozenset[Any]) -> int:
    words = [word for word in words if word not in free]
    if len(words) - len(set(words)) < 2:
        return 0  # most passages: none of the others can stand there three times
    return sum(2 * (count - 2) for word, count in Counter(words).items() if count > 2 and len(word) > 2)


def extract_query_from_prompt(prompt: str) -> str:
    """The query of a rendered prompt; a text without the instruction is the query itself."""
    if _PROMPT not in prompt:
        return prompt.strip()
    return prompt.rpartition(_PROMPT)[2].strip().partition(_END)[0].strip()

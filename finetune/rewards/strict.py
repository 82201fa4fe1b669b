"""Our own reward for query expansions, 0 to 1: stricter than QMD's, and made so that no trick beats an honest expansion.

QMD's rubric adds points for looks, so a fixed template that knows nothing scores above hand-made answers. Here every demand
is a factor from 0 to 1 and the reward is their product: whoever fails one demand fails. The demands are those of retrieval:

form      lines of the types asked for and no others, of sensible number and length; vec and hyde are language, lex is not
anchor    lines share a word with the query, and every named entity of the query stands in a lex line
news      lines bring words that the query does not have; words that expansions of all kinds share do not count
agree     the new words of lex come back in vec or hyde: they are about one subject
support   some of the new words go with words of the query in the training corpus (``background.py``)
variety   no line says what another one says, no word is repeated

No factor asks which words are the right ones, so nothing can be learned here from an evaluation set. ``guard.py`` checks,
before training begins, that no adversary of ``adversaries.py`` beats gold. Pure functions; no model is asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from finetune.rewards.background import Background, query_stems
from finetune.rewards.qmd_text import Parsed, clean_model_output, detect_only_mode, parse_expansion
from finetune.rewards.qmd_words import CHAT_TOKENS, TYPES
from finetune.rewards.words import FUNCTION_WORDS, content_stems, tokens
from skills.expand.words import holds, named_entities

MOST_LINES = {"lex": 4, "vec": 3, "hyde": 1}
WORDS = {"lex": (2, 8), "vec": (5, 24), "hyde": (12, 90)}
"""Words of a line, from and to; outside, credit falls with the ratio."""
LANGUAGE = {"lex": (0.0, 0.45), "vec": (0.12, 0.8), "hyde": (0.12, 0.6)}
"""Share of function words of a line, from and to: a bag of keywords is no sentence."""
NO_SENTENCE = 0.4
"""The factor of a vec or hyde line without a function word; a heading may be one."""
NEWS = {"lex": 2.0, "vec": 2.0, "hyde": 4.0}
"""Weight of the new words that all lines of a type together must bring."""
LEAST_NEWS = {"lex": 0.0, "vec": 0.3, "hyde": 0.1}
"""What remains of the factor where a type brings nothing: a vec line may ask the query again in a sentence."""
AGREE, LEAST_AGREE = 0.35, 0.3
"""Share of the new lex words, by weight, that must come back in vec or hyde, and the factor where none does."""
KNOWN_SUPPORT = 0.5
"""Share of all new words that must go with the query, where it is one of the corpus."""
SUPPORT, NO_SUPPORT, NOT_KNOWN = 0.25, 0.4, 0.8
"""The same for other queries, about which the corpus says less; what they have without any; and where it knows no word."""
ALIKE = 0.7
"""Two lines of one type are alike when they share this much of their words (Jaccard)."""
MAY_REPEAT = {"lex": 0.1, "vec": 0.1, "hyde": 0.3}
"""Share of the words of a line that it may say again."""


class Factors(NamedTuple):
    """What the reward is the product of."""

    form: float
    anchor: float
    news: float
    agree: float
    support: float
    variety: float

    @property
    def reward(self) -> float:
        """The product."""
        return math.prod(self)


NOTHING = Factors(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class _Line:
    kind: str
    words: list[str]
    stems: frozenset[str]
    repeated: float
    """Share of the content words that the line has said before."""

    @classmethod
    def of(cls, kind: str, text: str) -> _Line:
        stems = content_stems(text)
        return cls(kind, tokens(text), frozenset(stems), 1 - len(set(stems)) / len(stems) if stems else 1.0)

    @property
    def language(self) -> float:
        """Share of function words."""
        return sum([word in FUNCTION_WORDS for word in self.words]) / len(self.words) if self.words else 0.0


@dataclass(frozen=True)
class StrictReward:
    """The reward with the background it was given. Call it, or ask ``factors`` where the points went."""

    background: Background

    def __call__(self, query: str, text: str) -> float:
        """0 to 1 for a model's output."""
        return self.factors(query, text).reward

    def factors(self, query: str, text: str) -> Factors:
        """The factors of a model's output; ``query`` may end with ``/only:TYPE``."""
        only, asked = detect_only_mode(query)
        cleaned, thought = clean_model_output(text)
        if thought or "<|" in cleaned or any(token in cleaned for token in CHAT_TOKENS):
            return NOTHING
        parsed = parse_expansion(cleaned)
        lines = _lines(parsed, only)
        if not lines:
            return NOTHING
        own = query_stems(asked) or frozenset(tokens(asked))
        new = {kind: frozenset().union(*[line.stems for line in lines if line.kind == kind]) - own for kind in TYPES}
        return Factors(
            _form(lines),
            _anchor(lines, own) * _entities(parsed, asked, only),
            self._news(lines, new),
            self._agree(new) if only is None else 1.0,
            self._support(own, new),
            _variety(lines),
        )

    def _news(self, lines: Sequence[_Line], new: dict[str, frozenset[str]]) -> float:
        """The least over the types that are there."""
        return min(_from(LEAST_NEWS[kind], self._weight(new[kind]) / NEWS[kind]) for kind in {line.kind for line in lines})

    def _weight(self, stems: frozenset[str]) -> float:
        return sum(map(self.background.weight, sorted(stems)))

    def _agree(self, new: dict[str, frozenset[str]]) -> float:
        whole = self._weight(new["lex"])
        shared = self._weight(new["lex"] & (new["vec"] | new["hyde"]))
        return _from(LEAST_AGREE, shared / whole / AGREE) if whole else LEAST_AGREE

    def _support(self, own: frozenset[str], new: dict[str, frozenset[str]]) -> float:
        share = self.background.support(own, frozenset().union(*new.values()))
        if own in self.background.queries:
            return min(1.0, (share or 0.0) / KNOWN_SUPPORT) ** 2
        if share is None:
            return NOT_KNOWN
        return _from(NO_SUPPORT, share / SUPPORT)


def _lines(parsed: Parsed, only: str | None) -> list[_Line]:
    """The lines where they are of the types asked for and no others; else none."""
    if parsed["invalid"] or not (only or (parsed["lex"] and parsed["vec"])):
        return []
    texts = {"lex": parsed["lex"], "vec": parsed["vec"], "hyde": parsed["hyde"]}
    if only and (not texts[only] or any(found for kind, found in texts.items() if kind != only)):
        return []
    return [_Line.of(kind, text) for kind, found in texts.items() for text in found]


def _form(lines: Sequence[_Line]) -> float:
    """Number, length and language of the lines; the least over the types, a type counting as its lines do on average."""
    credit = 1.0
    for kind in TYPES:
        own = [line for line in lines if line.kind == kind]
        if not own:
            continue
        mean = sum(_between(len(line.words), *WORDS[kind]) * _language(line) for line in own) / len(own)
        credit = min(credit, mean * min(1.0, MOST_LINES[kind] / len(own)) ** 2)
    return credit


def _language(line: _Line) -> float:
    least, most = LANGUAGE[line.kind]
    if line.language > most:
        return max(0.0, 1 - (line.language - most) / (1 - most))
    return _from(NO_SENTENCE, line.language / least) if line.language < least else 1.0


def _from(least: float, share: float) -> float:
    """From ``least`` at 0 to 1 at 1 and above."""
    return least + (1 - least) * min(1.0, share)


def _between(value: float, least: float, most: float) -> float:
    """1 within the bounds, the ratio to the nearer one outside."""
    return value / least if value < least else most / value if value > most else 1.0


def _anchor(lines: Sequence[_Line], own: frozenset[str]) -> float:
    """Share of the lines that have a word of the query; of the lex lines where it is less."""
    shares = []
    for some in (lines, [line for line in lines if line.kind == "lex"]):
        if some:
            shares.append(sum([_touches(line.stems, own) for line in some]) / len(some))
    return min(shares)


def _touches(stems: frozenset[str], own: frozenset[str]) -> bool:
    """Whether a stem of the line is one of the query, or begins like one (``auth``, ``authentic``)."""
    return not own.isdisjoint(stems) or any(
        a.startswith(b) or b.startswith(a) for a in own for b in stems if len(a) > 2 and len(b) > 2
    )


def _entities(parsed: Parsed, asked: str, only: str | None) -> float:
    """Half for each name of the query that no lex line (with ``/only``: no line) holds."""
    others = parsed["vec"] + parsed["hyde"]
    lines = parsed["lex"] if only is None else parsed["lex"] + others
    return 0.5 ** sum(not any(holds(line, name) for line in lines) for name in named_entities(asked, others))


def _variety(lines: Sequence[_Line]) -> float:
    """The squared share of lines that say something new among those of their type, less what is said twice in one line."""
    alike = {
        second
        for (_, a), (second, b) in combinations(enumerate(lines), 2)
        if a.words == b.words or (a.kind == b.kind and len(a.stems & b.stems) >= ALIKE * len(a.stems | b.stems))
    }
    repeated = max(max(0.0, line.repeated - MAY_REPEAT[line.kind]) for line in lines)
    return (1 - len(alike) / len(lines)) ** 2 * max(0.0, 1 - 3 * repeated)

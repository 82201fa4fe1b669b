"""Terms of the user's own corpus for a query: what the chunks that BM25 finds first have in common joins the query.

Pseudo-relevance feedback by a relevance model (RM3: Abdul-Jaleel et al., TREC 2004), with two choices that keep it from
drifting on queries that BM25 answers well (measured: benchmarks/expansion_retrieval.py):

- a chunk counts by the softmax of its BM25 score, in units of the scores' own spread: where a few chunks stand out, they
  alone speak, as with the query likelihoods of the paper; where all are alike, all do
- a term is weighted by its Kullback-Leibler contribution (Carpineto et al., TOIS 2001), the probability in these chunks
  times the logarithm of how rare it is in the corpus, and must stand in two of them

Terms enter with the weights 1, 1/2, 1/4 and 1/8 of the strongest, as weighted lexical queries. Nothing here asks a model.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from harness.search.bm25 import STOP_WORDS, WEIGHTS, LexicalQuery, parse
from harness.search.store import Ranked, Scope, Store, StoredChunk

_WORD = re.compile(r"[^\W_]+")
_LEVELS = 4
"""How many weights there are."""
_LOOKED_UP = 60
"""The likeliest stems whose frequency is asked for; rarer ones never come among the terms."""
_NEEDED = 2
"""Chunks that a term must stand in: what one alone has may be its own affair."""

Part = tuple[LexicalQuery, float]
"""A lexical query and its weight in a sum of BM25 scores."""


@dataclass(frozen=True)
class Feedback:
    """How much of the corpus joins a query."""

    chunks: int = 20
    """Chunks that are taken for relevant."""
    terms: int = 20
    share: float = 0.3
    """Weight of all terms together, where the query's own words have 1 together."""
    lines: float = 0.1
    """Weight of all words of an expansion's lex lines together: they say what a model thinks, not what the corpus has."""
    common: float = 0.1
    """Terms in more than this share of the chunks say nothing."""


@dataclass(frozen=True)
class Term:
    """A term of the corpus."""

    word: str
    """The commonest form of its stem in the chunks."""
    weight: float
    """1, 1/2, 1/4 or 1/8."""


@runtime_checkable
class TermStore(Store, Protocol):
    """A store that knows its words. One that does not is searched without feedback."""

    def stems(self, words: Sequence[str]) -> list[str]:
        """The stem of each word, as the index has it; "" for what is not one word to it."""
        ...

    def weighted(self, parts: Sequence[Part], ids: Sequence[int], scope: Scope) -> Ranked:
        """Some chunks by the weighted sum of their BM25 scores for several queries; those that none finds are left out."""
        ...


def corpus_terms(store: TermStore, found: Ranked, feedback: Feedback) -> list[Term]:
    """The terms that the first chunks of a BM25 ranking have in common, the strongest first; none of fewer than two."""
    first = found[: feedback.chunks]
    chunks = store.chunks([chunk for chunk, _ in first])
    score_of = dict(first)
    if len(chunks) < _NEEDED:
        return []
    counts = [_words(chunk) for chunk in chunks]
    vocabulary = sorted(set().union(*counts))
    stem_of = dict(zip(vocabulary, store.stems(vocabulary), strict=True))
    model, forms = _relevance_model(counts, _softmax([score_of[chunk.id] for chunk in chunks]), stem_of)
    likely = sorted(model, key=lambda stem: (-model[stem], stem))[:_LOOKED_UP]
    size, frequencies = store.frequencies([forms[stem] for stem in likely])
    weights = {
        stem: model[stem] * math.log(size / frequency)
        for stem, frequency in zip(likely, frequencies, strict=True)
        if 0 < frequency <= feedback.common * size
    }
    strongest = sorted((stem for stem in weights if weights[stem] > 0), key=lambda stem: (-weights[stem], stem))
    return [Term(forms[stem], _level(weights[stem] / weights[strongest[0]])) for stem in strongest[: feedback.terms]]


def parts(query: LexicalQuery, terms: Sequence[Term], feedback: Feedback, lines: Sequence[str] = ()) -> list[Part]:
    """The query with terms of the corpus and words of lex lines as weighted queries.

    Its own words share 1, the terms ``feedback.share``, the words and phrases of the lines ``feedback.lines``.

    >>> [(part.words, weight) for part, weight in parts(LexicalQuery(("a", "b")), [Term("c", 1.0)], Feedback(), ["d e"])]
    [(('a', 'b'), 0.5), (('c',), 0.3), (('d', 'e'), 0.05)]
    """
    own = max(1, len(query.words) + len(query.phrases))
    whole = sum(term.weight for term in terms)
    levels: dict[float, list[str]] = defaultdict(list)
    for term in terms:
        levels[term.weight].append(term.word)
    more = [
        (LexicalQuery(tuple(words), without=query.without), feedback.share * weight / whole)
        for weight, words in sorted(levels.items(), reverse=True)
    ]
    if written := words_of(lines, query.without):
        more.append((written, feedback.lines / len(written.words)))
    return [(query, 1 / own), *more]


def words_of(lines: Sequence[str], without: tuple[str, ...]) -> LexicalQuery | None:
    """Any of the words and phrases of lex lines as one query; None where they have none. A phrase counts as a word."""
    parsed = [parse(line) for line in lines]
    words = dict.fromkeys(word for one in parsed for word in (*one.words, *one.phrases))
    return LexicalQuery(tuple(words), without=without) if words else None


def with_feedback(
    store: TermStore,
    query: LexicalQuery,
    found: Ranked,
    feedback: Feedback,
    depth: int,
    scope: Scope,
    lines: Sequence[str] = (),
) -> tuple[Ranked, list[Term]]:
    """The ranking of the query with terms of the corpus and words of lex ``lines``, and the terms.

    ``found`` is BM25's ranking of the query; it comes back as it is where nothing joins. What stands among its first
    ``depth`` chunks, or among those of the terms or of the lines, is ranked by all of them. Lines join by score here, with
    a small weight: fused by rank, each would count half as much as the question, however far it has drifted. With phrases
    or exclusions the caller checks what came in.
    """
    terms = corpus_terms(store, found, feedback)
    joining = [LexicalQuery(tuple(term.word for term in terms), without=query.without), words_of(lines, query.without)]
    others = [chunk for one in joining if one and one.words for chunk, _ in store.lexical(one, depth, scope)]
    if not others:
        return found, terms
    candidates = sorted({*others, *(chunk for chunk, _ in found[:depth])})
    return store.weighted(parts(query, terms, feedback, lines), candidates, scope)[:depth], terms


def shown(terms: Sequence[Term]) -> str:
    """The terms on one line, the strongest first."""
    return " ".join(term.word for term in terms)


def expansion_line(store: TermStore, question: str, longest: int, scope: Scope | None = None) -> str:
    """Terms of the corpus as the text of a ``lex`` line of at most ``longest`` characters, for a search elsewhere.

    "" where what is found for the question has none in common.
    """
    feedback, scope = Feedback(), scope or Scope()
    return cut(corpus_terms(store, store.lexical(parse(question), feedback.chunks, scope), feedback), longest)


def cut(terms: Sequence[Term], longest: int) -> str:
    """The strongest terms that fit into ``longest`` characters."""
    words: list[str] = []
    for term in terms:
        if len(" ".join([*words, term.word])) > longest:
            break
        words.append(term.word)
    return " ".join(words)


def _words(chunk: StoredChunk) -> Counter[str]:
    """How often each word stands in a chunk; its header counts as in BM25."""
    counts: Counter[str] = Counter()
    for text, weight in ((chunk.header, WEIGHTS[0]), (chunk.text, WEIGHTS[1])):
        for word in _WORD.findall(text.lower()):
            counts[word] += int(weight)
    return counts


def _relevance_model(
    counts: Sequence[Mapping[str, int]], weights: Sequence[float], stem_of: Mapping[str, str]
) -> tuple[dict[str, float], dict[str, str]]:
    """The probability of each stem in weighted chunks, and its commonest form. Stems in one chunk alone are left out."""
    model: dict[str, float] = defaultdict(float)
    chunks_with: Counter[str] = Counter()
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for words, weight in zip(counts, weights, strict=True):
        length = sum(words.values())
        own: Counter[str] = Counter()
        for word, count in words.items():
            stem = stem_of[word]
            if stem and len(word) > 1 and word not in STOP_WORDS:
                own[stem] += count
                forms[stem][word] += count
        for stem, count in own.items():
            model[stem] += weight * count / length
        chunks_with.update(own.keys())
    kept = {stem: share for stem, share in model.items() if chunks_with[stem] >= _NEEDED}
    return kept, {stem: min(forms[stem], key=lambda word: (-forms[stem][word], word)) for stem in kept}


def _softmax(scores: Sequence[float]) -> list[float]:
    """Weights that add up to 1, from scores in units of their standard deviation; all alike where it is 0."""
    mean = sum(scores) / len(scores)
    spread = math.sqrt(sum((score - mean) ** 2 for score in scores) / len(scores))
    if not spread:
        return [1 / len(scores)] * len(scores)
    powers = [math.exp((score - max(scores)) / spread) for score in scores]
    return [power / sum(powers) for power in powers]


def _level(share: float) -> float:
    """The nearest of the weights 1, 1/2, 1/4 and 1/8, by ratio."""
    return float(2.0 ** max(1 - _LEVELS, round(math.log2(share))))

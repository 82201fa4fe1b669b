"""Prompt contract ``annotate/mark@1``: a small model reads the abstract once, then marks sentence by sentence.

The prompt has two passes. The first gives the whole abstract, a sentence a line, so that every mark is made in full view
of what comes later. The second repeats each sentence, ended by the mark token; the next token that the model writes is
the set of moves that the sentence states (a label powerset, Boutell et al. 2004, section 3.3, as tokens such as
``<claim+novelty>`` or ``<none>``). What it wrote is not fed back, so every sentence's prompt is a beginning of the last
one's: one cached prompt serves all sentences, and in training one forward pass gives all marks of an abstract.

Training and serving both import this module; nothing here imports a model runtime.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence

CONTRACT = "annotate/mark@1"
MARK = "<|mark|>"
NONE = "<none>"
# The model was trained on abstracts of about this size; longer ones are marked in windows (sentences, characters).
WINDOW_SENTENCES = 16
WINDOW_CHARACTERS = 2600
MAX_TITLE = 300
_OPENING = re.compile(r"<(?=[|a-z])")
_SET = re.compile(r"<([a-z0-9_]+(?:\+[a-z0-9_]+)*)>")


def plain(text: str) -> str:
    """Text of a paper as it may stand in a prompt: white space folded, nothing that could pass for one of our tokens.

    The tokenizer was trained on composed characters (NFC) and llama.cpp does not compose them itself.
    """
    return _OPENING.sub("< ", " ".join(unicodedata.normalize("NFC", text).split()))


def first_pass(title: str, sentences: Sequence[str]) -> str:
    """The part of the prompt that shows the whole abstract."""
    head = plain(title)[:MAX_TITLE]
    return "\n".join([f"# {head}", *map(plain, sentences)]) + "\n"


def steps(sentences: Sequence[str]) -> list[str]:
    """The continuations of the second pass: each is appended to what stands before it and ends with the mark token."""
    return [f"\n[{number}/{len(sentences)}] {plain(sentence)}{MARK}" for number, sentence in enumerate(sentences, 1)]


def prompts(title: str, sentences: Sequence[str]) -> list[str]:
    """The whole prompt of each sentence, in order; every one is a prefix of the next."""
    text = first_pass(title, sentences)
    result = []
    for step in steps(sentences):
        text += step
        result.append(text)
    return result


def label(moves: Sequence[str]) -> str:
    """The token of a set of moves, in the framework's order."""
    return f"<{'+'.join(moves)}>" if moves else NONE


def label_moves(token: str) -> tuple[str, ...] | None:
    """The moves of a label token; None when the text is no label."""
    if token.strip() == NONE:
        return ()
    match = _SET.fullmatch(token.strip())
    return tuple(match[1].split("+")) if match else None


def marginals(logprobs: Mapping[str, float], moves: Sequence[str]) -> dict[str, float]:
    """P(sentence states move) for each move, from log-probabilities of label tokens.

    Tokens that are no labels are left out and the rest is normalised. Without any label all are 0.
    """
    total = 0.0
    sums = dict.fromkeys(moves, 0.0)
    for token, logprob in logprobs.items():
        stated = label_moves(token)
        if stated is None:
            continue
        probability = math.exp(logprob)
        total += probability
        for move in stated:
            if move in sums:
                sums[move] += probability
    return {move: value / total for move, value in sums.items()} if total else sums


def windows(sentences: Sequence[str]) -> list[tuple[int, int]]:
    """Ranges ``[start, end)`` of sentences that are marked together; one range for an ordinary abstract.

    A longer text is cut into even ranges, none above the window's sentences and characters unless a single sentence is.
    """
    total = sum(map(len, sentences))
    count = max(1, math.ceil(len(sentences) / WINDOW_SENTENCES), math.ceil(total / WINDOW_CHARACTERS))
    ranges: list[tuple[int, int]] = []
    start, used = 0, 0
    goal = total / count
    for index, sentence in enumerate(sentences):
        full = index - start >= WINDOW_SENTENCES or used + len(sentence) > max(goal * 1.25, WINDOW_CHARACTERS * 0.5)
        if index > start and full:
            ranges.append((start, index))
            start, used = index, 0
        used += len(sentence)
    if start < len(sentences):
        ranges.append((start, len(sentences)))
    return ranges

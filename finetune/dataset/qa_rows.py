"""Questions with answers and evidence, and the two shapes in which they are trained on.

``text``: one row ``{"text": "Q: …\\nA: reasoning ##### answer"}`` a pair, as the specification's report has it.
``chat``: rows of prompt contract ask@1, as /ask serves it: the evidence among other passages of the same paper as numbered
passages, the answer sentence by sentence, each with a quote that the passages have. A question without an answer is one
that the passages do not answer.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.outputs import atomic_write
from harness.sentences import split
from skills.ask import prompt
from skills.ask.prompt import Claim, Draft
from skills.ask.record import Passage
from skills.ask.support import Evidence
from skills.ask.terms import Stemmer
from skills.ask.verify import cite

MARK = "#####"
"""Between reasoning and answer."""
PASSAGES = 4
"""Of one chat row, evidence and others together, unless the evidence alone has more."""
MOST_EVIDENCE = 8
ALIGNED = 0.25
"""Share of an answer sentence's weight that a sentence of the evidence must have to be quoted for it."""
LONGEST_PASSAGE = 2400
"""Characters; longer evidence is cut into pieces of whole sentences."""


@dataclass(frozen=True)
class Pair:
    """One question with its answer."""

    id: str
    question: str
    reasoning: str
    answer: str
    contexts: tuple[str, ...]
    """The evidence; empty where the paper does not answer."""
    paper: str
    """What pairs of one paper share: they stay on one side of a split."""
    title: str = ""
    source: str = ""
    """The data set, or the model that wrote it."""
    answered: bool = True

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"contexts": list(self.contexts)}


def text_of(pair: Pair) -> str:
    """The pair as the specification has it.

    >>> text_of(Pair("1", "Why?", "It rained.", "Rain.", (), "p"))
    'Q: Why?\\nA: It rained. ##### Rain.'
    """
    question, reasoning, answer = (" ".join(part.split()) for part in (pair.question, pair.reasoning, pair.answer))
    return f"Q: {question}\nA: {reasoning} {MARK} {answer}"


def chosen(pairs: Sequence[Pair], count: int, seed: int) -> list[Pair]:
    """``count`` of the pairs (all for 0) in their order, by the hashes of their ids: the same whatever else there is."""
    if not count or len(pairs) <= count:
        return list(pairs)
    ranked = sorted(range(len(pairs)), key=lambda at: _hash(seed, pairs[at].id))
    return [pairs[at] for at in sorted(ranked[:count])]


def _hash(seed: int, *parts: str) -> str:
    return hashlib.sha256("\n".join([str(seed), *parts]).encode("utf-8", "replace")).hexdigest()


def chat_rows(pairs: Sequence[Pair], seed: int, dropped: Counter[str]) -> list[tuple[Pair, dict[str, Any]]]:
    """Rows of contract ask@1, each with its pair; those that cannot be made are counted by reason."""
    by_paper: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        by_paper[pair.paper] += [piece for context in pair.contexts for piece in pieces(context)]
    stemmer, rows = Stemmer(), []
    for pair in pairs:
        own = [piece for context in pair.contexts for piece in pieces(context)]
        row = _chat_row(pair, own, by_paper[pair.paper], seed, stemmer)
        if isinstance(row, str):
            dropped[row] += 1
        else:
            rows.append((pair, row))
    return rows


def _chat_row(pair: Pair, own: Sequence[str], paper: Iterable[str], seed: int, stemmer: Stemmer) -> dict[str, Any] | str:
    """The row, or why there is none."""
    if len(own) > MOST_EVIDENCE:
        return "its evidence is too long"
    others = sorted({text for text in paper if text not in own}, key=lambda text: _hash(seed, pair.id, text))
    texts = [*dict.fromkeys(own), *others[: max(0, PASSAGES - len(own))]]
    if not texts:
        return "its paper has no passages"
    texts.sort(key=lambda text: _hash(seed + 1, pair.id, text))
    passages = [passage(text, number, pair.title) for number, text in enumerate(texts, 1)]
    draft = Draft(_fitting(pair.reasoning), pair.answered, ())
    if pair.answered:
        gold = [one for one in passages if one.text in own]
        claims = _claims(pair.answer, gold, stemmer)
        if not claims:
            return "its evidence does not have its answer"
        draft = Draft(draft.reasoning, True, tuple(claims))
    messages = [{"role": one.role, "content": one.content} for one in prompt.messages(pair.question, passages)]
    return {"id": pair.id, "prompt": messages, "completion": prompt.completion(draft)}


def passage(text: str, number: int, title: str) -> Passage:
    """A text as a passage of its sentences."""
    spans = tuple((one.start, one.end, 0) for one in split(text))
    return Passage(number, "", title, 0, "", title, text, spans, 0.0)


def pieces(context: str) -> list[str]:
    """A context in pieces of whole sentences, none longer than a passage should be."""
    found, current = list[str](), ""
    for sentence in split(context):
        if current and len(current) + len(sentence.text) > LONGEST_PASSAGE:
            found.append(current)
            current = ""
        current = f"{current} {sentence.text}".strip()
    return [*found, current] if current else found


def _claims(answer: str, gold: Sequence[Passage], stemmer: Stemmer) -> list[Claim]:
    """The sentences of an answer that a sentence of the evidence can be quoted for, each with that quote."""
    evidence = Evidence(gold, stemmer)
    by_number = {one.n: one for one in gold}
    claims = []
    for sentence in split(answer):
        best = evidence.best(sentence.text)
        if best is None or best[0] < ALIGNED or len(sentence.text) > prompt.LONGEST_TEXT:
            continue
        quote = _cut(prompt.plain(best[1].text), prompt.LONGEST_QUOTE)
        if cite(quote, by_number[best[1].n]) is not None:
            claims.append(Claim(" ".join(sentence.text.split()), ((best[1].n, quote),)))
    return claims[: prompt.MOST_SENTENCES]


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[:longest].rpartition(" ")[0]


def _fitting(reasoning: str) -> str:
    """The first sentences of a reasoning that the contract has room for."""
    kept = ""
    for sentence in split(reasoning):
        longer = f"{kept} {' '.join(sentence.text.split())}".strip()
        if len(longer) > prompt.LONGEST_REASONING:
            break
        kept = longer
    return kept


def validating(papers: Iterable[str], share: float, seed: int) -> set[str]:
    """The papers that validate: each by the hash of its own name, so that it stays where it is when others come.

    Where there are two or more, and ``share`` is not 0, neither side is empty.
    """
    ranked = sorted({(_hash(seed, "split", paper), paper) for paper in papers})
    chosen = sum(int(number[:12], 16) < share * 16**12 for number, _ in ranked)
    if share and len(ranked) > 1:
        chosen = min(max(chosen, 1), len(ranked) - 1)
    return {paper for _, paper in ranked[:chosen]}


def write_text(path: Path, pairs: Iterable[Pair], *, overwrite: bool) -> None:
    """One pair a line: its record, with ``text`` in front. Raises InputError."""
    with atomic_write(path, overwrite=overwrite) as handle:
        for pair in pairs:
            handle.write(json.dumps({"text": text_of(pair), **pair.record()}, ensure_ascii=False) + "\n")


def write_chat(folder: Path, pairs: Sequence[Pair], *, valid: float, seed: int, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The data folder that ``finetune/train.py sft`` reads; its card, which is written last and says that it is whole.

    ``facts`` go onto the card. Raises InputError where a side has no rows, or nothing can be written.
    """
    dropped: Counter[str] = Counter()
    rows = chat_rows(pairs, seed, dropped)
    kept_back = validating((pair.paper for pair, _ in rows), valid, seed)
    sides = {
        "train": [(pair, row) for pair, row in rows if pair.paper not in kept_back],
        "valid": [(pair, row) for pair, row in rows if pair.paper in kept_back],
    }
    if not sides["train"] or (valid and not sides["valid"]):
        raise InputError("a side of the split is empty", "give more papers, or another --valid")
    (folder / "card.json").unlink(missing_ok=True)
    for name, side in sides.items():
        with atomic_write(folder / f"{name}.jsonl") as handle:
            handle.writelines(json.dumps(row, ensure_ascii=False) + "\n" for _, row in side)
    card = {
        "contract": prompt.CONTRACT,
        "task": "ask",
        "rows": {name: len(side) for name, side in sides.items()},
        "papers": {name: len({pair.paper for pair, _ in side}) for name, side in sides.items()},
        "unanswered": {name: sum(not pair.answered for pair, _ in side) for name, side in sides.items()},
        "dropped": dict(dropped.most_common()),
        "options": {"valid": valid, "seed": seed},
        **facts,
    }
    with atomic_write(folder / "card.json") as handle:
        handle.write(json.dumps(card, ensure_ascii=False, indent=1) + "\n")
    return card


def statistics(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Pairs, papers, contexts, questions a context, and lengths in characters."""
    contexts = {(pair.paper, pair.contexts) for pair in pairs if pair.contexts}
    answered = [pair for pair in pairs if pair.answered]
    return {
        "pairs": len(pairs),
        "unanswered": len(pairs) - len(answered),
        "papers": len({pair.paper for pair in pairs}),
        "contexts": len(contexts),
        "questions_per_context": round(sum(bool(pair.contexts) for pair in pairs) / len(contexts), 2) if contexts else 0.0,
        "characters": {
            name: _middle([len(getattr(pair, name)) for pair in answered]) for name in ("question", "reasoning", "answer")
        },
    }


def _middle(lengths: Sequence[int]) -> dict[str, int]:
    ordered = sorted(lengths) or [0]
    return {f"{share:.0%}": ordered[round((len(ordered) - 1) * share)] for share in (0.05, 0.5, 0.95)}

"""Good annotations and eleven ways to spoil one, made from gold papers by rules and a seed. Nothing here is kept.

A paper here is a gold paper with two keys more: its ``style``, and ``row``, its good annotation in that style. Quote style
is the gold sentences word for word. Prose style is the same sentences rewritten: other subjects and verbs,
number words as digits, openings, parentheses, adverbs and trailing clauses dropped, two sentences made one. That is a
light paraphrase, lighter than a person's or a large model's. Free style is such text, written for the sample papers
(``curator_prose.toml``).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

Paper = Mapping[str, Any]
Texts = dict[str, str]
"""Move → text of the stated moves."""

_OPENINGS = re.compile(
    r"^(?:However|Moreover|Furthermore|Additionally|In addition|Finally|In this (?:paper|work|study)|Here|To this end|"
    r"Specifically|Notably|Crucially|Importantly|Consequently|Therefore|Thus|In particular|Overall|As a result"
    r"|In response), ",
)
_ADVERBS = re.compile(
    r"\b(?:significantly|substantially|effectively|extensive|comprehensive|highly|consistently|directly|explicitly) "
)
_DIGITS = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "ten": "10"}
_VERBS = tuple(
    pair.split(":")
    for pair in (
        "propose:put forward|introduce:present|present:introduce|show:demonstrate|demonstrate:show|develop:build|"
        "find:observe|evaluate:assess|achieves:reaches|achieve:reach|outperforms:does better than|improves:raises|"
        "reduces:cuts|enables:allows|investigate:study|requires:needs|addresses:tackles|leverages:uses|utilizes:uses|existing:earlier|"
        "remains:stays|demonstrates:shows|across:over|approach:method|challenging:hard"
    ).split("|")
)
_LEADS = ("According to the abstract, ", "The main point is that ", "In short, ")


def quote_row(paper: Paper) -> Texts:
    """The gold annotation in quote style."""
    moves = {move: numbers for move, numbers in paper["moves"].items() if numbers}
    return {move: " ".join(_line(paper, number) for number in numbers) for move, numbers in moves.items()}


def _line(paper: Paper, number: int) -> str:
    return " ".join(paper["sentences"][number - 1].split())


def prose_row(paper: Paper, dice: random.Random) -> Texts:
    """The gold annotation rewritten, at most two sentences a move."""
    texts = {}
    for move, numbers in paper["moves"].items():
        if numbers:
            written = [paraphrase(_line(paper, number), dice) for number in numbers[:2]]
            joined = (
                f"{written[0].rstrip('.')}; {written[-1]}"
                if len(written) > 1 and dice.random() < 0.4
                else " ".join(written)
            )
            texts[move] = joined
    return texts


def paraphrase(sentence: str, dice: random.Random) -> str:
    """One sentence rewritten lightly."""
    text = _OPENINGS.sub("", sentence)
    text = re.sub(r"^we\b", "We", text)
    subject = dice.choice(("The authors", "The paper's authors", "They"))
    text = re.sub(r"^We\b", subject, text)
    text = re.sub(r"\b[Ww]e\b", "the authors", text)
    text = re.sub(r"\bOur\b", dice.choice(("Their", "The proposed")), text)
    text = re.sub(r"\bour\b", "their", text)
    if dice.random() < 0.5:
        text = re.sub(r" \([^()]{1,60}\)", "", text)
    if dice.random() < 0.5:
        text = _ADVERBS.sub("", text)
    for given, other in dice.sample(_VERBS, 14):
        text = re.sub(rf"\b{given}\b", other, text, count=1)
    for word, digit in _DIGITS.items():
        if dice.random() < 0.5:
            text = re.sub(rf"\b{word}\b", digit, text)
    head, comma, tail = text.rstrip(".").rpartition(", ")
    if comma and len(head.split()) >= 10 and len(tail.split()) >= 3 and dice.random() < 0.3:
        text = f"{head}."
    if dice.random() < 0.15:
        text = f"{dice.choice(_LEADS)}{text[0].lower()}{text[1:]}"
    return text[0].upper() + text[1:] if text else sentence


# ---- defects: each returns the spoilt row, or None where this row cannot be spoilt so ----

NAMES = (
    "ImageNet GPT-4 SQuAD Wikipedia Cityscapes Llama-3-8B MIMIC-III GLUE CIFAR-10 BERT OrionBench Tessera-7B CORA-QA "
    "MedLattice Claude Gemini HotpotQA KITTI LibriSpeech Pile"
).split()
VAGUE = (
    "The paper presents a novel approach that addresses an important problem in the field.",
    "The results show that the proposed method is effective and outperforms existing approaches.",
    "Extensive experiments demonstrate the effectiveness of the method in various settings.",
    "This work has important implications for future research and practical applications.",
    "The authors use a well-designed methodology to investigate the research question.",
    "The approach is new and differs from previous work in several important ways.",
    "The study applies to a wide range of tasks and domains.",
    "The findings contribute valuable insights to the research community.",
)
LIMITATIONS = (
    "The evaluation covers English only, so the findings may not transfer to other languages.",
    "The study relies on a small sample of participants, which limits statistical power.",
    "Training needs large clusters that few laboratories can afford.",
    "The approach has not been tested in clinical practice and lacks regulatory approval.",
    "The annotations were made by one person and may carry personal bias.",
    "Hyperparameters were tuned by hand, so reproduction may be hard.",
)
FOREIGN = (
    "Die Autoren stellen ein neues Verfahren vor und zeigen, dass es bei allen Aufgaben besser ist als die bisherigen.",
    "Les auteurs présentent une nouvelle méthode et montrent que les résultats sont meilleurs que ceux du passé.",
    "Los autores presentan un nuevo método y muestran que los resultados son mejores que los de los trabajos anteriores.",
    "Gli autori presentano un nuovo metodo e mostrano che i risultati sono migliori di quelli dei lavori precedenti.",
    "作者提出了一种新的方法，并在多个基准上证明其优于现有方法。",
    "Авторы предлагают новый метод и показывают, что он превосходит существующие подходы.",
)
DEBRIS = (
    "```json\n{}",
    '{{"text": "{}"}}',
    "**{}**",
    "{}</annotation>",
    "<|im_start|>{}",
    "{}\\n\\n",
    "Sure! Here is the annotation: {}",
    "<p>{}</p>",
)
FLIPS = tuple(
    pair.split(":")
    for pair in (
        "outperforms:underperforms|outperform:underperform|improves:worsens|improving:worsening|improve:worsen|"
        "reduces:increases|reducing:increasing|higher:lower|better:worse|raises:lowers|"
        "does better than:does worse than|more:less|effective:ineffective|strong:weak"
    ).split("|")
)
_VERB = re.compile(r"\b(is|are|can|does|do|will|has|have|was|were)\b (?!not\b|that\b)")
_NOT = re.compile(r"\b(is|are|can|does|do|will|was|were) not ")


def _end(text: str, addition: str) -> str:
    return f"{text.rstrip('. ')}{addition}."


def invented_number(row: Texts, paper: Paper, dice: random.Random, others: Sequence[Paper]) -> Texts | None:
    """A number replaced by another, or a gain added that nobody measured."""
    move = dice.choice([move for move in ("evidence", "comparison", "claim", "method", "scope") if move in row])
    text, value = row[move], round(dice.uniform(5, 95), 1)
    found = list(re.finditer(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w.-]|\.\d)", text))
    if found:
        match = dice.choice(found)
        text = f"{text[: match.start()]}{value}{text[match.end() :]}"
    else:
        text = _end(text, dice.choice((f", a gain of {value}%", f" in {round(value * 37)} cases", f" ({value} points)")))
    return {**row, move: text}


def invented_name(row: Texts, paper: Paper, dice: random.Random, others: Sequence[Paper]) -> Texts | None:
    """A model or data set that the abstract does not know."""
    names = [name for name in NAMES if name.lower() not in paper["abstract"].lower()]
    move = dice.choice([move for move in ("evidence", "comparison", "claim", "method", "scope") if move in row])
    addition = dice.choice((" on {}", ", with {} as the base model", " and on the {} data set", ", compared with {}"))
    return {**row, move: _end(row[move], addition.format(dice.choice(names)))}


def swapped(row: Texts, paper: Paper, dice: random.Random, others: Sequence[Paper]) -> Texts | None:
    """Two moves exchanged whose gold sentences have none in common."""
    pairs = [pair for pair in combinations(row, 2) if not set(paper["moves"][pair[0]]) & set(paper["moves"][pair[1]])]
    if not pairs:
        return None
    first, second = dice.choice(pairs)
    return {**row, first: row[second], second: row[first]}


def vague(row: Texts, paper: Paper, dice: random.Random, others: Sequence[Paper]) -> Texts | None:
    """One or two cells that would fit any paper."""
    return {**row, **dict(zip(dice.sample(sorted(row), dice.choice((1, 2))), dice.sample(VAGUE, 2), strict=False))}


def another_paper(row: Texts, paper: Paper, dice: random.Random, others: Sequence[Paper]) -> Texts | None:
    """The annotation of another paper of the same group."""
    near = [other for other in others if other["group"] == paper["group"] and other["id"] != paper["id"]]
    return dict(dice.choice(near)["row"])


def negated(row: Texts, paper: Paper, dice: random.Random, others: Sequence[Paper]) -> Texts | None:
    """One sentence turned into its opposite: a word for its opposite, or a ``not`` put in or taken out."""
    for move in dice.sample(sorted(row), len(row)):
        text, choices = row[move], []
        choices += [re.sub(rf"\b{a}\b", b, text, count=1) for a, b in FLIPS if re.search(rf"\b{a}\b", text)]
        choices += [_VERB.sub(r"\1 not ", text, count=1)] if _VERB.search(text) else []
        choices += [_NOT.sub(r"\1 ", text, count=1)] if _NOT.search(text) else []
        if choices:
            return {**row, move: dice.choice(choices)}
    return None


def title_copied(row: Texts, paper: Paper, dice: random.Random, others: Sequence[Paper]) -> Texts | None:
    """The title for claim, novelty or method."""
    move = dice.choice([move for move in ("claim", "novelty", "method") if move in row])
    return {**row, move: paper["title"] + dice.choice(("", "."))}


def swallowed(row: Texts, paper: Paper, dice: random.Random, others: Sequence[Paper]) -> Texts | None:
    """One cell with all sentences but perhaps one."""
    numbers = list(range(1, len(paper["sentences"]) + 1))
    if len(numbers) > 5 and dice.random() < 0.5:
        numbers.remove(dice.choice(numbers))
    quoted = paper["style"] == "quote"
    lines = [_line(paper, number) if quoted else paraphrase(_line(paper, number), dice) for number in numbers]
    return {**row, dice.choice(sorted(row)): " ".join(lines)}


def unstated_limitation(row: Texts, paper: Paper, dice: random.Random, others: Sequence[Paper]) -> Texts | None:
    """A limitation for a paper that states none: any of its sentences, or (prose) also one that is made up."""
    if "limitation" in row:
        return None
    line = _line(paper, dice.randint(1, len(paper["sentences"])))
    if paper["style"] == "quote":
        return {**row, "limitation": line}
    return {**row, "limitation": dice.choice((dice.choice(LIMITATIONS), paraphrase(line, dice)))}


def cut_or_marked(row: Texts, paper: Paper, dice: random.Random, others: Sequence[Paper]) -> Texts | None:
    """A text cut anywhere between a third and nine tenths, or with leftovers of markup or chat."""
    move = dice.choice(sorted(row))
    text = row[move]
    if dice.random() < 0.5:
        return {**row, move: dice.choice(DEBRIS).replace("{}", text).replace("{{", "{").replace("}}", "}")}
    return {**row, move: text[: round(len(text) * dice.uniform(0.33, 0.9))].rstrip()}


def other_language(row: Texts, paper: Paper, dice: random.Random, others: Sequence[Paper]) -> Texts | None:
    """One cell in German, French, Spanish, Italian, Chinese or Russian."""
    return {**row, dice.choice(sorted(row)): dice.choice(FOREIGN)}


Spoil = Callable[[Texts, Paper, random.Random, Sequence[Paper]], Texts | None]

DEFECTS: Mapping[str, Spoil] = {
    "invented number": invented_number,
    "invented name": invented_name,
    "fields swapped": swapped,
    "vague boilerplate": vague,
    "another paper": another_paper,
    "negation flip": negated,
    "title copied": title_copied,
    "swallows the abstract": swallowed,
    "unstated limitation": unstated_limitation,
    "truncation, debris": cut_or_marked,
    "other language": other_language,
}

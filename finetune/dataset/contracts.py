"""Training examples by prompt contract: what serving asks, and what the model should write.

The prompts are made by the same functions that serve ``/annotate`` (``skills/annotate/prompt.py`` and ``mark.py``), so an
example differs from a request in nothing but the answer that stands behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from finetune.dataset.overlap import ENOUGH, nearest, quoted
from finetune.dataset.rows import Cell, Row, row_of, written_sentences
from harness.errors import InputError
from harness.sentences import split
from skills.annotate import mark, prompt
from skills.annotate.annotator import check_readable
from skills.annotate.moves import Framework, load_framework

if TYPE_CHECKING:
    from finetune.mark_data import Labels

Contract = Literal["quote", "prose", "mark"]
NAMES: Mapping[str, str] = {"quote": prompt.QUOTE, "prose": prompt.PROSE, "mark": mark.CONTRACT}
Example = dict[str, Any]

TEXT_ONLY = "a move's text rests on no sentence (it could be used with --contract prose)"
NO_OVERLAP = "a move's text shares no word with the abstract"
UNREADABLE = "no abstract, or one too short or too long to annotate"
NOTHING = "states no move"
INVENTED = "prose that names what the abstract does not"
TEMPLATE = "holds marks of a chat template or contract"


class Unusable(Exception):
    """A row that is written correctly and gives no example; the message is the reason that the card counts."""


@dataclass(frozen=True)
class Labelled:
    """One paper with its sentences and, for each stated move, a text and sentence numbers (from 1, best first).

    ``notes`` say what was done to the labels: ``matched``, ``renumbered``, ``shortened``, ``quoted as prose``.
    """

    title: str
    sentences: tuple[str, ...]
    answer: prompt.Answer
    notes: tuple[str, ...] = ()


def sentences_of(row: Row) -> tuple[str, ...]:
    """The sentences that a row's numbers count: its own, else those of the splitter."""
    own = row.sentences or written_sentences(row.written, row.abstract)
    return own or tuple(sentence.text for sentence in split(row.abstract))


def labelled(row: Row, framework: Framework, contract: Contract) -> Labelled:
    """A row with every move tied to sentences.

    Raises Unusable where it gives no example of this contract, InputError for numbers of no sentence.
    """
    sentences = sentences_of(row)
    try:
        check_readable(sentences)
    except InputError:
        raise Unusable(UNREADABLE) from None
    notes: list[str] = []
    answer: prompt.Answer = {}
    for move in framework.moves:
        if move.name not in row.cells:
            continue
        cell = row.cells[move.name]
        numbers = _numbers(cell, sentences, move.most, f"{row.where}: {move.name}", contract, notes)
        if contract != "mark" and len(numbers) > move.most:
            numbers = numbers[: move.most]
            notes.append("shortened")
        answer[move.name] = (cell.text.strip(), numbers)
    if not answer:
        raise Unusable(NOTHING)
    if contract == "prose":
        answer = {move: _prose(text, numbers, sentences, notes) for move, (text, numbers) in answer.items()}
    _refuse_marks(row.title, sentences, answer, contract)
    return Labelled(row.title, sentences, answer, tuple(dict.fromkeys(notes)))


def _numbers(
    cell: Cell, sentences: Sequence[str], most: int, where: str, contract: Contract, notes: list[str]
) -> list[int]:
    """The sentences of one move, which the file gives by number, by text, or both."""
    if cell.numbers is None:
        notes.append("matched")
        if exact := quoted(cell.text, sentences):
            return exact
        numbers, share = nearest(cell.text, sentences, most)
        if not numbers:
            raise Unusable(NO_OVERLAP)
        if share < ENOUGH and contract != "prose":
            raise Unusable(TEXT_ONLY)
        return numbers
    for number in cell.numbers:
        if not 1 <= number <= len(sentences):
            raise InputError(f"{where} rests on sentence {number} of {len(sentences)}", "annotate the paper again")
    numbers = list(dict.fromkeys(cell.numbers))
    # A quote says by itself which sentences it is: where it disagrees with the numbers, they counted other sentences.
    if cell.text and cell.text != " ".join(sentences[number - 1] for number in numbers):
        exact = quoted(cell.text, sentences)
        if exact and set(exact) != set(numbers):
            notes.append("renumbered")
            return exact
    return numbers


def _prose(text: str, numbers: list[int], sentences: Sequence[str], notes: list[str]) -> tuple[str, list[int]]:
    """A text of one or two sentences; labels without one quote their two best sentences."""
    if text and text != " ".join(sentences[number - 1] for number in numbers):
        if prompt.unsupported(text, " ".join(sentences)):
            raise Unusable(INVENTED)
        return text, numbers
    notes.append("quoted as prose")
    return " ".join(" ".join(sentences[number - 1].split()) for number in numbers[:2]), numbers[:2]


def _refuse_marks(title: str, sentences: Sequence[str], answer: prompt.Answer, contract: Contract) -> None:
    """Raise Unusable where a tokenizer would read words of a paper as marks; mark@1 spells them so that none does."""
    if contract == "mark":
        return
    text = "\n".join((title, *sentences, *(text for text, _ in answer.values())))
    if "<|" in text or prompt.END in text:
        raise Unusable(TEMPLATE)


def reviewed(base: Row, review: Row) -> Row:
    """A row with the moves that a person has decided put in the place of its own.

    The review's sentences count; numbers of the base that count others become text, to be found among them again.
    """
    own, target = sentences_of(base), sentences_of(review)
    cells = {move: cell for move, cell in base.cells.items() if move not in (review.decided or ())}
    if own != target:
        cells = {move: Cell(_text_of(cell, own, base.where)) for move, cell in cells.items()}
    cells |= {move: review.cells[move] for move in review.decided or () if move in review.cells}
    return Row(base.place, base.number, base.id, review.title or base.title, review.abstract, target, cells=cells)


def _text_of(cell: Cell, sentences: Sequence[str], where: str) -> str:
    if cell.text:
        return cell.text
    numbers = cell.numbers or ()
    if not all(1 <= number <= len(sentences) for number in numbers):
        raise InputError(f"{where} rests on a sentence that is not there", "annotate the paper again")
    return " ".join(sentences[number - 1] for number in numbers)


# ---- the two halves of an example ----


def examples(
    paper: Labelled, identity: str, source: str, framework: Framework, contract: Contract, labels: Labels | None = None
) -> Iterator[Example]:
    """The examples of one paper: one, or one for each window of a text that mark@1 serves in windows.

    ``labels`` is the label vocabulary, needed for mark@1 alone.
    """
    if contract != "mark":
        asked = prompt.messages(framework, paper.title, paper.sentences, prose=contract == "prose")
        yield {
            "id": identity,
            "source": source,
            "prompt": [{"role": message.role, "content": message.content} for message in asked],
            "completion": prompt.completion(framework, paper.answer, prose=contract == "prose"),
        }
        return
    if labels is None:
        raise ValueError("mark@1 needs the labels")
    for window, (start, end) in enumerate(mark.windows(paper.sentences), 1):
        part = paper.sentences[start:end]
        sets = sentence_sets(paper, framework.names)[start:end]
        yield {
            "id": identity if window == 1 else f"{identity}#{window}",
            "source": source,
            "prompt": mark.prompts(paper.title, part)[-1],
            "completion": [mark.label(labels.sets[labels.nearest(stated)]) for stated in sets],
        }


def sentence_sets(paper: Labelled, moves: Sequence[str]) -> list[tuple[str, ...]]:
    """The set of moves of each sentence."""
    numbers = {move: set(paper.answer[move][1]) for move in moves if move in paper.answer}
    return [
        tuple(move for move in moves if move in numbers and number in numbers[move])
        for number in range(1, len(paper.sentences) + 1)
    ]


def format_annotation_prompt(
    abstract: str,
    title: str = "",
    *,
    sentences: Sequence[str] | None = None,
    contract: Contract = "quote",
    framework: Framework | None = None,
) -> list[dict[str, str]] | str:
    """What a model is asked about an abstract: chat messages, or for mark@1 the whole transcript.

    ``sentences`` are the abstract's own; without them it is split. Raises InputError for a text that is no abstract.
    """
    parts = tuple(sentences or (sentence.text for sentence in split(abstract)))
    check_readable(parts)
    if contract == "mark":
        return mark.prompts(title, parts)[-1]
    asked = prompt.messages(framework or load_framework(), title, parts, prose=contract == "prose")
    return [{"role": message.role, "content": message.content} for message in asked]


def format_annotation_output(
    row: Mapping[str, Any],
    *,
    contract: Contract = "quote",
    framework: Framework | None = None,
    labels: Labels | None = None,
) -> str | list[str]:
    """What a model should answer for an annotated row: text that ends with ``</annotation>``, or for mark@1 label tokens.

    ``row`` is an annotation record, a gold row, or a mapping of move columns. Without ``labels`` every set of moves is a
    label of its own. Raises InputError for a row that cannot be used.
    """
    framework = framework or load_framework()
    try:
        paper = labelled(row_of(row, framework.names, "row", 1), framework, contract)
    except Unusable as error:
        raise InputError(f"the row gives no example: {error}") from None
    if contract != "mark":
        return prompt.completion(framework, paper.answer, prose=contract == "prose")
    sets = sentence_sets(paper, framework.names)
    return [mark.label(labels.sets[labels.nearest(stated)] if labels else stated) for stated in sets]

"""A data folder's rows as examples: token ids, the positions that carry loss, and what each should predict.

Two shapes of rows. A chat row has ``prompt`` (messages) and ``completion`` (text): the chat template's rendering with the
generation prompt, then the completion and the end-of-turn token, which alone carry loss. A mark row has ``prompt`` (a
transcript with ``<|mark|>`` after each sentence) and ``completion`` (a label token for each mark): the target stands at the
mark and is not fed back, as in serving.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetune.hf_checkpoint import read_json
from harness.errors import InputError
from skills.annotate import mark
from skills.ask import prompt as ask
from skills.expand import prompt as expand

END_OF_TURN = "<|im_end|>"
# ChatML, for bases whose tokenizer has its marks but no template of its own.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


TEMPLATES = {expand.CONTRACT: expand.CHAT_TEMPLATE}
"""Chat templates of contracts that have one of their own, whatever the base's."""
MAKERS = {
    expand.CONTRACT: "python finetune/dataset/prepare_data.py --help",
    ask.CONTRACT: "python finetune/dataset/qasa.py --help, or synthesize_qa.py beside it",
}
"""What makes the data folder of a contract; those of /annotate have one maker for all."""


@dataclass(frozen=True)
class Example:
    """One row, ready for the model. The logits at ``ids[positions[i]]`` should predict the token ``targets[i]``."""

    name: str
    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    targets: NDArray[np.int64]
    cut: bool = False
    """The row had more tokens than are here."""


@dataclass(frozen=True)
class Labels:
    """The label vocabulary of a mark data set: ``sets[i]`` is what the i-th label token names."""

    moves: tuple[str, ...]
    sets: tuple[tuple[str, ...], ...]

    @property
    def tokens(self) -> list[str]:
        """The label tokens in order."""
        return [mark.label(stated) for stated in self.sets]

    @property
    def matrix(self) -> NDArray[np.float32]:
        """``[labels, moves]``, 1 where the label names the move."""
        return np.array([[move in stated for move in self.moves] for stated in self.sets], dtype=np.float32)


@dataclass(frozen=True)
class DataFolder:
    """What a data folder is of, read from ``card.json`` and, for marks, ``labels.json``."""

    folder: Path
    contract: str
    labels: Labels | None
    card: Mapping[str, Any]

    @property
    def is_mark(self) -> bool:
        """True when rows are transcripts with marks."""
        return self.labels is not None

    def file(self, split: str) -> Path:
        """The rows of ``train`` or ``valid``."""
        return self.folder / f"{split}.jsonl"


def open_folder(folder: Path, contract: str = "") -> DataFolder:
    """Read the card of a data folder. Raises InputError when it is none, or of another contract than the one asked for."""
    if not folder.is_dir():
        maker = MAKERS.get(contract, "python -m finetune.build_finetune_from_annotations --help")
        raise InputError(f"{folder}: no such data folder", f"make it with: {maker}")
    card = read_json(folder / "card.json")
    found = card.get("contract")
    if not isinstance(found, str):
        raise InputError(f"{folder / 'card.json'}: names no contract", "build the folder again")
    if contract and found != contract:
        raise InputError(
            f"{folder}: its rows are of {found}, the configuration wants {contract}", "build it for that contract"
        )
    labels = _read_labels(folder / "labels.json") if found == mark.CONTRACT else None
    data = DataFolder(folder, found, labels, card)
    for split in ("train", "valid"):
        if not data.file(split).is_file():
            raise InputError(f"{data.file(split)}: missing", "build the folder again")
    return data


def _read_labels(path: Path) -> Labels:
    values = read_json(path)
    try:
        moves, sets = tuple(map(str, values["moves"])), tuple(tuple(map(str, stated)) for stated in values["sets"])
    except (KeyError, TypeError):
        raise InputError(f"{path}: has no lists 'moves' and 'sets'", "build the folder again") from None
    if not sets or len(set(sets)) < len(sets) or any(move not in moves for stated in sets for move in stated):
        raise InputError(f"{path}: 'sets' is empty, or has doubles or unknown moves", "build the folder again")
    return Labels(moves, sets)


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """``(file:line, row)`` of a JSONL file. Raises InputError that names the line."""
    try:
        with path.open(encoding="utf-8") as handle:
            for number, line in enumerate(handle, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise InputError(f"{path}:{number}: no JSON ({error.msg})", "build the folder again") from None
                if not isinstance(row, dict) or "prompt" not in row or "completion" not in row:
                    raise InputError(f"{path}:{number}: no object with prompt and completion", "build the folder again")
                yield f"{path}:{number}", row
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})", "build the folder again") from None


def give_template(tokenizer: Any, contract: str) -> None:
    """Set the contract's own chat template, or ChatML where there is none. Raises InputError where that cannot be."""
    if contract in TEMPLATES:
        tokenizer.chat_template = TEMPLATES[contract]
    elif not tokenizer.chat_template:
        if tokenizer.convert_tokens_to_ids("<|im_start|>") in (None, tokenizer.unk_token_id):
            raise InputError("the base's tokenizer has no chat template", "take an instruct model, or contract mark@1")
        tokenizer.chat_template = CHATML


class Encoder:
    """Rows to examples with one tokenizer. The tokenizer of a mark run must hold the mark and label tokens already."""

    def __init__(self, tokenizer: Any, labels: Labels | None, max_length: int, contract: str = "") -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self.label_ids: dict[str, int] = {}
        if labels is not None:
            self.mark_id = tokenizer.convert_tokens_to_ids(mark.MARK)
            self.label_ids = {token: tokenizer.convert_tokens_to_ids(token) for token in labels.tokens}
            return
        give_template(tokenizer, contract)
        end = tokenizer.convert_tokens_to_ids(END_OF_TURN)
        self.end_id = tokenizer.eos_token_id if end in (None, tokenizer.unk_token_id) else end

    def encode(self, where: str, row: Mapping[str, Any]) -> Example:
        """One row; ``where`` names it in errors (InputError)."""
        ids, positions, targets = (self._mark if self.label_ids else self._chat)(where, row)
        keep = positions < self.max_length
        if not keep.any() and len(ids) <= self.max_length:
            raise InputError(f"{where}: nothing to learn from", "its completion is empty: build the folder again")
        name = str(row.get("id") or where)
        return Example(name, ids[: self.max_length], positions[keep], targets[keep], len(ids) > self.max_length)

    def _ids(self, text: str) -> NDArray[np.int64]:
        return np.array(self.tokenizer(text, add_special_tokens=False)["input_ids"], dtype=np.int64)

    def _chat(self, where: str, row: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        prompt, completion = row["prompt"], row["completion"]
        messages = isinstance(prompt, list) and all(isinstance(m, dict) and {"role", "content"} <= m.keys() for m in prompt)
        if not messages or not prompt or not isinstance(completion, str):
            raise InputError(
                f"{where}: prompt must be chat messages, completion a text", "build the folder for this contract"
            )
        text = self.tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
        # Prompt and completion are tokenized apart: in serving no token can span the two.
        before, after = self._ids(text), np.append(self._ids(completion), self.end_id)
        positions = np.arange(len(before) - 1, len(before) + len(after) - 1)
        return np.concatenate([before, after]), positions, after

    def _mark(self, where: str, row: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        prompt, completion = row["prompt"], row["completion"]
        if not isinstance(prompt, str) or not isinstance(completion, list):
            raise InputError(
                f"{where}: prompt must be a transcript, completion label tokens", "build the folder for mark@1"
            )
        if unknown := [token for token in completion if token not in self.label_ids]:
            raise InputError(f"{where}: {unknown[0]!r} is no token of labels.json", "build the folder again")
        ids = self._ids(prompt)
        positions = np.flatnonzero(ids == self.mark_id)
        if len(positions) != len(completion):
            raise InputError(f"{where}: {len(positions)} marks and {len(completion)} labels", "build the folder again")
        return ids, positions, np.array([self.label_ids[token] for token in completion], dtype=np.int64)


@dataclass(frozen=True)
class Split:
    """The examples of one file, and how many rows had more tokens than ``max_length``."""

    examples: list[Example]
    too_long: int
    rows: int


def load_split(path: Path, encoder: Encoder, too_long: str) -> Split:
    """All rows of a file as examples; those over the length are left out (``drop``) or cut. InputError if none is left."""
    examples, over, count = [], 0, 0
    for where, row in read_rows(path):
        count += 1
        example = encoder.encode(where, row)
        over += example.cut
        if not example.cut or (too_long == "cut" and len(example.positions)):
            examples.append(example)
    if not examples:
        message = (
            f"{path}: all {count} rows have more than {encoder.max_length} tokens" if count else f"{path}: has no rows"
        )
        raise InputError(message, "raise max_length" if count else "build the folder again")
    return Split(examples, over, count)


def trained_share(examples: Sequence[Example]) -> float:
    """Trained positions over all tokens."""
    return sum(len(e.positions) for e in examples) / max(1, sum(len(e.ids) for e in examples))

"""Abstracts with section heads: written as PubMed prints them, and taken off for training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from finetune.dataset import section_heads
from finetune.dataset.section_heads import abstracts, with_heads, without_head
from harness.errors import InputError
from harness.sentences import split

ROW = {
    "doc_id": "17",
    "title": "Sleep on night\n shifts?",
    "sentences": ["Nurses sleep little.", "We asked  40 of them.", "Half slept.", "Naps may help."],
    "labels": ["BACKGROUND", "METHODS", "METHODS", "CONCLUSIONS*"],
}


def written(folder: Path, *rows: Mapping[str, object]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_an_abstract_has_each_head_once_and_the_same_sentences(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert section_heads.main([str(written(tmp_path, ROW)), "--out", str(out)]) == 0
    (paper,) = map(json.loads, out.read_text().splitlines())
    assert (paper["arxiv_id"], paper["title"]) == ("17", "Sleep on night shifts?")
    sentences = [sentence.text for sentence in split(paper["abstract"])]
    assert sentences == [
        "BACKGROUND: Nurses sleep little.",
        "METHODS: We asked 40 of them.",
        "Half slept.",
        "CONCLUSIONS: Naps may help.",
    ]
    assert [without_head(sentence) for sentence in sentences] == [" ".join(text.split()) for text in ROW["sentences"]]


def test_a_section_without_a_head_in_print_gets_none() -> None:
    assert with_heads(["One.", "Two.", "Three."], ["UNLABELLED", "UNLABELLED", "AIM"]) == "One. Two. AIM: Three."


@pytest.mark.parametrize(
    "text", ["We found: nothing.", "A: an answer.", "COVID-19: a review.", "RESULTS:", "iPhone users: all."]
)
def test_what_is_no_head_stays(text: str) -> None:
    assert without_head(text) == text


def test_a_row_that_lacks_a_head_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, ROW, {**ROW, "labels": ["METHODS"]})
    with pytest.raises(InputError, match="row 2"):
        list(abstracts(path))

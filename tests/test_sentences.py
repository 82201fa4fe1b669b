"""Sentences are spans of the text, and they end where a reader would end them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.sentences import locate, split

GOLD = Path(__file__).parents[2] / "shared" / "data" / "gold" / "moves_train.jsonl"


def texts(text: str) -> list[str]:
    return [sentence.text for sentence in split(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("We do X. It works.", ["We do X.", "It works."]),
        ("Models (e.g. GPT-4) fail. We fix them.", ["Models (e.g. GPT-4) fail.", "We fix them."]),
        ("Smith et al. show that p < 0.05 holds.", ["Smith et al. show that p < 0.05 holds."]),
        ("We beat Smith et al. We also run fast.", ["We beat Smith et al.", "We also run fast."]),
        ("It gains 3.5 points vs. the baseline.", ["It gains 3.5 points vs. the baseline."]),
        ("A line\nbreak is no end. This is one.", ["A line\nbreak is no end.", "This is one."]),
        ("Background\n\nWe study it", ["Background", "We study it"]),
        ("We show $f(x. Y) = 1$. Done here.", ["We show $f(x. Y) = 1$.", "Done here."]),
        ("Does it help? Yes! We think so.", ["Does it help?", "Yes!", "We think so."]),
        ("A lost space.We go on.", ["A lost space.", "We go on."]),
        ('He said "stop." Then he left.', ['He said "stop."', "Then he left."]),
        ("Use v1.2 of U.S. data. ok.com is a site.", ["Use v1.2 of U.S. data. ok.com is a site."]),
        ("", []),
        (" \n\n ", []),
    ],
)
def test_ends(text: str, expected: list[str]) -> None:
    assert texts(text) == expected


@given(st.text(alphabet="aA .!?\n$\\(){}1ü。", max_size=120))
def test_sentences_are_ordered_spans_that_lose_only_white_space(text: str) -> None:
    found = split(text)
    position = 0
    for sentence in found:
        assert text[sentence.start : sentence.end] == sentence.text == sentence.text.strip() != ""
        assert text[position : sentence.start].strip() == ""
        position = sentence.end
    assert text[position:].strip() == ""


def test_given_sentences_are_located_in_order() -> None:
    found = locate("A b. A b. C.", ["A b.", "A b.", "C."])
    assert found is not None
    assert [(s.start, s.end) for s in found] == [(0, 4), (5, 9), (10, 12)]
    assert locate("A b.", ["B."]) is None
    assert locate("A b.", [""]) is None


@pytest.mark.skipif(not GOLD.exists(), reason="the project's data is not beside the checkout")
def test_agrees_with_the_segmentation_of_the_gold() -> None:
    rows = [json.loads(line) for line in GOLD.read_text().splitlines()]
    same = sum(texts(row["abstract"]) == row["sentences"] for row in rows)
    assert same / len(rows) >= 0.98

"""Sentences are spans of the text, and they end where a reader would end them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentences_reference import split as reference

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
        ("我们提出一种方法。它有效！“真的吗？”We do.", ["我们提出一种方法。", "它有效！", "“真的吗？”", "We do."]),
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


PIECES = [
    *"We we e.g. i.e. Fig. al. etc. J. B. U.S. No. min. 1. 2) (a) iv pH mRNA results The 3.5 v1.0 end.Next ab.The".split(),
    *". ... !? … ] ) ( , ; : — ' \" ” $ $$ \\( \\) \\[ \\] \\cite é İ x A".split(),
    *("\n", "\n\n", "\r\n", " ", "  ", "\t", "\x1c", "\u00a0", "ab\n.The"),
]


@given(st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(["", " "])), max_size=60))
def test_the_linear_splitter_gives_what_the_old_one_gave(pieces: list[tuple[str, str]]) -> None:
    text = "".join(piece + space for piece, space in pieces)
    assert split(text) == reference(text)


@pytest.mark.parametrize(
    "unit", ["We use e.g. this (Fig. 3). ", "e.g. ", "......a ", "\\( a. ", "$ a. ", "A. ", " . ", "\n "]
)
def test_time_is_in_proportion_to_length(unit: str) -> None:
    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        spent = []
        for _ in range(3):
            started = time.process_time()
            split(text)
            spent.append(time.process_time() - started)
        return min(spent)

    assert seconds(48_000) < 24 * max(seconds(6_000), 0.001)  # 8 times the text; its square would be 64

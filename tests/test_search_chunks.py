"""Chunks: whole sentences, verbatim, within the target, overlapping, under a header."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.search.chunks import chunks_of, header_of
from harness.search.documents import Block, Document, from_json, to_json
from harness.sentences import split

SENTENCES = [f"Sentence number {n} of this paper says that value {n} is larger than the one before it." for n in range(60)]
TEXT = " ".join(SENTENCES)


def test_chunks_are_whole_sentences_near_the_target_and_overlap() -> None:
    chunks = list(chunks_of(Document("Title", (Block(TEXT, "Results", ((0, 1), (2000, 2))),))))
    assert all(800 <= len(chunk.text) <= 1250 for chunk in chunks[:-1])
    for before, after in pairwise(chunks):
        shared = [s for s in SENTENCES if s in before.text and s in after.text]
        assert shared
        assert len(" ".join(shared)) <= 200
    for chunk in chunks:
        assert chunk.text in TEXT
        assert [chunk.text[a:b] for a, b, _ in chunk.sentences] == [s.text for s in split(chunk.text)]
    assert {s for chunk in chunks for s in SENTENCES if s in chunk.text} == set(SENTENCES)


def test_the_page_is_that_of_each_sentence() -> None:
    chunks = list(chunks_of(Document("T", (Block(TEXT, "", ((0, 4), (TEXT.index(SENTENCES[30]), 5))),))))
    pages = {chunk.text[a:b]: page for chunk in chunks for a, b, page in chunk.sentences}
    assert (pages[SENTENCES[29]], pages[SENTENCES[30]]) == (4, 5)
    assert chunks[0].header == "T › p. 4"
    assert chunks[-1].page == 5


def test_methods_get_larger_chunks_and_a_lone_abstract_stays_whole() -> None:
    def longest(section: str, abstract: bool = False) -> int:
        document = Document("", (Block(TEXT[:2800], section),), abstract=abstract)
        return max(len(chunk.text) for chunk in chunks_of(document))

    assert longest("Results") <= 1250 < longest("3 Methods › Data") <= 1875 < longest("", abstract=True) == 2800


def test_no_chunk_crosses_a_heading_and_references_are_marked() -> None:
    blocks = (Block("We begin. It is short.", "1 Introduction"), Block("Then we go on.", "2 Method"))
    entries = (Block("A. Author. A title. 2001.", "References", references=True),)
    chunks = list(chunks_of(Document("T", blocks + entries)))
    assert [(chunk.section, chunk.references) for chunk in chunks] == [
        ("1 Introduction", False), ("2 Method", False), ("References", True),
    ]  # fmt: skip
    assert chunks[1].indexed == "T › 2 Method\nThen we go on."


def test_what_is_no_sentence_is_cut_at_white_space() -> None:
    table = " ".join(str(n) for n in range(3000))
    chunks = list(chunks_of(Document("", (Block(table),))))
    assert max(len(chunk.text) for chunk in chunks) <= 1250
    assert {n for chunk in chunks for n in chunk.text.split()} == set(table.split())


def test_the_same_content_has_the_same_hash_and_another_header_another() -> None:
    one, two, other = (next(chunks_of(Document(title, (Block("We show a thing."),)))).hash for title in ("T", "T", "Other"))
    assert one == two != other


def test_headers_hold_what_there_is() -> None:
    assert header_of("", "", 0) == ""
    assert header_of("T", "", 3) == "T › p. 3"


def test_half_a_character_does_not_stop_anything() -> None:
    chunk = next(chunks_of(Document("a\ud800b", (Block("c\udfffd is here."),))))
    assert chunk.indexed == "a\ufffdb\nc\ufffdd is here."
    assert len(chunk.hash) == 32


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=("Cs",)), max_size=400), max_size=6),
    st.integers(20, 300),
    st.integers(0, 80),
)
def test_nothing_is_lost_whatever_the_text(texts: list[str], target: int, overlap: int) -> None:
    document = Document("T", tuple(Block(text) for text in texts))
    chunks = list(chunks_of(document, target, overlap))
    whole = "\n\n".join(text for text in texts)
    assert all(chunk.text.strip() and chunk.text in whole for chunk in chunks)
    kept = "".join(sorted(set("".join(whole.split()))))
    assert kept == "".join(sorted(set("".join("".join(chunk.text.split()) for chunk in chunks))))


def test_documents_travel_through_json() -> None:
    document = Document("T", (Block("text", "a › b", ((0, 1), (3, 2)), True),), pages=2)
    assert from_json(to_json(document)) == document


@pytest.mark.parametrize("count", [1, 2])
def test_few_sentences_are_one_chunk(count: int) -> None:
    (chunk,) = chunks_of(Document("T", (Block(" ".join(SENTENCES[:count])),)))
    assert len(chunk.sentences) == count

"""Expansions read and written, and what the filters take out of them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skills.expand.expansion import LONGEST, TYPES, Line, lines_of, one_line, ordered, parse_expansion, parse_lex, render
from skills.expand.filters import counts, filter_lines
from skills.expand.prompt import Query
from skills.expand.words import holds, kin, named_entities

FEW = settings(max_examples=40, deadline=None)
TEXTS = st.text(min_size=1).map(one_line).filter(lambda text: bool(text) and "<" not in text)
LINES = st.lists(st.builds(Line, st.sampled_from(TYPES), TEXTS), max_size=8)


def removed(query: Query, *lines: str) -> dict[str, int]:
    return counts(filter_lines(query, parse_expansion("\n".join(lines))[0]).removed)


# --- reading ---------------------------------------------------------------------------------------------------------


@FEW
@given(LINES)
def test_what_was_rendered_is_read_back(lines: list[Line]) -> None:
    assert parse_expansion(render(lines)) == (ordered(lines), [])


@FEW
@given(st.text())
def test_any_output_is_read_without_an_error(text: str) -> None:
    lines, malformed = parse_expansion(text)
    assert all(line.type in TYPES and line.text == one_line(line.text) != "" for line in lines)
    assert len(lines) + len(malformed) <= text.count("\n") + 1
    render(lines).encode()


def test_thoughts_and_what_follows_the_turn_are_no_part_of_the_answer() -> None:
    text = "<think>lex: no\n</think>\n\nlex: a b\n  vec: c\r\nhyde:\nLEX: no<|im_end|>\n<|im_start|>user\nlex: no"
    assert parse_expansion(text) == ([Line("lex", "a b"), Line("vec", "c")], ["hyde:", "LEX: no"])
    assert parse_expansion("lex: a <|im_start|>b")[0] == []


def test_control_characters_do_not_reach_a_line() -> None:
    assert parse_expansion("lex: \x1b[31mred\x1b[0m \x07bell\u202e \ud800")[0] == [Line("lex", "red bell \ufffd")]


@pytest.mark.parametrize("pair", [["lex", ""], ["title", "x"], ["vec", None], ["lex"]])
def test_gold_that_is_no_line_is_refused(pair: list[str]) -> None:
    with pytest.raises(ValueError):
        lines_of([pair])


def test_phrases_and_exclusions_of_a_lex_line() -> None:
    parts = parse_lex('"C++ performance" optimization -sports -"track and field" x-ray -i "open')
    assert parts.phrases == ("C++ performance",)
    assert parts.excluded == ("sports", "track and field")
    assert parts.words == ("optimization", "x-ray", "-i", "open")


@FEW
@given(st.text())
def test_any_lex_line_can_be_taken_apart(text: str) -> None:
    parts = parse_lex(text)
    assert all(term.strip() for term in (*parts.words, *parts.phrases, *parts.excluded))


# --- filters ---------------------------------------------------------------------------------------------------------


def test_a_good_expansion_stays_whole() -> None:
    lines = [
        Line("hyde", "Set AUTH_SECRET before the server starts."),
        Line("lex", "authentication settings"),
        Line("lex", '"auth config" -oauth environment'),
        Line("vec", "how to set up login for an application with authentication"),
    ]
    filtered = filter_lines(Query("auth config"), reversed(lines))
    assert filtered.lines == (lines[0], lines[2], lines[1], lines[3])  # by type; within one in the order given
    assert filtered.removed == ()


def test_each_reason() -> None:
    query = Query("auth config")
    assert removed(query, "lex: config auth", "vec: Auth config!", "lex: auth auth config") == {"echo": 3}
    assert removed(query, "lex: auth setup", 'lex: "Auth" setup', "lex: Auth  setup.") == {"duplicate": 1}
    assert removed(query, "lex: banana bread", "vec: baking with bananas", "hyde: Ripe fruit is best.") == {"drift": 3}
    assert removed(query, "lex: auth login login login") == {"loop": 1}
    assert removed(query, f"vec: auth {'x' * LONGEST['vec']}", "lex: auth") == {"overlong": 1}
    assert removed(Query("auth config", only=("vec",)), "lex: auth setup") == {"unwanted": 1}


def test_the_keywords_of_a_question_and_a_new_phrase_are_no_echo() -> None:
    assert removed(Query("how do I configure auth?"), "lex: configure auth") == {}
    assert removed(Query("cache miss"), 'lex: "cache miss"', "lex: cache miss -memory") == {}


def test_drift_has_the_intent_acronyms_and_short_forms_in_view() -> None:
    animal = Query("jaguar speed", "how fast the cat runs")
    assert removed(animal, "lex: big cats running") == {}
    assert removed(Query("jaguar speed"), "lex: big cats running") == {"drift": 1}
    assert removed(Query("mcts pruning"), "lex: monte carlo tree search") == {}
    assert removed(Query("large language models"), "lex: LLM agents") == {}
    assert removed(Query("k-means"), "lex: -means clusters") == {"drift": 1}
    assert removed(Query("機械学習 入門"), "lex: 機械学習モデル", "lex: 料理") == {"drift": 1}


def test_a_passage_may_share_its_words_with_a_lex_line_alone() -> None:
    hyde = "hyde: Dictatorship of one party ended elections."
    assert removed(Query("Nazi Germany"), hyde, "lex: Nazi Germany dictatorship") == {}
    assert removed(Query("Nazi Germany"), hyde, "lex: Nazi Germany economy") == {"drift": 1}


def test_a_name_must_be_in_some_lex_line() -> None:
    query = Query("fine tuning GPT-4 on tickets")
    assert removed(query, "lex: tuning language models", "lex: support tickets") == {"entity": 2}
    assert removed(query, "lex: tuning language models", "lex: gpt 4 adapters") == {}
    assert removed(query, "lex: tuning -GPT-4") == {"entity": 1}
    assert removed(Query("fine tuning GPT-4", only=("vec",)), "vec: how to adapt a model by tuning") == {}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("who is TDS motorsports", ["TDS"]),
        ("Recent news about Shopify", ["Shopify"]),
        ("C++ vs C# and node.js on k8s", ["C++", "C#", "node.js", "k8s"]),
        ("HOW TO FIX CORS ERROR 404", []),
        ("Best Laptops Right Now", []),
        ("2nd world war 24h -BMW e.g. 5-year", []),
        ('iPhone or WHO, "Claude" AND don\'t', ["iPhone", "WHO", "Claude"]),
        ("", []),
    ],
)
def test_names_by_their_looks(query: str, names: list[str]) -> None:
    assert named_entities(query) == names


def test_a_first_word_is_a_name_where_the_model_writes_it_as_one() -> None:
    assert named_entities("Rust ownership") == []
    assert named_entities("Rust ownership", ["Ownership is how Rust frees memory."]) == ["Rust"]
    assert named_entities("Ownership rules", ["Ownership is how Rust frees memory."]) == []


@FEW
@given(st.text(max_size=20), st.text(max_size=20))
def test_kinship_is_mutual(one: str, other: str) -> None:
    assert kin(one, other) == kin(other, one)
    assert kin(one, one)


@FEW
@given(st.text(min_size=1).filter(lambda name: any(letter.isalnum() for letter in name)))
def test_a_text_holds_its_own_words(name: str) -> None:
    assert holds(f"before {name} after", name)


@FEW
@given(st.text(min_size=1), LINES)
def test_filtering_twice_changes_nothing(text: str, lines: list[Line]) -> None:
    query = Query(text)
    once = filter_lines(query, lines)
    assert len(once.lines) + len(once.removed) == len(lines)
    assert set(once.lines) <= set(lines)
    again = filter_lines(query, once.lines)
    assert [one.why for one in again.removed if one.why != "drift"] == []

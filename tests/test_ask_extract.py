"""Extractive answers: which sentence is taken, that quotes are verbatim, that nothing is said twice."""

from __future__ import annotations

from ask_helpers import RYE_AIM, RYE_FOUND, evidence_for, passage
from hypothesis import given, settings
from hypothesis import strategies as st

from skills.ask.extract import alike, chosen, extractive_answer, ranked
from skills.ask.findings import cues, probability

QUESTION = "Does an early harvest improve the yield of rye?"


def test_a_finding_goes_before_the_aim_that_repeats_the_question() -> None:
    evidence, terms = evidence_for(
        QUESTION, [passage(1, f"{RYE_AIM} Twelve fields were sown by hand. {RYE_FOUND}", page=4)]
    )
    answer = extractive_answer(QUESTION, evidence, terms)
    assert answer.citations[0].quote == RYE_FOUND
    assert answer.citations[0].page == 4
    assert answer.answer.startswith(f"{RYE_FOUND} [1]")
    assert terms.coverage(evidence[0].sentences[0].stems) > terms.coverage(evidence[0].sentences[2].stems)


def test_the_passage_that_fits_best_gives_the_first_sentence() -> None:
    other = passage(1, "We found that an early start improves the mood of bakers. Bread sold better.")
    evidence, terms = evidence_for(QUESTION, [other, passage(2, f"{RYE_AIM} {RYE_FOUND}")])
    assert ranked(QUESTION, evidence, terms)[0].sentence.n == 2


def test_further_sentences_add_something_and_bear_on_the_question() -> None:
    text = f"{RYE_FOUND} In sum, an early harvest reduced the yield of rye by 14 kg. We found that bread was cheap in May."
    evidence, terms = evidence_for(QUESTION, [passage(1, text)])
    kept = [one.sentence.text for one in chosen(ranked(QUESTION, evidence, terms))]
    assert len(kept) == 1
    assert "reduced the yield of rye" in kept[0]


def test_a_question_for_an_amount_prefers_a_sentence_with_a_number() -> None:
    few, many = "The yield of rye fell after the harvest.", "The yield of rye fell by 14 kg after the harvest."
    question = "How much did the yield of rye fall after the harvest?"
    evidence, terms = evidence_for(question, [passage(1, f"{few} {many}")])
    assert ranked(question, evidence, terms)[0].sentence.text == many


def test_a_question_for_a_meaning_prefers_the_sentence_that_gives_it() -> None:
    said, used = "A sparse check (SC) is a question about one cell.", "We found that every sparse check reduced errors."
    question = "What is a sparse check?"
    evidence, terms = evidence_for(question, [passage(1, f"{used} {said}")])
    assert ranked(question, evidence, terms)[0].sentence.text == said


def test_equal_scores_keep_the_order_of_the_text() -> None:
    evidence, terms = evidence_for("rye", [passage(1, "Rye grows on sand. Rye grows on clay.")])
    assert [one.sentence.at for one in ranked("rye", evidence, terms)] == [0, 1]


def test_a_follow_up_is_answered_by_its_own_words() -> None:
    text = "We found that rye fell by 14 kg. The harvest of rye assumes dry weather."
    asked = "And what does it assume? (rye fell harvest)"
    evidence, terms = evidence_for(asked, [passage(1, text)])
    _, focus = evidence_for("And what does it assume?", [])
    assert ranked(asked, evidence, terms, focus)[0].sentence.at == 1


def test_sentences_that_say_the_same_are_alike() -> None:
    assert alike(("rye", "yield", "fell"), ("yield", "rye", "fell", "twice", "here"))
    assert not alike(("rye", "yield", "fell"), ("oat", "yield", "rose"))


@given(st.lists(st.text(max_size=60), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_every_quote_is_verbatim_whatever_the_text(texts: list[str]) -> None:
    passages = [passage(n, text) for n, text in enumerate(texts, 1)]
    evidence, terms = evidence_for(QUESTION, passages)
    if any(one.sentences for one in evidence):
        answer = extractive_answer(QUESTION, evidence, terms)
        by_number = {one.n: one.text for one in passages}
        assert answer.citations
        assert all(one.quote in by_number[one.n] for one in answer.citations)


def test_findings_read_as_findings() -> None:
    assert probability(RYE_FOUND) > 2 * probability(RYE_AIM)
    assert probability("We found no significant difference (p = 0.4).") > 0.8
    assert probability("Little is known about whether barns should be closed.") < 0.5
    assert cues("It rose 3% to 4.5%.") >= {"0 %", "rose 0", "to"}

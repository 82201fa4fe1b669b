"""Judging evidence: what raises and lowers the verdict, and what an abstention says."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from ask_helpers import Counts, evidence_for, passage

from skills.ask.abstain import BACKGROUND, MEASURES, NOT_ANSWERED, PATH, abstained, calibration, judge, measures
from skills.ask.answering import threshold_for
from skills.ask.passages import bm25, pair_coverage, strengths
from skills.ask.terms import Stemmer, terms_of

QUESTION = "Does dry storage prevent mould in oats?"
ANSWER = "Dry storage prevented mould in oats. The barns were old."


def verdict_on(*texts: str) -> float:
    evidence, terms = evidence_for(QUESTION, [passage(n, text) for n, text in enumerate(texts, 1)])
    return judge(evidence, terms).probability


def test_more_of_the_question_is_more_evidence() -> None:
    whole, part, none = verdict_on(ANSWER), verdict_on("Dry years are hard on oats."), verdict_on("Cats sleep long.")
    assert whole > 0.9 > part > none
    assert none < 0.05


def test_a_passage_must_stand_out_from_what_shares_its_topic() -> None:
    topic = [f"Oats and mould and dry storage are subject number {n}." for n in range(BACKGROUND)]
    assert verdict_on(topic[0]) > verdict_on(*topic)
    assert verdict_on(ANSWER, *topic[1:8]) == pytest.approx(verdict_on(ANSWER, ANSWER, *topic[2:8]), abs=0.15)


def test_measures_are_shares_and_nothing_is_no_evidence() -> None:
    evidence, terms = evidence_for(QUESTION, [passage(1, ANSWER)])
    found = measures(evidence, terms)
    assert set(found) == set(MEASURES)
    assert all(0 <= value <= 1 for value in found.values())
    assert found["passage"] == 1
    assert judge([], terms).probability == 0
    nothing, none = evidence_for("is it so?", [passage(1, ANSWER)])
    assert none.stems == () or judge(nothing, none).probability < 1


def test_an_abstention_names_what_is_missing_the_rarest_first() -> None:
    evidence, terms = evidence_for(QUESTION, [passage(1, "Oats are sold dry.")], storage=500)
    verdict = judge(evidence, terms)
    answer = abstained(QUESTION, verdict)
    assert not verdict.enough
    assert (answer.answer, answer.abstained, answer.citations) == (NOT_ANSWERED, True, ())
    assert verdict.missing[0] != "storage"
    assert set(verdict.missing) >= {"mould", "storage"}
    assert "mould" in answer.reasoning


def test_the_threshold_is_the_users_or_the_calibrated_one() -> None:
    calibrated = json.loads(PATH.read_text())
    assert threshold_for(None, False) == calibrated["threshold"]
    assert threshold_for(None, True) == calibrated["with_model"] < calibrated["threshold"]
    assert threshold_for(0.0, True) == 0
    assert calibrated["lineage"]["fitted_on"]
    evidence, terms = evidence_for(QUESTION, [passage(1, "Cats sleep long.")])
    assert judge(evidence, terms, 0.0).enough


def test_strength_is_comparable_between_questions() -> None:
    evidence, terms = evidence_for(QUESTION, [passage(1, ANSWER), passage(2, "Cats sleep.")])
    strong = strengths(evidence, terms)
    assert 0 < strong[0] < 1
    assert strong[1] == 0
    short = terms_of("oats", Counts(), Stemmer())
    assert bm25(Counter(["oat"] * 1000), 1.0, short) == pytest.approx(1, abs=0.01)


def test_the_number_of_a_page_is_no_evidence() -> None:
    evidence, terms = evidence_for(
        "What happened in chapter 14?", [passage(1, "Cats sleep.", title="On cats › p. 14", page=14)]
    )
    assert "14" not in evidence[0].header
    assert terms.coverage(evidence[0].header) == 0


def test_pairs_count_where_they_stand_together() -> None:
    terms = terms_of("dry storage", Counts(), Stemmer())
    assert pair_coverage([["dry", "storag"]], terms) == 1
    assert pair_coverage([["dry"], ["storag"]], terms) == 0


def test_words_that_only_ask_do_not_count_unless_alone() -> None:
    stemmer = Stemmer()
    assert terms_of("What do the authors say about rye?", Counts(), stemmer).stems == ("rye",)
    assert terms_of("Which papers compare authors?", Counts(), stemmer).stems == ("paper", "compar", "author")


def test_a_question_of_which_the_index_has_too_little_is_not_answered() -> None:
    text = "The capital of the firm was raised twice. Capital is dear."
    evidence, terms = evidence_for("What is the capital of France?", [passage(1, text)], france=0)
    verdict = judge(evidence, terms)
    assert verdict.probability > calibration()["with_model"]  # the passage stands out …
    assert not verdict.enough  # … and yet
    assert "Nothing that is indexed has france" in verdict.reason
    assert judge(evidence, terms, 0.0).enough  # as asked for
    known, _ = evidence_for("What is the capital of France?", [passage(1, text)])
    assert judge(known, terms_of("What is the capital of France?", Counts(), Stemmer())).unknown == ()


def test_one_strange_word_among_many_is_no_reason() -> None:
    question = "Does dry storage of oats in larch barns prevent yellow mould?"
    evidence, terms = evidence_for(question, [passage(1, "Dry storage of oats in barns prevented mould.")], larch=0)
    assert terms.unknown == {"larch"}
    assert judge(evidence, terms).unknown == ()


def test_words_that_say_little_are_not_named_as_missing() -> None:
    _, terms = evidence_for("How long did the last harvest of spelt take?", [], spelt=0)
    assert "spelt" in terms.lacking(())
    assert {"long", "last"} <= set(terms.missing(()))
    assert not {"long", "last"} & set(terms.lacking(()))

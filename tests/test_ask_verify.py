"""Checks of written answers: quotes, numbers, negations, support."""

from __future__ import annotations

import time
import unicodedata

import pytest
from ask_samples import LOSS, RYE, passage, passages
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from skills.ask import figures, quotes
from skills.ask.prompt import Claim, Draft
from skills.ask.support import Evidence
from skills.ask.terms import Stemmer
from skills.ask.turns import denied, turned
from skills.ask.verify import Checked, Verifier, cite

WORDS = st.text(st.sampled_from("abcdefghij0123456789ﬁéß½²-–.,%'“”$(){}\u00ad\ufffe"), min_size=1, max_size=9)
TEXTS = st.lists(st.tuples(WORDS, st.sampled_from([" ", "\n", "  ", "\n\n", "\u00a0"])), min_size=4, max_size=25)


def check(text: str, *citations: tuple[int, str]) -> Checked:
    return Verifier(passages()).check_claim(Claim(text, citations))


def kinds(checked: Checked) -> list[str]:
    return [problem.kind for problem in checked.problems]


@given(TEXTS, st.data())
@settings(max_examples=150, deadline=None)
def test_words_taken_from_a_text_are_always_found_however_they_are_set(
    pieces: list[tuple[str, str]], data: st.DataObject
) -> None:
    text = "".join(word + gap for word, gap in pieces)
    first = data.draw(st.integers(0, len(pieces) - 1))
    last = data.draw(st.integers(first, len(pieces) - 1))
    quote = " ".join(word for word, _ in pieces[first : last + 1])
    assume(quotes.plain(quotes.trimmed(quote)).text)
    for way in (quote, unicodedata.normalize("NFKC", quote) if not set("½²") & set(quote) else quote, quote.upper()):
        span = quotes.find(way, text)
        assert span is not None
        assert quotes.plain(text[slice(*span)]).text == quotes.plain(quotes.trimmed(way)).text


@given(TEXTS, st.data())
@settings(max_examples=150, deadline=None)
def test_a_quote_is_only_found_with_the_digits_that_it_has(pieces: list[tuple[str, str]], data: st.DataObject) -> None:
    text = "".join(word + gap for word, gap in pieces)
    places = [at for at, character in enumerate(text) if character in "0123456789"]
    assume(places)
    at = data.draw(st.sampled_from(places))
    other = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != text[at]]))
    changed = text[:at] + other + text[at + 1 :]
    assert quotes.find(changed, text) is None  # the whole text can stand nowhere else
    start, end = max(0, at - data.draw(st.integers(0, 12))), at + 1 + data.draw(st.integers(0, 12))
    span = quotes.find(changed[start:end], text)
    if span is not None:  # elsewhere, where the text has these very digits
        assert _digits(text[slice(*span)]) == _digits(quotes.trimmed(changed[start:end]))


def _digits(text: str) -> str:
    return "".join(c for c in text if c in "0123456789")


@pytest.mark.parametrize(
    ("quote", "found"),
    [
        ("sowed rye on 24 fields near the coast", "sowed rye on 24 ﬁelds near the coast"),
        ("The early sowing did not raise the yield", "The early sow-\ning did not raise the yield"),
        (
            "“Rye grew 12.5% faster than oats on sandy soil (p<0.05).”",
            "Rye grew 12.5% faster than oats on sandy soil (p < 0.05)",
        ),
        ("Rye grew 12.5% … on sandy soil", "Rye grew 12.5% faster than oats on sandy soil"),
        ("grew 12.5% fäster", None),
        ("2.5% faster than oats", None),
        ("rye on 2", None),
        ("Rye grew 12.6% faster", None),
        ("on sandy soil … Rye grew", None),
        ("rew 12.5% faster than oats", None),
        ("1,200 litre", None),
        ("…", None),
        ("", None),
    ],
)
def test_quotes_are_found_as_they_stand_and_only_whole_words(quote: str, found: str | None) -> None:
    span = quotes.find(quote, RYE)
    assert (RYE[slice(*span)] if span else None) == found


def test_a_citation_has_the_files_own_words_and_the_page_they_stand_on() -> None:
    first = cite("WE SOWED RYE on 24 fields", passage(RYE))
    last = cite("each field was watered for 3 weeks", passage(RYE))
    assert first is not None
    assert last is not None
    assert (first.quote, first.page, first.file) == ("We sowed rye on 24 ﬁelds", 4, "rye.pdf")
    assert (last.quote, last.page) == ("Each field was watered for 3 weeks", 5)
    assert cite("rye", passage(RYE)) is None  # shows nothing
    assert cite("It fell.", passage("It fell. Then came rain.")) is not None  # short, but a whole sentence
    assert cite("Table 2.", passage("Table 2. Then came rain.")) is None


@pytest.mark.parametrize(
    ("claim", "evidence"),
    [
        ("gains 5%", "gains 5 percent"),
        ("gains 5 per cent", "5\\% more"),
        ("1000 tasks and 12743 pairs", "1,000 tasks, 12,743 pairs"),
        ("12 000 cells", "12,000 cells"),
        ("a score of 0.5", "a score of .5"),
        ("3 tasks, 23 raters", "three tasks with twenty-three raters"),
        ("a 7B model", "7 billion parameters"),
        ("GPT 4 and Llama-2-7B", "GPT-4, LLaMA 2 7B"),
        ("10^{-4}", "a rate of 10−4"),
        ("a fall of 5 points", "changed by −5 points"),
        ("5 mg and 10 mg", "doses (mg): 5, 10"),
        ("about 71%", "71.3%"),
        ("two methods", "BM25 and dense search"),
        ("a chance of 5%", "p = 0.05"),
        ("5-shot, 10-fold", "five-shot with ten folds"),
        ("(1) first and (2) second", "first and second"),
    ],
)
def test_numbers_are_the_same_however_they_are_written(claim: str, evidence: str) -> None:
    assert figures.missing(claim, [evidence]) == []


@pytest.mark.parametrize(
    ("claim", "evidence", "missing"),
    [
        ("gains 5%", "gains 6%", ["5%"]),
        ("takes 5 ms", "takes 5 s", ["5 ms"]),
        ("rises by 5 percentage points", "rises by 5%", ["5 percentage points"]),
        ("reaches 71.3", "reaches 71.35", ["71.3"]),
        ("71%", "71.3%", ["71%"]),
        ("a change of -5", "a change of 5", ["5"]),
        ("three tasks", "five tasks", ["three"]),
        ("GPT-4 wins", "GPT-3 wins", ["GPT-4"]),
        ("GPT-4", "GPT-41", ["GPT-4"]),
        ("BM25", "BM 2 of 5", ["BM25"]),
        ("in 2019", "in 2018 with 20192", ["2019"]),
        ("1 million", "1 billion", ["1 million"]),
    ],
)
def test_numbers_units_and_names_that_differ_are_missing(claim: str, evidence: str, missing: list[str]) -> None:
    assert figures.missing(claim, [evidence]) == missing


@given(st.decimals(0, 10**6, places=3), st.data())
def test_a_number_with_another_digit_is_missing(value: object, data: st.DataObject) -> None:
    text = f"{value:f}"
    at = data.draw(st.sampled_from([at for at, c in enumerate(text) if c.isdigit()]))
    other = data.draw(st.sampled_from([digit for digit in "0123456789" if digit != text[at]]))
    changed = text[:at] + other + text[at + 1 :]
    assert figures.missing(f"It is {text} here.", [f"They saw {text} there."]) == []
    assert figures.missing(f"It is {changed} here.", [f"They saw {text} there."]) != []


@pytest.mark.parametrize(
    ("claim", "sentence", "said"),
    [
        ("Sowing did raise the yield of oats.", "Sowing did not raise the yield of oats.", "drops 'not'"),
        ("Rye doesn't grow on sand.", "Rye does grow on sand.", "adds 'not'"),
        ("Rye grew slower than oats on sand.", "Rye grew faster than oats on sand.", "has 'slower' for 'faster'"),
        (
            "Training increases the error on all sets.",
            "Training decreases the error on all sets.",
            "has 'increases' for 'decreases'",
        ),
        ("Oats outperform rye in the north.", "Rye outperforms oats in the north.", "swaps the sides of 'outperform'"),
        ("Rye grew faster than oats on sand.", "Rye grew faster than oats on sand.", ""),
        ("Rain is inadequate for rye on sand.", "Rain is not adequate for rye on sand.", ""),
        ("Rain did not help rye on sand.", "We asked whether rain did help rye on sand.", ""),
        ("Rye does not grow on sand.", "Rye doesn't grow on sand.", ""),
        ("The coast is wet.", "Rye does not grow on sand.", ""),
        ("Rye grew faster than oats.", "On sand, rye grew faster than oats and wheat.", ""),
    ],
)
def test_plain_turns_are_seen(claim: str, sentence: str, said: str) -> None:
    assert turned(claim, sentence, Stemmer()) == said


def test_a_number_of_the_passage_in_the_place_of_another_is_seen() -> None:
    found = check("Each field was watered for 24 weeks with 1,200 litres.", (1, "Each field was watered for 3 weeks"))
    assert [problem.message for problem in found.problems] == ["passage 1 does not have 24 weeks"]
    assert check("On 24 fields, watered for 3 weeks, rye grew.", (1, "Each field was watered for 3 weeks")).holds


def test_a_true_sentence_holds() -> None:
    found = check("Rye grew 12.5 percent faster than oats on sand.", (1, "Rye grew 12.5% faster than oats on sandy soil"))
    assert found.holds
    assert found.problems == ()
    assert found.citations[0].quote in RYE


@pytest.mark.parametrize(
    ("text", "citation", "kind"),
    [
        ("Rye grew 13.5% faster than oats on sandy soil.", (1, "Rye grew 12.5% faster than oats"), "figure"),
        ("Early sowing did raise the yield of oats.", (1, "The early sowing did not raise the yield of oats"), "turn"),
        ("Wheat prices rose after the war in many countries.", (1, "Rye grew 12.5% faster than oats"), "support"),
        (
            "The loss is $L = \\sum_{i=1}^{n} y_i \\log p_i$.",
            (2, "The loss is $L = -\\sum_{i=1}^{n} y_i \\log p_i$"),
            "equation",
        ),
    ],
)
def test_a_false_sentence_does_not_hold_whatever_it_quotes(text: str, citation: tuple[int, str], kind: str) -> None:
    found = check(text, citation)
    assert kind in kinds(found)
    assert not found.holds


def test_an_equation_that_cannot_be_compared_is_remarked_and_holds_no_sentence_up() -> None:
    found = check("Rye on sandy soil grew by $r = \\frac{a}{b}$.", (1, "Rye grew 12.5% faster than oats on sandy soil"))
    assert found.holds
    assert found.notes == ("not checked, its passages have no LaTeX: r = \\frac{a}{b}",)


def test_a_quote_that_is_not_there_is_replaced_by_the_sentence_that_supports() -> None:
    found = check("Rye grew 12.5% faster than oats on sandy soil.", (1, "rye is much quicker than any oats"))
    assert kinds(found) == ["quote"]
    assert found.holds
    assert [citation.quote for citation in found.citations] == [RYE[RYE.index("Rye grew") : RYE.index(" The early")]]
    assert kinds(check("Rye grew 12.5% faster than oats on sandy soil.", (7, "Rye grew 12.5% faster"))) == ["number"]


def test_a_quote_that_is_there_but_says_nothing_of_it_is_replaced_too() -> None:
    found = check(
        "Rye grew 12.5% faster than oats on sandy soil.", (1, "Each field was watered for 3 weeks with 1,200 litres")
    )
    assert found.problems == ()
    assert [(one.quote[:9], one.page) for one in found.citations] == [("Rye grew ", 4)]
    both = ((1, "Rye grew 12.5% faster than oats"), (1, "We sowed rye on 24 fields near the coast"))
    assert len(check("Sowed on 24 fields near the coast, rye grew 12.5% faster than oats.", *both).citations) == 2


def test_a_sentence_that_nothing_says_holds_with_no_citation_at_all() -> None:
    found = check("Bees prefer lavender to clover.")
    assert (kinds(found), found.citations, found.holds) == (["support"], (), False)


def test_rare_words_weigh_more_in_support() -> None:
    evidence = Evidence(passages())
    assert evidence.containment("rye on sandy soil", {1}) == pytest.approx(1.0)
    assert evidence.containment("rye on sandy soil", {2}) == 0.0
    assert evidence.weight("zebra") > evidence.weight("rye") > 0
    best = evidence.best("Which card was training done on, eight of them?")
    assert best is not None
    assert best[1].text == "Training took 5 h on eight cards."


def test_a_whole_draft_is_checked_in_order() -> None:
    draft = Draft(
        "", True, (Claim("Training took 5 h on eight cards.", ((2, "Training took 5 h on eight cards."),)), Claim("No."))
    )
    first, second = Verifier(passages()).check(draft)
    assert (first.holds, second.holds) == (True, False)
    assert first.citations[0].quote == "Training took 5 h on eight cards"
    assert first.citations[0].quote in LOSS


@pytest.mark.parametrize(
    "text",
    ["a" * 5000, "a-" * 3000, "1," * 3000, "…" * 3000, "a.b/" * 2000 + " ", "( " * 3000, "x1" * 2500, "nine-" * 1000],
)
def test_checks_of_odd_texts_end_soon(text: str) -> None:
    started = time.monotonic()
    text = text[:4000]  # of a passage; a sentence has 1,000 at most
    figures.missing(text[:1000], [text[1:]])
    quotes.find(text[:1000], text)
    turned(text[:1000], text, Stemmer())
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("text", "silent"),
    [
        ("The passages do not mention the soil.", True),
        ("None of these papers studies bees.", True),
        ("It is not stated how often the fields were watered.", True),
        ("Nothing in the passages concerns wheat.", True),
        ("Rye did not grow faster.", False),
        ("The study did not show an effect of sowing early.", False),
        ("The paper does not need labels.", False),
    ],
)
def test_what_is_silent_is_told_from_what_is_denied(text: str, silent: bool) -> None:
    found = check(text)
    assert found.remark is silent
    assert not (silent and found.holds)


def test_a_remark_may_name_what_it_misses_but_not_deny_what_is_there() -> None:
    quoted = (1, "Each field was watered for 3 weeks with 1,200 litres")
    assert check("Each field was watered for 3 weeks, so nothing is said about 12 weeks.", quoted).holds
    assert kinds(check("Each field was watered for 12 weeks, and nothing is said about 3 weeks.", quoted)) == ["figure"]


@pytest.mark.parametrize(
    ("text", "quote", "said"),
    [
        ("After two weeks by the sea, the two groups differed.", "The groups did not differ.", "drops 'not'"),
        ("As to the harvest, oats did not improve.", "Sown early, the oats improved.", "adds 'not'"),
        ("No: the gain disappears when tasks have fewer than ten steps.", "The gain disappears below ten steps.", ""),
        ("Few groups differed.", "Most groups did not differ.", ""),
        ("Those who answered did better.", "Those who did not answer did worse.", ""),
        ("The groups differed in weight.", "The groups differed in weight and did not differ in height.", ""),
        ("The groups differed.", "We asked whether the groups did not differ.", ""),
    ],
)
def test_a_claim_may_not_deny_its_quote(text: str, quote: str, said: str) -> None:
    assert denied(text, quote, Stemmer()) == said


def test_an_answering_no_negates_nothing() -> None:
    assert turned("No: rye grew faster than oats.", "Rye grew faster than oats.", Stemmer()) == ""

"""Each check fires on its defect and is silent where the annotation is true to the abstract."""

from __future__ import annotations

import pytest

from curation import checks
from curation.annotation import Annotation, parts_of
from curation.checks import CHECKS, findings
from curation.personas import load_panel

SENTENCES = (
    "Tide tables for small harbours are often wrong.",
    "Existing methods fit one model to every harbour and ignore the shape of the sea floor.",
    "We present TideNet, a novel network that corrects the tables from three cheap gauges.",
    "TideNet is trained on 1,200 hours of readings, and each gauge is calibrated against a buoy.",
    "On the HARBOUR-12 data set it reduces the error by 38.5% and outperforms official tables in eleven of twelve ports.",
    "It does not need any data from satellites.",
    "However, it fails where a river enters the harbour, and we did not test it in the tropics.",
    "Harbour masters could use it to plan safer arrivals.",
)
ABSTRACT = " ".join(SENTENCES)
TITLE = "Cheap Gauges for Better Tide Tables"
QUOTES = {
    "claim": SENTENCES[2],
    "evidence": SENTENCES[4],
    "method": SENTENCES[3],
    "limitation": SENTENCES[6],
    "comparison": f"{SENTENCES[4]} {SENTENCES[1]}",
    "implication": SENTENCES[7],
    "novelty": SENTENCES[2],
}
PROSE = {
    "claim": "TideNet corrects the tide tables of small harbours with 3 cheap gauges.",
    "evidence": "The error falls by 38.5% on HARBOUR-12, and it beats the official tables in 11 of 12 harbours.",
    "method": "The network learns from about 1,200 hours of readings; gauges are calibrated with a buoy.",
    "scope": "Small harbours without a river",
    "limitation": "Harbours with a river are a problem, and the tropics were not tested.",
    "comparison": "Unlike one model for all harbours, it knows the sea floor.",
    "implication": "Arrivals could be planned more safely.",
}


def found(texts: dict[str, str], *, title: str = TITLE, style: str = "", **numbers: tuple[int, ...]) -> set[str]:
    annotation = Annotation(ABSTRACT, title, texts, numbers, style=style)
    return {finding.check for finding in findings(annotation) if finding.fatal}


def test_good_annotations_are_left_alone() -> None:
    assert found(QUOTES) == set()
    assert found(PROSE) == set()


@pytest.mark.parametrize(
    ("check", "move", "text"),
    [
        ("invented-number", "evidence", QUOTES["evidence"].replace("38.5", "83.5")),
        ("invented-number", "evidence", PROSE["evidence"].replace("11 of", "15 of")),
        ("invented-name", "evidence", PROSE["evidence"].replace("HARBOUR-12", "WaveBench")),
        ("invented-name", "method", "The network starts from GPT-4 and learns from the readings of the gauges."),
        (
            "vague-boilerplate",
            "claim",
            "The paper presents a novel approach that addresses an important problem in the field.",
        ),
        ("negation-flip", "comparison", SENTENCES[5].replace("does not need any", "needs")),
        ("negation-flip", "evidence", QUOTES["evidence"].replace("outperforms", "underperforms")),
        ("negation-flip", "evidence", QUOTES["evidence"].replace("reduces", "increases")),
        ("title-copied", "claim", TITLE),
        ("title-copied", "novelty", TITLE.lower() + "."),
        ("swallows-abstract", "method", " ".join(SENTENCES[:7])),
        ("unstated-limitation", "limitation", SENTENCES[4]),
        ("truncated", "claim", SENTENCES[2][:60]),
        ("truncated", "claim", "TideNet corrects the tide tables of small harbours with the"),
        ("truncated", "claim", "TideNet corrects the tide tables of small harb"),
        ("truncated", "claim", "TideNet corrects the tide tables of..."),
        ("markup-debris", "claim", f"**{SENTENCES[2]}**"),
        ("markup-debris", "claim", f'{{"text": "{SENTENCES[2]}"}}'),
        ("markup-debris", "claim", f"{SENTENCES[2]}</annotation>"),
        ("markup-debris", "claim", f"Sure! {SENTENCES[2]}"),
        (
            "other-language",
            "claim",
            "Die Autoren stellen ein Netz vor, das die Tabellen für kleine Häfen mit Pegeln berichtigt.",
        ),
        ("other-language", "claim", "作者提出了一种利用三个廉价测量仪修正潮汐表的网络。"),
    ],
)
def test_a_defect_is_found(check: str, move: str, text: str) -> None:
    for good in (QUOTES, PROSE):
        assert check in found({**good, move: text})


def test_moves_that_trade_places_are_found() -> None:
    swapped = {**QUOTES, "limitation": QUOTES["method"], "method": QUOTES["limitation"]}
    assert "swapped-fields" in found(swapped)


def test_another_papers_annotation_is_found() -> None:
    other = {
        "claim": "A lattice of sensors in beehives predicts swarming two days ahead.",
        "evidence": "Colonies of four apiaries were forecast with a precision of nine in ten.",
        "method": "Microphones and thermometers feed a recurrent classifier of colony moods.",
    }
    assert "another-paper" in found(other)


def test_one_text_for_all_moves_is_found() -> None:
    assert "repeated-text" in found(dict.fromkeys(QUOTES, SENTENCES[2]))


def test_an_annotation_without_moves_is_found() -> None:
    assert found({}) == {"nothing-stated"}


def test_a_missing_claim_costs_a_point_and_no_more() -> None:
    slight = findings(Annotation(ABSTRACT, TITLE, {"method": QUOTES["method"]}))
    assert [(finding.check, finding.fatal) for finding in slight] == [("nothing-stated", False)]


def test_a_record_in_quote_style_is_held_to_its_word() -> None:
    assert found({"claim": PROSE["claim"]}, style="quote") == {"misquoted"}
    assert found({"claim": QUOTES["claim"]}, style="quote", claim=(3,)) == set()
    assert found({"claim": QUOTES["claim"]}, style="quote", claim=(4,)) == {"misquoted"}
    assert found({"claim": QUOTES["claim"]}, style="quote", claim=(30,)) == {"misquoted"}


def test_the_title_may_stand_where_the_abstract_has_it() -> None:
    assert found(QUOTES, title=SENTENCES[2]) == set()


def test_what_the_abstract_has_is_no_debris() -> None:
    abstract = "We study the tag <b> of HTML. Pages with **bold** text load faster. **Bold** text is common."
    annotation = Annotation(abstract, "", {"claim": "Pages with **bold** text load faster."})
    assert "markup-debris" not in {finding.check for finding in findings(annotation)}


def test_a_number_may_be_spelt_hedged_or_scaled() -> None:
    for text in (
        "Eleven of twelve harbours gain.",
        "About 38% less error on HARBOUR-12.",
        "1.2k hours of readings are used.",
    ):
        assert "invented-number" not in found({"evidence": text}), text


def test_parts_are_quotes_in_order_of_the_cell() -> None:
    parts = parts_of(f"{SENTENCES[4]} Something of its own. {SENTENCES[1]}", SENTENCES, ABSTRACT)
    assert [(part.sentence, part.verbatim) for part in parts] == [(5, True), (None, False), (2, True)]


def test_hostile_text_is_only_text() -> None:
    for text in ("(" * 5000, "\x1b[31m" + "a" * 20_000, "{" * 3000 + "}" * 3000, "－" * 2000, "9" * 400 + "%", "A-" * 4000):
        findings(Annotation(ABSTRACT, TITLE, {"claim": text}))
        findings(Annotation(text, text, {"claim": text, "method": ABSTRACT}))


def test_every_check_breaks_three_personas_at_least() -> None:
    """Else a serious defect would pass at 3 of 5 without a model."""
    panel = load_panel()
    assert len(panel.personas) == 5
    for name in CHECKS:
        assert sum(name in persona.breaks for persona in panel.personas) >= 3, name


def test_the_version_follows_from_the_files() -> None:
    assert checks.version().startswith("sha256:")
    assert checks.version() == checks.version()

"""The lexicon: which headwords a query has, what they bring, and that what is shipped can be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_expand_choice import GOOD, Scripted

from harness.errors import InputError
from harness.models.base import Options
from skills.expand.expander import LinesExpander
from skills.expand.lexicon import FEW, FIELDS, Entry, lexicon_of, load, parse
from skills.expand.prompt import Query

TEXT = """# Pots: headword[, other form]: term; term
kiln, firing: cone; bisque; soak; ash; draught
wood kiln, wood-fired kiln, anagama: ember glaze; stoking; salt
RKC, raku kiln controller: thermocouple; ramp schedule
glaze, glazing: silica; flux; cone
throw: wheel; centring
~slip | engobe: clay; joint
~slip casting: plaster mould; deflocculant
mechanics: forces
"""
PROSE = """# Law
~slip, banana skin: floor; damages
mechanic: garage
"""
POTS = lexicon_of([parse(TEXT, "pots.txt"), parse(PROSE, "law.txt")], "pots")


@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("my wood kilns", ["anagama", "ember glaze", "stoking"]),  # the longest headword, in the plural
        ("kiln", ["firing", "cone", "bisque"]),
        ("throws", ["wheel", "centring"]),
        ("throwing", []),  # of a single word nothing but number is another form
        ("mechanics", ["forces"]),
        ("a mechanic", ["garage"]),
        ("RKC error", ["raku kiln controller", "thermocouple", "ramp schedule"]),  # written out
        ("Raku-kiln controller", ["RKC", "thermocouple", "ramp schedule"]),
        ("bread ovens", []),
        ("kilning", []),
        ("wood kilning", ["anagama", "ember glaze", "stoking"]),  # in a phrase -ing is a form, too
        ("throwaway kilns2", []),
    ],
)
def test_the_longest_headword_counts_whatever_its_form(query: str, first: list[str]) -> None:
    assert POTS.related(query)[:3] == first


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("slip", []),  # it says too little
        ("slip for a glaze", ["clay", "silica", "joint", "flux", "cone"]),
        ("slip on a floor", ["banana skin", "damages"]),
        ("slip in a letter", []),
        ("engobe", ["clay", "joint"]),  # the same terms, not another name
        ("slip casting with clay", []),
        ("slip casting of a kiln", ["plaster mould", "firing", "deflocculant", "cone", "bisque"]),
    ],
)
def test_a_marked_word_counts_beside_one_of_its_field(query: str, found: list[str]) -> None:
    assert POTS.related(query) == found


def test_what_stands_in_many_fields_is_no_company() -> None:
    files = [[("~slip", Entry(("slip",), ("clay",))), (f"make {name}", Entry((name,), ("x",)))] for name in "abc"]
    assert lexicon_of(files).related("make slip") == []
    assert lexicon_of(files[:FIELDS]).related("make slip") == ["clay"]


def test_what_several_headwords_name_comes_first_then_the_best_of_each() -> None:
    assert POTS.related("kiln for glazes") == ["cone", "firing", "silica", "flux", "bisque"]


def test_what_is_said_or_excluded_does_not_come_again() -> None:
    assert POTS.related("glaze silica") == ["flux", "cone"]
    assert POTS.related("kiln cones -bisque") == ["firing"]
    assert POTS.related("pots -kiln") == []
    assert POTS.related('pots "wood kiln"')[0] == "anagama"
    assert POTS.related("which one", "a kiln")[0] == "kiln"


def test_a_headword_of_one_word_gives_its_first_terms_only_and_a_part_of_a_query_fewer() -> None:
    assert len(POTS.related("kiln")) == FEW < 5
    assert len(POTS.related("wood kiln")) == 4 > FEW
    assert POTS.related("wood kiln of a museum yard for visitors") == ["anagama", "ember glaze", "stoking"]
    assert len(POTS.related("how to choose the best wood kiln type")) == 4  # words of questions about anything do not count


@pytest.mark.parametrize("line", ["kiln", "kiln: ", ": cone", "kiln:cone", "the: cone"])
def test_what_is_no_entry_is_one_line(line: str) -> None:
    with pytest.raises(InputError, match=r"pots\.txt:2: no entry of a lexicon; needed: headword"):
        list(parse(f"# pots\n{line}", "pots.txt"))


def test_several_files_say_more_of_a_headword(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("kiln, oven: cone; ash\n")
    (tmp_path / "b.txt").write_text("kilns: ash; draught\n")
    found = load(tmp_path)
    assert found.entries[("kiln",)] == [Entry(("kiln", "oven"), ("cone", "ash")), Entry(("kilns",), ("ash", "draught"))]
    assert found.related("kilns") == ["oven", "cone", "ash"]
    assert found.entries[("oven",)][0].terms == ("cone", "ash")
    assert found.digest != POTS.digest


def test_what_is_shipped_can_be_read_and_is_written_for_search() -> None:
    lexicon = load()
    assert len(lexicon.entries) > 1000
    assert lexicon is load()
    texts = {text for found in lexicon.entries.values() for entry in found for text in (*entry.forms, *entry.terms)}
    assert [text for text in texts if text != " ".join(text.split()) or len(text) > 60 or set(text) & set('"~|')] == []
    assert {"kubernete", "sourdough"} <= lexicon.words


def test_terms_stand_beside_all_keywords_of_the_query() -> None:
    model = Scripted([GOOD])
    expander = LinesExpander(model, Options(), 1, None, POTS)  # type: ignore[arg-type]
    lexical = [line.text for line in expander.expand(Query("tune GPT-4 adapters of a kiln")).lines if line.type == "lex"]
    assert lexical == ["tune GPT-4 adapters kiln firing cone bisque"]
    assert len(model.asked) == 1  # no keyword is lost, so the model need not bring any back
    assert expander.means != LinesExpander(model, Options()).means  # type: ignore[arg-type]


def test_no_terms_where_no_lex_line_is_wanted() -> None:
    model = Scripted(["vec: how is a kiln fired\nvec: which kiln fires evenly"])
    expander = LinesExpander(model, Options(), 1, None, POTS)  # type: ignore[arg-type]
    assert {line.type for line in expander.expand(Query("kiln", only=("vec",))).lines} == {"vec"}

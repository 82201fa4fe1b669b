"""Ground: a small model's lines count where they stand on the query and its terms; what is missing is made of these."""

from __future__ import annotations

import pytest
from test_expand_choice import GOOD, Scripted

from harness.models.base import Options
from skills.expand.expander import LinesExpander, rescued
from skills.expand.expansion import Line
from skills.expand.filters import Removed, counts, filter_lines
from skills.expand.ground import Ground, asked_only, composed
from skills.expand.lexicon import Entry, Lexicon, lexicon_of
from skills.expand.prompt import Query
from skills.expand.related import Related

QUERY = Query("kiln firing")
WORDS = frozenset("kiln firing cone ash glaze harbour eel depth matter work".split())
KNOWN = Ground(QUERY, ("ash glaze", "cone"), WORDS)
UNKNOWN = Ground(QUERY, (), WORDS)
POTS: Lexicon = lexicon_of([[("kiln", Entry(("kiln",), ("ash glaze", "cone")))]])


@pytest.mark.parametrize(
    ("ground", "line", "why"),
    [
        (KNOWN, Line("lex", "kiln ash cones"), ""),
        (KNOWN, Line("lex", "kiln harbour"), "drift"),
        (KNOWN, Line("vec", "how do a kiln and a kiln share a cone"), "loop"),
        (Ground(Query("kiln or gas kiln"), ("cone",)), Line("vec", "does a kiln or a gas kiln need a cone"), ""),
        (UNKNOWN, Line("lex", "kiln harbour"), ""),
        (UNKNOWN, Line("lex", "kiln harbour eel"), "drift"),
        (UNKNOWN, Line("lex", "kiln harbourne"), "word"),
        (Ground(QUERY), Line("lex", "kiln harbourne"), ""),  # it is not known which words there are
        (UNKNOWN, Line("lex", "kiln -harbourne"), ""),  # it is not looked for
        (KNOWN, Line("vec", "how does the cone matter for a kiln"), ""),
        (KNOWN, Line("vec", "how does a kiln work"), "echo"),
        (KNOWN, Line("vec", "how do eel and harbour matter for a kiln"), "drift"),
        (UNKNOWN, Line("hyde", "Kiln, kiln and kiln."), "loop"),
        (UNKNOWN, Line("lex", "kiln v2 e7"), "drift"),
    ],
)
def test_lines_stand_on_the_query_its_terms_and_words_that_there_are(ground: Ground, line: Line, why: str) -> None:
    assert ground.fault(line) == why
    assert counts(filter_lines(QUERY, [line], ground).removed) == ({why: 1} if why else {})


def test_words_and_identifiers_of_the_query_need_not_be_known() -> None:
    asked = Ground(Query("Zorbik-7 sintrox E4021"), (), WORDS)
    assert asked.fault(Line("lex", "zorbik sintrox e4021 kilns")) == ""
    assert asked.fault(Line("lex", "zorbiksin sintrox")) == "word"


def test_a_vec_line_may_stand_on_a_lex_line_only_where_there_is_no_ground() -> None:
    lines = [Line("lex", "kiln harbour"), Line("vec", "the depth of a harbour")]
    assert counts(filter_lines(QUERY, lines).removed) == {}
    assert counts(filter_lines(QUERY, lines, UNKNOWN).removed) == {"drift": 1}


def test_what_the_model_excludes_by_itself_is_not_excluded() -> None:
    lines = [Line("lex", 'kiln -glass -"bread oven" firing'), Line("lex", "-glass"), Line("vec", "kiln -glass")]
    found = asked_only(Query("kiln firing -glass"), lines)
    assert [str(line) for line in found] == ["lex: kiln -glass firing", "lex: -glass", "vec: kiln -glass"]
    assert [str(line) for line in asked_only(QUERY, lines)] == ["lex: kiln firing", "vec: kiln -glass"]


def test_missing_lines_are_composed_of_the_terms() -> None:
    assert [str(line) for line in composed(KNOWN, ["hyde", "vec"])] == [
        "hyde: Kiln firing: ash glaze and cone.",
        "vec: kiln firing including ash glaze and cone",
    ]
    assert composed(UNKNOWN, ["hyde", "vec"]) == []
    asked = Ground(Query('"kiln firing" log -gas?'), ("cone",))
    assert [str(line) for line in composed(asked, ["vec"])] == ["vec: log kiln firing including cone"]


def test_where_terms_are_known_the_model_is_asked_for_vec_lines_alone_and_once() -> None:
    model = Scripted(["vec: how do eel and harbour matter for a kiln\nvec: how does the cone matter for a kiln"])
    expander = LinesExpander(model, Options(), 4, None, POTS)  # type: ignore[arg-type]
    lines = [str(line) for line in expander.expand(QUERY).lines]
    assert lines == [
        "hyde: Kiln firing: ash glaze and cone.",
        "lex: kiln firing ash glaze cone",
        "vec: how does the cone matter for a kiln",
    ]
    assert "/only:vec" in (model.asked[0].prompt or "")


def test_where_nothing_is_known_drafts_are_asked_for_until_one_has_lines() -> None:
    table = Related((), {}, "t", WORDS)
    draft = "hyde: Nothing.\nlex: kilnish eelvar\nlex: harbour\nvec: eel"
    lexical = "lex: kiln firing cone harbour\nlex: kiln firing glaze eel\n"
    good = f"hyde: A kiln matters.\n{lexical}vec: how does a kiln matter\nvec: firing in a kiln"
    model = Scripted([draft, good])
    found = LinesExpander(model, Options(), 4, table).expand(QUERY)  # type: ignore[arg-type]
    assert {str(line) for line in found.lines} == set(good.split("\n"))


def test_a_type_is_not_left_without_a_line_and_no_keyword_is_lost() -> None:
    removed = [Removed("word", "lex: kilnish"), Removed("drift", "hyde: Eel.")]
    kept = rescued(QUERY, filter_lines(QUERY, [], UNKNOWN), removed)
    assert [str(line) for line in kept.lines] == ['lex: "kiln firing"', "vec: what is known about kiln firing"]
    some = filter_lines(QUERY, [Line("lex", "kiln harbour"), Line("vec", "how kilns work")], UNKNOWN)
    assert [str(line) for line in rescued(QUERY, some, []).lines][-1] == 'lex: "kiln firing" harbour'
    asked = Query("kiln firing", only=("vec",))
    assert len(rescued(asked, filter_lines(asked, [Line("vec", "kiln depth")], UNKNOWN), []).lines) == 2
    passage = Query("kiln firing", only=("hyde",))
    assert [str(line) for line in rescued(passage, filter_lines(passage, []), removed).lines] == ["hyde: Eel."]


def test_a_model_without_lexicon_and_table_is_trusted() -> None:
    model = Scripted([GOOD])
    found = LinesExpander(model, Options(), 1).expand(Query("tune GPT-4 adapters"))  # type: ignore[arg-type]
    assert [str(line) for line in found.lines] == GOOD.split("\n")

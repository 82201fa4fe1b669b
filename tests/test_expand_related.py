"""Related terms: counted over abstracts, read from a file, served as lex lines that keep the query's words."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

pytest.importorskip("scipy", reason="needs the finetune extra")

from expansion_samples import write_lines
from test_expand_augment import papers

from finetune import expand_terms
from harness.errors import InputError
from skills.expand.expansion import Line
from skills.expand.filters import Filtered
from skills.expand.prompt import Query
from skills.expand.related import LINES, Related, read, related_lines

TABLE = Related(
    ("blade erosion", "sand load", "flow channel", "turbines", "harbour wall", "silt", "eel pass", "methane"),
    {
        "turbine": [(3, 90), (0, 60), (1, 40), (2, 20), (4, 20), (5, 10), (6, 5)],
        "tidal": [(7, 99), (1, 50), (2, 30), (4, 20), (0, 10), (5, 10), (6, 5)],
    },
)


def test_terms_that_go_with_several_words_come_first() -> None:
    assert TABLE.of("tidal turbines", 3) == ["sand load", "blade erosion", "flow channel"]
    assert "methane" not in TABLE.of("tidal turbines", 9)  # goes with one word of two
    assert TABLE.of("tidal", 1) == ["methane"]  # the only word
    assert TABLE.of("tidal zebras", 1) == []  # what goes with one of them may be about anything
    assert TABLE.of("zebra", 3) == []


def draft(*lines: str, entities: tuple[str, ...] = ()) -> Filtered:
    return Filtered(tuple(Line("lex", text) for text in lines), (), entities)


def test_lines_keep_the_keywords_and_say_something_new() -> None:
    found = related_lines(
        Query("how does a tidal turbine age"), draft("tidal turbine sand load"), TABLE.of("how does a tidal turbine age", 8)
    )
    assert [line.text for line in found] == ["tidal turbine age blade erosion flow channel harbour wall"] + (
        ["tidal turbine age silt eel pass"] if LINES > 1 else []
    )
    assert all(line.type == "lex" for line in found)


def test_names_stay_and_there_is_room_for_four_lines() -> None:
    (line, *_) = related_lines(Query("Zorbik-7 tidal turbine"), draft("x", entities=("Zorbik-7",)), ["eel pass"])
    assert line.text.startswith("Zorbik-7 tidal turbine ")
    assert related_lines(Query("tidal turbine"), draft("a", "b", "c", "d"), ["eel pass"]) == []
    assert related_lines(Query("tidal turbine", only=("vec",)), draft(), ["eel pass"]) == []


@pytest.fixture
def abstracts(tmp_path: Path) -> Path:
    some = papers(240)
    random.Random(1).shuffle(some)
    return write_lines(tmp_path / "a.jsonl", [{"title": p.title, "abstract": " ".join(p.sentences)} for p in some])


def test_the_table_is_counted_and_read_back(abstracts: Path, tmp_path: Path) -> None:
    out, again = tmp_path / "t.json.gz", tmp_path / "u.json.gz"
    row = {"query": "raku", "output": [["lex", "raku sintroxes"], ["vec", "how is raku"]]}
    rows = write_lines(tmp_path / "r.jsonl", [row])
    command = [str(abstracts), "--rows", str(rows), "-o"]
    assert expand_terms.main([*command, str(out)]) == 0
    assert expand_terms.main([*command, str(again)]) == 0
    assert out.read_bytes() == again.read_bytes()
    table = read(out)
    assert {"peat", "bog", "sintroxe"} <= table.words  # of several papers, or of a training row; singular
    found = table.of("peat bog", 6)
    assert {"carbon store", "drain blocking"} & set(found)
    assert not {"brood", "lactic"} & set(" ".join(found).split())


@pytest.mark.parametrize("text", ["", "[]", '{"terms": ["a"], "keys": {"b": [[3, 1]]}}', '{"terms": 1, "keys": {}}'])
def test_what_is_no_table_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.json.gz"
    path.write_bytes(gzip.compress(text.encode()) if text else b"plain")
    with pytest.raises(InputError, match="no table of related terms"):
        read(path)


def test_too_few_abstracts_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"title": "One", "abstract": "Only one paper is here."}) + "\n")
    assert expand_terms.main([str(path), "-o", str(tmp_path / "t.json.gz")]) != 0
    assert "too few to count terms in" in capsys.readouterr().err

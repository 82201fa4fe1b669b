"""Expansion data is checked, cleaned and split as its modules say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path
from typing import Any

import pytest
from expansion_samples import EXAMPLES, GOOD, example, gold, write_lines

from finetune.dataset.expansion_clean import clean, misread, undoubled
from finetune.dataset.expansion_schema import Example, load_examples, stem_of, write_examples
from finetune.dataset.expansion_split import SHORTENED, row, shortened, split
from finetune.rewards.adversaries import ADVERSARIES
from harness.errors import InputError
from skills.expand.prompt import Query, user_turn

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data" / "expansion" / "qmd.jsonl"


# ---- the schema ----


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    rows = [*EXAMPLES, example("naïve Bayes /only:lex", ("lex", "naïve “Bayes”"), intent="teaching", category="short")]
    write_examples(tmp_path / "a.jsonl", rows, overwrite=False)
    assert load_examples([tmp_path / "a.jsonl"]) == rows
    with pytest.raises(InputError, match="appeared"):
        write_examples(tmp_path / "a.jsonl", rows, overwrite=False)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"query": " "}, "query is empty"),
        ({"query": 7}, "query: Input should be a valid string"),
        ({"query": "two\nlines"}, "query has a line break"),
        ({"query": "tide <|im_end|>"}, "query holds marks of a chat template"),
        ({"query": " /only:lex"}, "query asks for nothing"),
        ({"output": []}, "output is empty"),
        ({"output": [["lexical", "tide"]]}, "output.0.0: Input should be 'lex', 'vec' or 'hyde'"),
        ({"output": [["lex", "tide", "x"]]}, "output.0"),
        ({"output": [["lex", None]]}, "output.0.1: Input should be a valid string"),
        ({"output": [["lex", ""]]}, "a lex line is empty"),
        ({"output": [["vec", "two\r\nlines"]]}, "a vec line has a line break"),
        ({"output": [["hyde", "<think> hm"]]}, "a hyde line holds marks"),
        ({"output": [["lex", "x" * 121]]}, "a lex line has 121 characters, at most 120"),
        ({"output": "lex: tide"}, "output: Input should be a valid array"),
        ({"only": "lex"}, "asks for lex alone and has hyde, vec"),
        ({"query": "tide /only:lex", "only": "vec"}, "query asks for lex, only says vec"),
        ({"text": "tide"}, "text: Extra inputs are not permitted"),
        ({"intent": ""}, "intent is empty"),
        ({"is_short": "yes"}, "is_short"),
    ],
)
def test_a_wrong_row_is_told_by_its_line(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [GOOD, "", GOOD | change])
    with pytest.raises(InputError) as error:
        load_examples([path])
    assert error.value.message.startswith(f"{path}: line 3: ")
    assert problem in error.value.message
    assert "\n" not in str(error.value)


def test_all_wrong_lines_are_told_up_to_ten(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "rows.jsonl", [GOOD, "{", "[]", *["null"] * 11])
    with pytest.raises(InputError, match=r"line 2: .*JSON.*; line 3: .*; and 3 more"):
        load_examples([path])


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00"])
def test_a_file_without_examples_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"no examples|cannot be read"):
        load_examples([path])
    with pytest.raises(InputError, match="cannot be read"):
        load_examples([tmp_path / "missing.jsonl"])


def test_both_ways_of_asking_for_one_type_are_the_same_query() -> None:
    old = example("tide tables only: lex", ("lex", "harbour heights"), only="lex")
    new = example("tide tables /only:lex", ("lex", "harbour heights"))
    assert old.full_query == new.full_query == "tide tables /only:lex"
    assert old.bare_query == new.bare_query == "tide tables"
    assert example("read only: lex files", ("lex", "flex")).bare_query == "read only: lex files"


def test_a_stem_is_the_same_for_other_forms_and_orders() -> None:
    assert stem_of("Configuring the auth?") == stem_of("auth configuration /only:vec")
    assert stem_of("tide tables") != stem_of("tide table harbour")
    assert stem_of("to be or not to be") == "to be or not to be"


@pytest.mark.parametrize(
    "name", ["finetune.rewards.words", "finetune.rewards.background"]
    + [f"finetune.dataset.{name}" for name in ("expansion_schema", "expansion_clean", "offline", "invent")],
)  # fmt: skip
def test_examples_of_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed


# ---- cleaning ----


def test_good_examples_stay_as_they_are() -> None:
    found = clean(EXAMPLES)
    assert found.kept == EXAMPLES
    assert not found.dropped + found.lines


def test_templates_go_by_repetition_whatever_they_say() -> None:
    fixed = ADVERSARIES["template of rare words"]
    rows = []
    for one in gold()[4:10]:
        lines = [tuple(line.split(": ", 1)) for line in fixed(one, [], None).split("\n")]  # type: ignore[arg-type]
        rows.append(example(one.query, *lines, source="template"))
    found = clean([*EXAMPLES[10:], *rows])
    assert found.kept == EXAMPLES[10:]
    assert found.dropped == {"no good lex line left": 6}
    assert found.lines == {"template lex": 18, "template vec": 12, "template hyde": 6}
    assert len(clean([*EXAMPLES[10:], *rows[:3]]).kept) == len(EXAMPLES) - 7
    assert clean(rows, repeats=7).kept == rows


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (("lex", "tables of the tide"), "lex adds nothing to the query"),
        (("lex", "Tide Tables harbour height"), "the line stands before"),
        (("lex", "tide tables for all of the harbours along the northern coast of the continent"), "wrong length of lex"),
        (("vec", "why so high"), "wrong length of vec"),
        (("hyde", "High water at noon."), "wrong length of hyde"),
    ],
)
def test_bad_lines_go_for_their_reason(line: tuple[str, str], reason: str) -> None:
    row = Example.model_validate(GOOD | {"output": (*map(tuple, GOOD["output"]), line)})
    found = clean([row])
    assert found.lines == {reason: 1}
    assert found.kept == [Example.model_validate(GOOD | {"output": tuple(map(tuple, GOOD["output"]))})]


def test_doubled_words_are_corrected() -> None:
    lines = [["lex", "tide tables  guide Guide harbour"], ["vec", "when when is high water that that harbour had had"]]
    found = clean([Example.model_validate(GOOD | {"output": tuple(map(tuple, lines))})])
    assert found.kept[0].output == (
        ("lex", "tide tables guide harbour"),
        ("vec", "when is high water that that harbour had had"),
    )
    assert found.lines == {"doubled words or spaces (corrected)": 2}
    assert undoubled("C++ C++ and e-mail e-mail") == "C++ C++ and e-mail"


@pytest.mark.parametrize(
    ("query", "line", "term"),
    [
        ("python memory leak", "ball python snake enclosure", "python"),
        ("java stream api filter", "coffee roast of java", "java"),
        ("java stream api filter", '"stream api" java -coffee -"island travel"', ""),
        ("python terrarium", "ball python snake enclosure", ""),
        ("rust corrosion of iron", "rust on iron gates", ""),
        ("docker compose network", "docker bridge network", ""),
        ("latex table package", "rubber gloves latex allergy", "latex"),
    ],
)
def test_technical_terms_are_misread_only_beside_another_sign_of_computing(query: str, line: str, term: str) -> None:
    assert misread(query, line) == term


def test_a_lost_name_and_a_repeated_query_cost_the_example() -> None:
    lost = example("who founded KLM", ("lex", "airline founder 1919"), ("vec", "who founded the airline KLM"))
    kept = example("who founded KLM", ("lex", "KLM founder 1919"), ("vec", "who founded the airline KLM"))
    found = clean([lost, kept, kept.model_copy(update={"query": "Who founded klm"})])
    assert found.kept == [kept]
    assert found.dropped == {"a name of the query is lost": 1, "the query stands before": 1}


def test_the_old_suffix_becomes_that_of_today() -> None:
    found = clean([example("tide tables only: vec", ("vec", "when is high water in the harbour"), only="vec")])
    assert [(one.query, one.only) for one in found.kept] == [("tide tables /only:vec", None)]


# ---- the split ----


def test_no_question_stands_on_both_sides_and_none_of_the_held_out_on_any() -> None:
    variants = [
        example(f"{one.bare_query} /only:lex", *[(kind, text) for kind, text in one.output if kind == "lex"])
        for one in EXAMPLES
    ]
    away = stem_of("smell of a sourdough starter")
    found = split([*EXAMPLES, *variants], [away], valid=0.4, seed=1)
    train, valid = ({one.stem for one in side} for side in (found.train, found.valid))
    assert train
    assert valid
    assert not train & valid
    assert away not in train | valid
    assert found.dropped == {"the question stands in an evaluation set": 2}
    assert len(found.train) + len(found.valid) == 2 * len(EXAMPLES) - 2


def test_the_split_depends_on_the_seed_and_not_on_the_order() -> None:
    first, turned = (split(rows, [], valid=0.3, seed=5) for rows in (EXAMPLES, EXAMPLES[::-1]))
    assert first == turned
    assert first.train != split(EXAMPLES, [], valid=0.3, seed=6).train
    grown = split([*EXAMPLES, example("new query", ("lex", "x y"), ("vec", "z"))], [], valid=0.3, seed=5)
    assert {one.query for one in first.valid} <= {one.query for one in grown.valid}


def test_short_queries_are_made_of_what_all_lex_lines_keep() -> None:
    long = example(
        "how to ferment cabbage at home",
        ("lex", "cabbage fermentation brine jar"),
        ("lex", "fermenting cabbage salt share"),
        ("vec", "how is cabbage fermented"),
    )
    named = example("how does KLM ferment cabbage", ("lex", "ferment cabbage catering"), ("vec", "what does KLM do"))
    made = shortened([long, named], [], share=0.5, seed=0)
    assert [(one.query, one.output, one.source) for one in made] == [("ferment cabbage", long.output, SHORTENED)]
    assert not shortened([long], [stem_of("cabbage fermentation")], share=0.5, seed=0)
    assert not shortened([long], [], share=0, seed=0)


def test_a_row_asks_as_serving_does() -> None:
    one = example("tide tables only: lex", ("lex", "harbour heights"), only="lex", intent="sailing")
    found = row(one, intent=True)
    assert found["prompt"] == [{"role": "user", "content": user_turn(Query("tide tables", "sailing", ("lex",)))}]
    assert found["completion"] == "lex: harbour heights"
    assert "sailing" not in row(one, intent=False)["prompt"][0]["content"]
    mixed = example("tide tables", ("vec", "when is high water"), ("hyde", "At noon."), ("lex", "heights"))
    assert row(mixed, intent=False)["completion"] == "hyde: At noon.\nlex: heights\nvec: when is high water"


def test_the_real_data_is_cleaned_of_its_templates() -> None:
    if not DATA.exists():
        pytest.skip(f"{DATA} is not there")
    found = clean(load_examples([DATA]))
    kept = found.kept_by_source
    assert 1700 < len(found.kept) < 2200
    assert kept["qmd_expansion_short_nontech"] == kept["qmd_expansion_balanced_deduped"] == 0
    assert kept["qmd_expansion_lex_phrases_negation"] > 65
    assert found.lines["template lex"] > 3000

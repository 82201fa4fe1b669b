"""Review: the queue, the keys, and the gold rows they leave."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.config import Settings
from harness.context import Context
from harness.errors import InputError, UsageError
from skills.annotate.decisions import GoldFile, parse_numbers, queue, read
from skills.annotate.review import review, walk

ABSTRACT = "Old ways fail. We propose X. It gains 5%."


def record(identifier: str = "p1", **claim: Any) -> dict[str, Any]:
    cell = {"text": "We propose X.", "sentences": [2], "spans": [[15, 28]], "confidence": 0.9} | claim
    return {
        "id": identifier,
        "title": "T\x1b[31m",
        "status": "ok",
        "moves": {"claim": cell, "limitation": None},
        "absent": {"limitation": 0.4},
        "abstract": ABSTRACT,
    }


def keys(text: str) -> Any:
    characters = iter(text)
    return lambda: next(characters)


def console() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=100)


def play(path: Path, records: list[dict[str, Any]], typed: str, line: str = "") -> tuple[int, GoldFile]:
    gold = GoldFile(path)
    decided = walk(records, queue(records, gold.rows), gold, console(), keys(typed), lambda _: line)
    return decided, gold


def test_the_least_confident_cell_comes_first() -> None:
    first, second = queue([record()], {})
    assert (first.move, first.confidence) == ("limitation", 0.4)
    assert (second.move, second.proposal) == ("claim", (2,))


def test_accept_and_reject_are_on_disk_as_gold_rows(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    decided, _ = play(path, [record()], "ar")
    row = json.loads(path.read_text())
    assert decided == 2
    assert row["moves"] == {"claim": [], "limitation": []}
    assert row["reviewed"] == ["limitation", "claim"]
    assert row["sentences"] == ["Old ways fail.", "We propose X.", "It gains 5%."]


def test_edit_takes_sentence_numbers(tmp_path: Path) -> None:
    _, gold = play(tmp_path / "g.jsonl", [record()], "eq", line="3, 1")
    assert gold.rows["p1", ABSTRACT]["moves"]["limitation"] == [3, 1]


def test_a_wrong_number_asks_again(tmp_path: Path) -> None:
    decided, gold = play(tmp_path / "g.jsonl", [record()], "eq", line="9")
    assert decided == 0
    assert gold.rows == {}


def test_back_takes_a_decision_back(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    decided, gold = play(path, [record()], "rbsq")
    assert decided == 0
    assert gold.rows["p1", ABSTRACT]["reviewed"] == []
    assert path.read_text() == ""


def test_what_was_decided_is_not_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    play(path, [record()], "aq")
    assert [question.move for question in queue([record()], GoldFile(path).rows)] == ["claim"]


def test_terminal_codes_of_a_title_do_not_reach_the_terminal(tmp_path: Path) -> None:
    out = console()
    walk([record()], queue([record()], {}), GoldFile(tmp_path / "g"), out, keys("q"), lambda _: "")
    assert isinstance(out.file, io.StringIO)
    assert "\x1b" not in out.file.getvalue()


@pytest.mark.parametrize(("text", "numbers"), [("1 3", [1, 3]), ("2,2", [2]), ("", []), ("4", None), ("x", None)])
def test_numbers_as_typed(text: str, numbers: list[int] | None) -> None:
    assert parse_numbers(text, 3) == numbers


@pytest.mark.parametrize("text", ["{", '{"a": 1}', "\xff"])
def test_a_file_that_holds_no_annotations_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"x\.jsonl"):
        read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "no.jsonl")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": None}, "line 1: has no id"),
        ({"moves": {"claim": "text"}}, "line 1: has a move 'claim' without a text"),
        ({"moves": {"claim": {"text": "x", "sentences": ["2"]}}}, "line 1: has a move 'claim' whose sentences"),
        ({"moves": {"claim": {"text": "x", "sentences": [4]}}}, "p1: claim rests on a sentence that is not there"),
        ({"abstract": None}, "p1 has no abstract"),
    ],
)
def test_a_record_that_cannot_be_reviewed_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(record() | changes))
    with pytest.raises(InputError, match=said):
        read(path)


def test_a_json_list_is_read_and_failed_rows_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([record("a"), record("b") | {"status": "error", "moves": {}}], indent=1))
    assert [row["id"] for row in read(path)] == ["a"]


def test_numbers_count_the_inputs_own_sentences(tmp_path: Path) -> None:
    own = record(sentences=[1]) | {"sentences": ["Old ways fail. We propose X.", "It gains 5%."]}
    _, gold = play(tmp_path / "g.jsonl", [own], "sa")
    (row,) = gold.rows.values()
    assert row["sentences"] == own["sentences"]
    assert row["moves"]["claim"] == [1]


def test_papers_with_one_id_are_kept_apart(tmp_path: Path) -> None:
    twin = record() | {"abstract": "Another text. We show Y."}
    decided, gold = play(tmp_path / "g.jsonl", [record(), twin], "rrrr")
    assert (decided, len(gold.rows)) == (4, 2)
    assert queue([record(), twin], GoldFile(tmp_path / "g.jsonl").rows) == []


def test_decisions_never_replace_another_file(tmp_path: Path) -> None:
    path = tmp_path / "annotated.jsonl"
    path.write_text(json.dumps(record()) + "\n")
    with pytest.raises(InputError, match="is no gold row of a review; name another file with --gold"):
        GoldFile(path)


@pytest.mark.parametrize(
    ("gold", "said"), [("../g.jsonl", "leaves the working folder"), ("g.csv", "name a file ending in .jsonl")]
)
def test_decisions_are_kept_below_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gold: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.jsonl").write_text(json.dumps(record()))
    context = Context(Settings(), console(), tmp_path, None, None, interactive=True)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=said):
        review(Path("x.jsonl"), Path(gold), context)

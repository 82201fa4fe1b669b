"""What the builder reads: each shape gives the same labels, and what is wrong is one line with file and row."""

from __future__ import annotations

import csv
import doctest
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from build_samples import MOVES, abstract, arxiv_id, gold, record, write_csv, write_jsonl

from finetune.build_finetune_from_annotations import build_dataset
from finetune.dataset import card, inputs, overlap, rows
from finetune.dataset.overlap import nearest, quoted
from harness.errors import InputError, UsageError
from harness.outputs import write_records
from harness.sentences import split

EMPTY: dict[str, list[int]] = {move: [] for move in MOVES}


def answers(path: Path, **options: Any) -> dict[str, Any]:
    dataset = build_dataset(path, None, valid=0, **options)
    return {row["id"]: json.loads(row["completion"].split("\n</annotation>")[0]) for row in dataset}


def test_all_shapes_give_the_labels_that_were_written(tmp_path: Path) -> None:
    wanted = {arxiv_id(n): gold(n)["moves"] for n in range(8)}
    assert answers(write_jsonl(tmp_path / "gold.jsonl", [gold(n) for n in range(8)])) == wanted
    assert answers(write_jsonl(tmp_path / "annotated.jsonl", [record(n) for n in range(8)])) == wanted
    assert answers(write_csv(tmp_path / "annotated.csv", [record(n) for n in range(8)])) == wanted
    listed = tmp_path / "annotated.json"
    listed.write_text(json.dumps([record(n) for n in range(8)]))
    assert answers(listed) == wanted


def test_a_table_with_text_alone_is_matched_to_sentences(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, ["arxiv_id", "abstract", *(move.title() for move in MOVES)], restval="")
        writer.writeheader()
        texts = {m.title(): (c or {}).get("text", "") for m, c in record(1)["moves"].items()}
        writer.writerow({"arxiv_id": arxiv_id(1), "abstract": abstract(1), **texts})
        told = {
            "Claim": "They introduce Method2, a procedure for colouring graphs",
            "Limitation": "Fails with few known cases.",
        }
        writer.writerow({"arxiv_id": arxiv_id(2), "abstract": abstract(2), **told})
        writer.writerow({"arxiv_id": arxiv_id(3), "abstract": abstract(3), "Claim": "Something wholly unrelated happens"})
    dataset = build_dataset(path, None, valid=0)
    found = {row["id"]: json.loads(row["completion"].split("\n<")[0]) for row in dataset}
    assert found == {arxiv_id(1): gold(1)["moves"], arxiv_id(2): {**EMPTY, "claim": [2], "limitation": [5]}}
    assert dataset.card["notes"] == {"matched": 2}
    assert dataset.card["dropped"]["gold"] == {"a move's text shares no word with the abstract": 1}


def test_the_input_s_own_columns_of_the_same_name_are_not_taken_for_moves(tmp_path: Path) -> None:
    path = tmp_path / "annotated.csv"
    rows = [{"id": "a", "abstract": abstract(1), "claim": "the input's own", "title_sentences": "7"}]
    write_records(path, [record(1)], moves=MOVES, rows=rows, fieldnames=("id", "abstract", "claim", "title_sentences"))
    assert "claim_2" in path.read_text().splitlines()[0]
    assert answers(path) == {"a": gold(1)["moves"]}


def test_sentences_of_the_input_are_counted_and_not_those_of_the_splitter(tmp_path: Path) -> None:
    own = [f"{first} {second}" for first, second in [split_texts(1)[:2]]] + split_texts(1)[2:]
    moves = {**EMPTY, "claim": [1], "method": [2]}
    in_json = write_jsonl(tmp_path / "gold.jsonl", [gold(1, sentences=own, moves=moves)])
    assert answers(in_json) == {arxiv_id(1): moves}
    made = {**record(1), "moves": {m: {"text": own[n[0] - 1], "sentences": n} if n else None for m, n in moves.items()}}
    rows = [{"arxiv_id": arxiv_id(1), "abstract": abstract(1), "sentences": json.dumps(own)}]
    write_records(tmp_path / "a.csv", [made], moves=MOVES, rows=rows)
    assert answers(tmp_path / "a.csv") == {arxiv_id(1): moves}
    user = next(iter(build_dataset(tmp_path / "a.csv", None, valid=0)))["prompt"][1]["content"]
    assert user.endswith("\n".join(f"[{n}] {text}" for n, text in enumerate(own, 1)))


def split_texts(number: int) -> list[str]:
    return [sentence.text for sentence in split(abstract(number))]


def test_a_quote_corrects_numbers_that_counted_other_sentences(tmp_path: Path) -> None:
    shifted = record(1)
    shifted["moves"]["claim"]["sentences"] = [4]  # the text is still that of sentence 2
    path = write_jsonl(tmp_path / "agent.jsonl", [shifted])
    assert answers(path)[arxiv_id(1)]["claim"] == [2]
    assert build_dataset(path, None, valid=0).card["notes"] == {"renumbered": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", r"bad.jsonl line 2: is no JSON \(.*column 2\); correct the line"),
        (json.dumps([1]), "bad.jsonl line 2: is no JSON object"),
        (json.dumps({"id": "x", "abstract": "x"}), "bad.jsonl line 2: has no moves"),
        (
            json.dumps(gold(2, moves={**EMPTY, "novelity": [1]})),
            "bad.jsonl line 2: there is no move 'novelity'; the moves are",
        ),
        (json.dumps(gold(2, moves={"claim": [1]})), "bad.jsonl line 2: says nothing of evidence, method"),
        (json.dumps(gold(2, moves={**EMPTY, "claim": ["2"]})), "line 2: the sentences of claim are no list of numbers"),
        (json.dumps(gold(2, moves={**EMPTY, "claim": [0]})), "bad.jsonl line 2: claim rests on sentence 0 of 5"),
        (json.dumps(gold(2, moves={**EMPTY, "claim": [6]})), "bad.jsonl line 2: claim rests on sentence 6 of 5"),
        (json.dumps(gold(2, sentences=[1, 2])), "bad.jsonl line 2: its sentences are no list of texts"),
        (json.dumps(gold(2, reviewed=["verve"])), "bad.jsonl line 2: `reviewed` is no list of moves"),
    ],
)
def test_a_bad_line_is_named_or_left_out(tmp_path: Path, line: str, message: str) -> None:
    path = write_jsonl(tmp_path / "bad.jsonl", [gold(1), line, gold(3)])
    with pytest.raises(InputError, match=message):
        build_dataset(path, None)
    dataset = build_dataset(path, None, skip_bad=True, valid=0)
    assert len(dataset) == 2
    assert dataset.card["dropped"]["gold"] == {"cannot be read": 1}


def spoil(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def test_wrong_tables_are_named_by_column_and_row(tmp_path: Path) -> None:
    def table() -> Path:
        return write_csv(tmp_path / "bad.csv", [record(1), record(2)])

    with pytest.raises(InputError, match=r"bad.csv: has no column for novelty; is it 'novelity'\? rename it"):
        build_dataset(None, spoil(table(), ",novelty,", ",novelity,"))
    with pytest.raises(InputError, match=r"bad.csv: there is no move 'verve'"):
        build_dataset(None, spoil(spoil(table(), ",title,", ",verve,"), "annotation_status", "verve_sentences"))
    with pytest.raises(InputError, match=r"bad.csv: no column holds the abstract"):
        build_dataset(None, spoil(table(), ",abstract,", ",prose,"))
    with pytest.raises(InputError, match=r"bad.csv row 1: '3;x' is no list of sentence numbers; write them as 5;7"):
        build_dataset(None, spoil(table(), ",3;2,", ",3;x,"))
    with pytest.raises(InputError, match=r"bad.csv row 1: method rests on sentence 8 of 5"):
        build_dataset(None, spoil(table(), ",3;2,", ",3;8,"))
    table().write_text(table().read_text().removesuffix("tiny\n") + '"tiny\n')
    with pytest.raises(InputError, match=r"bad.csv row 2: the quote opened at or after line 3 is never closed"):
        build_dataset(None, tmp_path / "bad.csv")


def test_other_kinds_of_files_are_refused(tmp_path: Path) -> None:
    for name in ("labels.xlsx", "labels"):
        (tmp_path / name).write_text("x")
        with pytest.raises(UsageError, match=rf"{name}: cannot read .*use .csv"):
            build_dataset(tmp_path / name, None)
    with pytest.raises(InputError, match=r"none.jsonl cannot be read: No such file"):
        build_dataset(tmp_path / "none.jsonl", None)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(InputError, match=r"empty.jsonl is empty"):
        build_dataset(tmp_path / "empty.jsonl", None)


@pytest.mark.parametrize("module", [card, inputs, overlap, rows], ids=lambda module: module.__name__)
def test_examples_in_docstrings_are_true(module: ModuleType) -> None:
    result = doctest.testmod(module)
    assert result.attempted
    assert not result.failed


def test_quotes_are_found_again_in_their_order_and_nothing_else_is_a_quote() -> None:
    sentences = split_texts(4)
    for chosen in ([1], [5, 2], [4, 3, 1]):
        text = "  ".join(sentences[n - 1].upper() for n in chosen)
        assert quoted(text, sentences) == chosen
    assert quoted(sentences[0] + " and more", sentences) == []
    assert quoted("", sentences) == []
    assert quoted("We win. We win today.", ["We win.", "We win today."]) == [1, 2]  # the longer sentence first


def test_written_texts_rest_on_the_sentences_whose_words_they_use() -> None:
    sentences = split_texts(4)
    assert nearest("Cases are cut into 6 parts, joined by weighted votes", sentences, 4)[0] == [3]
    numbers, share = nearest("It fails where few cases are known but is 9% better on 7 data sets", sentences, 4)
    assert sorted(numbers) == [4, 5]
    assert share > 0.5
    assert nearest("Completely different wording", sentences, 4) == ([], 0.0)
    assert nearest("the of and", sentences, 4) == ([], 0.0)
    assert len(nearest(" ".join(sentences), sentences, 2)[0]) == 2

"""Labels without abstracts: character offsets and a hash that hold whatever splits the sentences."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from build_samples import MOVES, abstract, gold, write_jsonl

from finetune.build_finetune_from_annotations import build_dataset
from finetune.dataset import gold_labels
from harness.errors import InputError, Offline
from harness.readers import arxiv
from harness.readers.source import Record, Table

ROOT = Path(__file__).resolve().parents[1]
GOLD = ROOT.parent / "shared" / "data" / "gold"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Labels, and the gold rows that they were written from."""
    rows = write_jsonl(tmp_path / "gold.jsonl", [gold(n) for n in range(6)])
    assert gold_labels.main(["write", str(rows), "--out", str(tmp_path / "labels.csv")]) == 0
    return tmp_path / "labels.csv", rows


def answers(path: Path, **options: Any) -> list[tuple[str, str]]:
    return [(row["id"], row["completion"]) for row in build_dataset(path, None, valid=0, **options)]


def test_labels_joined_with_abstracts_say_what_the_gold_says(files: tuple[Path, Path], tmp_path: Path) -> None:
    labels, rows = files
    assert abstract(1)[:30] not in labels.read_text()
    assert answers(labels, abstracts=[str(rows)]) == answers(rows)
    table = tmp_path / "abstracts.csv"
    with table.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["ID", "Title", "Abstract"])
        for number in range(6):  # other spellings of the ids, other line breaks
            row = gold(number)
            writer.writerow([f"arXiv:{row['arxiv_id']}v2", row["title"], row["abstract"].replace(". ", ".\n  ")])
    assert answers(labels, abstracts=[str(table)]) == answers(rows)
    assert gold_labels.main(["check", str(labels), "--gold", str(rows)]) == 0


def test_sentences_that_no_splitter_finds_are_kept(tmp_path: Path) -> None:
    text = abstract(1)
    odd = [text[:40].strip(), text[40:]]
    moves = {move: [2] if move == "claim" else [] for move in MOVES}
    rows = write_jsonl(tmp_path / "gold.jsonl", [gold(1, sentences=odd, moves=moves)])
    gold_labels.main(["write", str(rows), "--out", str(tmp_path / "labels.csv")])
    [example] = build_dataset(tmp_path / "labels.csv", None, abstracts=[str(rows)], valid=0)
    assert example["prompt"][1]["content"].endswith(f"[1] {odd[0]}\n[2] {odd[1].strip()}")


def test_changed_and_missing_abstracts_are_left_out_with_the_reason(files: tuple[Path, Path], tmp_path: Path) -> None:
    labels, _ = files
    changed = [gold(n) for n in range(5)]
    changed[2]["abstract"] = changed[2]["abstract"].replace("weighted", "secret")
    dataset = build_dataset(labels, None, abstracts=[str(write_jsonl(tmp_path / "some.jsonl", changed))], valid=0)
    assert len(dataset) == 4
    assert dataset.card["dropped"]["gold"] == {
        "no abstract was found for the labels": 1,
        "the abstract is not the one that was labelled": 1,
    }
    both = build_dataset(labels, None, abstracts=[str(tmp_path / "some.jsonl"), str(files[1])], valid=0)
    assert len(both) == 5  # the second file has what the first lacks


def test_without_abstracts_the_remedy_is_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"need them; name a file with --abstracts, or --abstracts arxiv"):
        build_dataset(files[0], None)
    with pytest.raises(Offline, match=r"--offline is in force; name a file with --abstracts"):
        build_dataset(files[0], None, abstracts=["arxiv"], offline=True)
    with pytest.raises(InputError, match=r"none.csv: there is no such file of abstracts"):
        build_dataset(files[0], None, abstracts=[str(tmp_path / "none.csv")])


def test_abstracts_come_from_arxiv_in_few_calls(
    files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_ids(client: arxiv.Client, ids: Sequence[str]) -> Table:
        calls.append(list(ids))
        rows = {row["arxiv_id"]: row for row in map(gold, range(5))}
        records = [
            Record(n, {"title": rows[i]["title"], "abstract": rows[i]["abstract"]} if i in rows else {}, error=not_there(i))
            for n, i in enumerate(ids, 1)
        ]
        return Table("arXiv", "arxiv", arxiv.FIELDNAMES, lambda: iter(records), len(records))

    def not_there(identity: str) -> str | None:
        return "arXiv has no such paper" if identity == gold(5)["arxiv_id"] else None

    calls: list[list[str]] = []
    monkeypatch.setattr(arxiv.Client, "by_ids", by_ids)
    monkeypatch.setattr("finetune.dataset.inputs._PAGE", 4)
    dataset = build_dataset(files[0], None, abstracts="arxiv", valid=0)
    assert [row["id"] for row in dataset] == [gold(n)["arxiv_id"] for n in range(5)]
    assert [len(ids) for ids in calls] == [4, 2]  # once, although the inputs are read twice
    assert dataset.card["dropped"]["gold"] == {"no abstract was found for the labels": 1}
    assert dataset.card["abstracts"] == [{"file": "arxiv"}]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("sentence_spans", "0-9;5-20", "labels.csv row 1: '5-20' is no span of an abstract of"),
        ("sentence_spans", "0-99999", "labels.csv row 1: '0-99999' is no span"),
        ("sentence_spans", "0:9", "labels.csv row 1: '0:9' is no span"),
        ("claim", "two", "labels.csv row 1: 'two' is no list of sentence numbers"),
        ("claim", "7", "labels.csv row 1: claim rests on sentence 7 of 5"),
    ],
)
def test_spoilt_labels_are_named_by_row(files: tuple[Path, Path], column: str, value: str, message: str) -> None:
    labels, rows = files
    with labels.open(newline="") as handle:
        table = list(csv.DictReader(handle))
    table[0][column] = value
    with labels.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    with pytest.raises(InputError, match=message):
        build_dataset(labels, None, abstracts=[str(rows)])


def test_gold_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "labels.csv"
    for changes, message in (
        ({"sentences": ["Not in it."]}, "entry 1: its sentences do not stand in the abstract in order"),
        (
            {"moves": {move: [6] for move in MOVES}},
            "entry 1: a move names a sentence that is not there; it has 5 sentences",
        ),
        ({"arxiv_id": ""}, "entry 1: needs an id and its sentences"),
    ):
        rows = write_jsonl(tmp_path / "gold.jsonl", [gold(1, **changes)])
        assert gold_labels.main(["write", str(rows), "--out", str(out)]) == 1
        assert message in capsys.readouterr().err
    assert not out.exists()


def test_the_labels_in_the_repository_are_those_of_the_training_gold_and_hold_no_prose() -> None:
    labels = ROOT / "data" / "gold_labels.csv"
    with labels.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 2400
    prose = set("abcdefghijklmnopqrstuvwxyz") - set("abcdef")
    assert not any(prose & set(cell.lower()) for row in rows for key, cell in row.items() if key != "arxiv_id")
    if not GOLD.exists():
        pytest.skip("the project's data is not beside the checkout")
    dev = {json.loads(line)["arxiv_id"] for line in (GOLD / "moves_dev.jsonl").read_text().splitlines()}
    assert not dev & {row["arxiv_id"] for row in rows}
    assert gold_labels.main(["check", str(labels), "--gold", str(GOLD / "moves_train.jsonl")]) == 0


def test_labels_and_abstracts_become_gold_again(files: tuple[Path, Path], tmp_path: Path) -> None:
    labels, rows = files
    known = write_jsonl(tmp_path / "some.jsonl", [gold(n) for n in range(5)])
    out = tmp_path / "joined.jsonl"
    assert gold_labels.main(["join", str(labels), "--abstracts", str(known), "--out", str(out)]) == 0
    joined = [json.loads(line) for line in out.read_text().splitlines()]
    originals = [json.loads(line) for line in rows.read_text().splitlines()]
    assert joined == [{key: row[key] for key in joined[0]} for row in originals[:5]]
    assert gold_labels.main(["check", str(labels), "--gold", str(out)]) == 1  # the sixth paper's abstract was nowhere

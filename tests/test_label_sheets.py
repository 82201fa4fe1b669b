"""Sheets of abstracts to label: nothing that is known is drawn, controls are hidden, wrong lines are named."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from build_samples import MOVES, gold, write_jsonl

from finetune.dataset import label_sheets
from finetune.dataset.label_sheets import letters, line_of

LETTERS = letters(MOVES)
Labeller = Callable[[dict[str, Any]], dict[str, list[int]]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sheets of 20 papers for two annotators; the corpus also holds the gold and a paper that is held out."""
    known = write_jsonl(tmp_path / "gold.jsonl", [gold(n) for n in range(12)])
    held_out = write_jsonl(tmp_path / "held_out.jsonl", [gold(12)])
    rows = [{key: gold(n)[key] for key in ("arxiv_id", "title", "abstract")} for n in range(33)]
    rows.append(rows[-1])  # twice the same
    corpus = write_jsonl(tmp_path / "corpus.jsonl", rows)
    where = ["--gold", str(known), "--held-out", str(held_out), "--out", str(tmp_path / "sheets")]
    sizes = ["--papers", "20", "--annotators", "2", "--controls", "3", "--examples", "4", "--per-sheet", "8"]
    assert label_sheets.main(["make", str(corpus), *where, *sizes]) == 0
    return tmp_path / "sheets"


def key_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "key.jsonl").read_text().splitlines()]


def fill(folder: Path, labeller: Labeller) -> None:
    """Label every sheet of a folder."""
    key = {row["name"]: row for row in key_of(folder)}
    for path in (folder / "sheets").glob("*.txt"):
        names = re.findall(r"^## (P\d+)$", path.read_text(), re.MULTILINE)
        lines = [line_of(name, labeller(key[name]), LETTERS) for name in names]
        (folder / "labels" / f"{path.stem}.tsv").write_text("\n".join(lines) + "\n")


def test_new_papers_and_controls_look_alike_and_nothing_known_is_drawn(folder: Path) -> None:
    key = key_of(folder)
    assert [row["control"] for row in key].count(True) == 6
    drawn = {row["arxiv_id"] for row in key if not row["control"]}
    assert drawn == {gold(n)["arxiv_id"] for n in range(13, 33)}
    sheets = sorted((folder / "sheets").glob("*.txt"))
    assert [path.stem for path in sheets] == ["A00", "A01", "B00", "B01"]
    texts = "".join(path.read_text() for path in sheets)
    assert texts.count("\n[5] It fails where") == 26
    assert "control" not in texts
    examples = (folder / "examples.txt").read_text()
    assert examples.count("\n=> E") == 4
    assert all(row["title"] not in examples for row in key)


def test_labels_become_gold_rows_and_controls_only_a_score(folder: Path, tmp_path: Path) -> None:
    fill(folder, lambda paper: paper["moves"] if paper["control"] else {"claim": [2, 1], "scope": [4]})
    found = label_sheets.read(folder, tmp_path / "out.jsonl", MOVES)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(rows) == found["papers"] == 20
    assert all(row["moves"]["claim"] == [2, 1] and row["moves"]["limitation"] == [] for row in rows)
    assert found["stated"]["scope"] == 1
    assert found["agreement"]["controls"] == 6
    assert found["agreement"]["macro_f1"] == 1


def test_a_careless_annotator_is_seen(folder: Path, tmp_path: Path) -> None:
    rng = random.Random(1)
    careless = {row["name"]: [rng.randint(1, 5)] for row in key_of(folder)}

    def guess(paper: dict[str, Any]) -> dict[str, list[int]]:
        first = (folder / "sheets" / "A00.txt").read_text() + (folder / "sheets" / "A01.txt").read_text()
        careful = f"## {paper['name']}\n" in first and paper["control"]
        return paper["moves"] if careful else dict.fromkeys(MOVES, careless[paper["name"]])

    fill(folder, guess)
    agreement = label_sheets.read(folder, tmp_path / "out.jsonl", MOVES)["agreement"]
    assert agreement["annotator A"] == 1
    assert agreement["annotator B"] < 0.6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("|l:", "|q:"), "needs each of c e m s l x i n once"),
        (("c:2", "c:9"), "'c:9': the paper has sentences 1 to 5"),
        (("c:2", "c:2,2"), "each only once"),
        (("c:2", "c:two"), "'c:two' is no move with its sentences"),
        (("|c", "9|c"), "is no paper of these sheets"),
    ],
)
def test_a_wrong_line_is_named(folder: Path, tmp_path: Path, change: tuple[str, str], message: str) -> None:
    fill(folder, lambda _: {"claim": [2]})
    path = folder / "labels" / "B00.tsv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1].replace(*change, 1), *lines[2:]]))
    with pytest.raises(label_sheets.InputError, match=re.escape(message)) as raised:
        label_sheets.read(folder, tmp_path / "out.jsonl", MOVES)
    assert f"{path} row 2" in str(raised.value)
    assert not (tmp_path / "out.jsonl").exists()


def test_a_paper_that_is_labelled_twice_is_named(folder: Path, tmp_path: Path) -> None:
    fill(folder, lambda _: {"claim": [2]})
    (folder / "labels" / "C00.tsv").write_text((folder / "labels" / "A00.tsv").read_text())
    with pytest.raises(label_sheets.InputError, match="has been labelled before"):
        label_sheets.read(folder, tmp_path / "out.jsonl", MOVES)

"""JSON Lines, JSON and Parquet: broken records, shapes, own sentences, bounds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.readers import Paper, PaperSource, open_papers, text


def opened(path: Path, content: str | bytes) -> tuple[PaperSource, list[Paper]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    source = open_papers(str(path))
    return source, list(source.papers)


# --- JSON ---


def test_json_lines_go_on_after_a_broken_line(tmp_path: Path) -> None:
    lines = [
        '{"id": "a", "abstract": "A."}',
        "{broken",
        "",
        "[1]",
        '{"id": 5, "abstract": "B.", "year": 2024, "tags": ["x"]}',
    ]
    source, papers = opened(tmp_path / "p.jsonl", "\n".join(lines))
    assert [paper.id for paper in papers] == ["a", "row-2", "row-3", "5"]
    assert f"{tmp_path}/p.jsonl:2: not JSON" in (papers[1].error or "")
    assert "line 4 is not a JSON object" in (papers[2].error or "")
    assert papers[3].row == {"id": "5", "abstract": "B.", "year": "2024", "tags": '["x"]'}
    assert (source.fieldnames, source.total) == (("id", "abstract", "year", "tags"), 4)


def test_own_sentences_are_used_where_they_are_in_the_abstract(tmp_path: Path) -> None:
    rows = [
        {"abstract": "One. Two  three.", "sentences": ["One.", "Two  three."]},
        {"abstract": "One. Two.", "sentences": ["Two.", "One."]},
        {"abstract": "One. Two.", "sentences": ["One.", 2]},
    ]
    source, papers = opened(tmp_path / "p.jsonl", "\n".join(map(json.dumps, rows)))
    assert [paper.sentences for paper in papers] == [("One.", "Two  three."), None, None]
    assert f"{tmp_path}/p.jsonl: 2 rows with a list of sentences that are not in the abstract, ignored" in source.notes


def test_sentences_alone_make_the_abstract(tmp_path: Path) -> None:
    _, papers = opened(tmp_path / "p.jsonl", '{"doc_id": "d", "sentences": ["One.", "Two."]}\n')
    assert (papers[0].id, papers[0].abstract, papers[0].sentences) == ("d", "One. Two.", ("One.", "Two."))


@pytest.mark.parametrize(
    "content",
    [
        '[{"abstract": "A."}]',
        '{"papers": [{"abstract": "A."}]}',
        '{"abstract": "A."}',
        '{"abstract": "A."}\n{"abstract": "B."}',
    ],
)
def test_json_shapes(tmp_path: Path, content: str) -> None:
    source, papers = opened(tmp_path / "p.json", content)
    assert papers[0].abstract == "A."
    assert source.total == len(papers)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("{]", "is not JSON"),
        ('"text"', "neither a list"),
        ("[]", "no papers"),
        ("[1, 2]", "entry 1 is not a JSON object"),
        ('{"n": ' + "9" * 5000 + "}", "not JSON"),
    ],
)
def test_json_that_holds_no_papers(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(tmp_path / "p.json", content)


def test_half_characters_become_ones_that_can_be_written(tmp_path: Path) -> None:
    _, papers = opened(tmp_path / "p.jsonl", '{"abstract": "a \\ud83d b"}\n')
    assert papers[0].abstract == "a \ufffd b"


def test_large_files_are_not_walked_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.readers import jsonfile, tables

    monkeypatch.setattr(jsonfile, "SMALL", 10)
    monkeypatch.setattr(tables, "SMALL", 10)
    source, papers = opened(tmp_path / "p.jsonl", '{"abstract": "A."}\n' * 200)
    assert (source.total, len(papers)) == (None, 200)
    source, papers = opened(tmp_path / "p.csv", "id,abstract\n" + "1,A\n" * 200)
    assert (source.total, len(papers)) == (None, 200)


def test_documents_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "p.json").open("wb") as file:
        file.write(b"[")
        file.truncate(text.MAX_DOCUMENT + 1)
    with pytest.raises(InputError, match=r"larger than|binary"):
        open_papers(str(tmp_path / "p.json"))


# --- Parquet ---


def test_parquet(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = {
        "id": ["a", None],
        "abstract": ["One. Two.", "Three."],
        "sentences": [["One.", "Two."], None],
        "year": [2024, 2025],
        "score": [0.5, float("nan")],
        "blob": [b"caf\xc3\xa9", b"\xff"],
    }
    path = tmp_path / "p.parquet"
    parquet.write_table(pyarrow.table(rows), path)
    source = open_papers(str(path))
    papers = list(source.papers)
    assert (source.kind, source.total, source.fieldnames) == ("parquet", 2, tuple(rows))
    assert [(paper.id, paper.sentences) for paper in papers] == [("a", ("One.", "Two.")), ("row-2", None)]
    assert papers[0].row["sentences"] == '["One.", "Two."]'
    assert [papers[1].row[name] for name in ("year", "score", "blob")] == ["2025", "", "\ufffd"]


def test_parquet_that_is_none(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with pytest.raises(InputError, match="not a Parquet file"):
        opened(tmp_path / "p.parquet", b"PAR1 nonsense PAR1")


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'marginalia\[tables\]'"):
        opened(tmp_path / "p.parquet", b"PAR1")

"""Documents of Docling: JSON of the shape that docling-core writes, and what is said where Docling is not there."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from pdf_maker import block, make_pdf

from harness.cli import main
from harness.errors import InputError
from harness.search import docling
from harness.search.docling import document_of, is_document, read_pdf
from harness.search.sqlite_store import SqliteStore, index_path

ORDER = "texts 0, texts 1, texts 2, texts 3, texts 4, groups 0, tables 0, texts 7, pictures 0, texts 9, texts 10"


def ref(kind: str, place: int) -> dict[str, str]:
    return {"$ref": f"#/{kind}/{place}"}


def text(label: str, said: str, page: int = 1, **more: Any) -> dict[str, Any]:
    return {"label": label, "text": said, "orig": said, "children": [], "prov": [{"page_no": page}], **more}


def written() -> dict[str, Any]:
    """A title, two sections, a list in a group, a table, an equation, a caption below a picture, references."""
    cells = [["field", "yield"], ["north", "12 kg"]]
    return {
        "schema_name": "DoclingDocument",
        "version": "1.10.0",
        "name": "rye",
        "body": {"children": [ref(kind, int(place)) for kind, place in map(str.split, ORDER.split(", "))]},
        "groups": [{"label": "list", "children": [ref("texts", 5), ref("texts", 6)]}],
        "texts": [
            text("title", "Rye by the sea"),
            text("page_header", "Journal of Rye"),
            text("text", "We sowed rye near the coast."),
            text("section_header", "Methods", level=1),
            text("text", "Each field was watered.", 2),
            text("list_item", "Sand was dry.", 2),
            text("list_item", "Clay was wet.", 2),
            text("formula", "y = a x + b", 2),
            text("caption", "Figure 1: the fields.", 3),
            text("section_header", "References", 3, level=1),
            text("list_item", "A. Miller: Oats. 1999.", 3),
            text("text", "12 kg", 2),
            text("caption", "Table 1: yields.", 2),
        ],
        "tables": [{"label": "table", "children": [ref("texts", 11), ref("texts", 12)], "prov": [{"page_no": 2}],
                    "data": {"grid": [[{"text": cell} for cell in row] for row in cells]}}],
        "pictures": [{"label": "picture", "children": [ref("texts", 8)], "prov": []}],
    }  # fmt: skip


def test_sections_tables_equations_and_pages_come_out() -> None:
    document = document_of(written(), "rye.json")
    assert (document.title, document.pages) == ("Rye by the sea", 3)
    found = [(one.section, one.text, one.page_at(0)) for one in document.blocks]
    assert found == [
        ("", "We sowed rye near the coast.", 1),
        ("Methods", "Each field was watered.", 2),
        ("Methods", "Sand was dry.", 2),
        ("Methods", "Clay was wet.", 2),
        ("Methods", "field | yield\nnorth | 12 kg", 2),
        ("Methods", "Table 1: yields.", 2),
        ("Methods", "$y = a x + b$", 2),
        ("Methods", "Figure 1: the fields.", 3),
        ("References", "A. Miller: Oats. 1999.", 3),
    ]
    assert [one.references for one in document.blocks] == [False] * 8 + [True]


def test_a_broken_tree_is_one_line() -> None:
    loop = written()
    loop["groups"][0]["children"].append(ref("groups", 0))
    lost = written()
    lost["body"]["children"].append(ref("texts", 99))
    for data in (loop, lost, {**written(), "texts": []}):
        with pytest.raises(InputError, match="no whole document of Docling"):
            document_of(data, "rye.json")
    assert not is_document({"schema_name": "other", "body": {}})
    assert not is_document([])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def indexed() -> list[str]:
    with SqliteStore(index_path()) as store:
        return [chunk.text for path in store.files() for chunk in store.chunks_of_file(path)]


def test_its_json_is_indexed_as_a_paper(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "rye.json").write_text(json.dumps(written()), encoding="utf-8")
    assert main(["/index rye.json"]) == 0
    assert any("north | 12 kg" in one for one in indexed())
    (place / "bad.json").write_text(json.dumps({**written(), "texts": []}), encoding="utf-8")
    assert main(["/index bad.json"]) == 1
    assert "bad.json: is no whole document of Docling" in capsys.readouterr().err


def test_pdfs_are_given_to_the_program_and_its_failures_are_one_line(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.name == "nt":
        pytest.skip("the stand-in is a script with a shebang")
    make_pdf(place / "rye.pdf", block(60, 700, ["Rye grew."]))
    bin_ = place / "bin"
    bin_.mkdir()
    monkeypatch.setenv("PATH", str(bin_))
    with pytest.raises(InputError, match="docling is not installed"):
        read_pdf(place / "rye.pdf")
    (place / "answer.json").write_text(json.dumps(written()), encoding="utf-8")
    program = bin_ / "docling"

    def stand_in(body: str) -> None:
        program.write_text(f"#!{sys.executable}\nimport sys, shutil, time\n{body}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)

    stand_in(f"shutil.copy({str(place / 'answer.json')!r}, sys.argv[sys.argv.index('--output') + 1] + '/rye.json')")
    assert main(["/index --docling rye.pdf"]) == 0
    assert any("north | 12 kg" in one for one in indexed())
    stand_in("sys.exit('no model')")
    with pytest.raises(InputError, match="docling cannot read it"):
        read_pdf(place / "rye.pdf")
    stand_in("time.sleep(20)")
    with pytest.raises(InputError, match="took more than"):
        docling.read_pdf(place / "rye.pdf", seconds=0.3)

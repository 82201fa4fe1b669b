"""/index end to end: the command, real PDFs made here, the index that stays behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pdf_maker import block, make_pdf

from harness.cli import main

PAGE = ["Rye is sown in autumn, long before the winter.", "It is cut in summer when the heads are dry."]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with papers, a data folder of its own, and no daemon."""
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    work = tmp_path / "work"
    (work / "papers").mkdir(parents=True)
    monkeypatch.chdir(work)
    make_pdf(work / "papers" / "rye.pdf", block(60, 700, ["Nothing on it yet stands on this page."]), block(60, 700, PAGE))
    (work / "papers" / "wheat.md").write_text("# On wheat\n\n## Methods\n\nWheat was sown in spring and cut in August.\n")
    (work / "papers" / "cut.pdf").write_bytes(b"%PDF-1.4 and nothing more")
    return work


def run(capsys: pytest.CaptureFixture[str], task: str) -> tuple[int, list[dict[str, Any]], str]:
    status = main(["--json", task])
    out, err = capsys.readouterr()
    return status, [json.loads(line) for line in out.splitlines()], err


def test_index_find_list_forget(capsys: pytest.CaptureFixture[str]) -> None:
    status, files, err = run(capsys, "/index papers/")
    assert status == 1
    assert [(Path(file["file"]).name, file["status"]) for file in files] == [
        ("cut.pdf", "failed"), ("rye.pdf", "new"), ("wheat.md", "new"),
    ]  # fmt: skip
    assert "cut.pdf is damaged or cut short; download it again" in err

    status, hits, _ = run(capsys, '/index --find "When is rye cut?" --explain')
    assert status == 0
    assert (Path(hits[0]["file"]).name, hits[0]["page"], hits[0]["where"]) == ("rye.pdf", 1, "pp. 1-2")
    assert " ".join(PAGE) in hits[0]["text"]
    assert hits[0]["steps"][0]["stage"] == "bm25"

    _, listed, _ = run(capsys, "/index --list")
    assert [file["chunks"] for file in listed] == [0, 1, 1]

    status, gone, _ = run(capsys, "/index --forget papers/rye.pdf")
    assert (status, len(gone)) == (0, 1)
    status, _, err = run(capsys, "/index --find rye")
    assert status == 1
    assert "no passage in the index has what was asked for" in err


def test_a_second_run_says_unchanged_and_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    main(["/index papers/wheat.md papers/rye.pdf"])
    assert "2 files: 2 new; read 2 pages, made 2 chunks" in capsys.readouterr().out
    assert main(["/index papers/wheat.md papers/rye.pdf"]) == 0
    assert "2 files: 2 unchanged" in capsys.readouterr().out
    assert main(["/index --find 'wheat -spring'"]) == 1
    capsys.readouterr()
    assert main(["/index papers/wheat.md --find 'sown' --line 'lex: spring' --explain --limit 1"]) == 0
    out = capsys.readouterr().out
    assert "wheat.md" in out
    assert "rye.pdf" not in out
    assert "2/(60 + 1)" in out


def test_a_folder_with_a_blank_in_its_name_and_a_pattern(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "my papers").mkdir()
    (place / "my papers" / "a.txt").write_text("Oats are sown early.\n")
    assert run(capsys, "/index my papers")[1][0]["status"] == "new"
    assert [Path(file["file"]).name for file in run(capsys, "/index papers/*.md")[1]] == ["wheat.md"]
    assert "no file matches" in run(capsys, "/index papers/*.csv")[2]


@pytest.mark.parametrize(
    ("task", "message", "code"),
    [
        ("/index", "nothing to index", 2),
        ("/index nowhere/", "there is no file 'nowhere", 1),
        ("/index papers save to x.jsonl", "/index saves nothing but its index", 2),
        ("/index --find a --list", "--find and --list are two different things", 2),
        ("/index papers --limit 3", "--limit goes with --find", 2),
        ("/index --find a --limit 0", "is not a whole number above 0", 2),
        ("/index --find a --line nonsense", "is no line of an expansion", 2),
        ("/index papers --column body", "not of the form FIELD=NAME", 2),
        ("/index --forget papers", "is not in the index", 1),
    ],
)
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], task: str, message: str, code: int) -> None:
    status, _, err = run(capsys, task)
    assert status == code
    assert message in err
    assert "Traceback" not in err


def test_finding_in_files_reads_them_first(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, hits, err = run(capsys, "/index papers/ --find wheat")
    assert (status, [Path(hit["file"]).name for hit in hits]) == (0, ["wheat.md"])
    assert "cut.pdf is damaged" in err
    copy = place / "more" / "again.md"
    copy.parent.mkdir()
    copy.write_bytes((place / "papers" / "wheat.md").read_bytes())
    status, hits, _ = run(capsys, "/index more/ --find wheat")
    assert status == 0  # the same content is indexed once, and found wherever it stands
    assert len(hits) == 1

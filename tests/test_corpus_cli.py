"""``python agent.py corpus …``: every command, piped and on a terminal, and the files it writes."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import console, html_page
from harness.bibtex import split_authors
from harness.config import Settings
from harness.corpus import Corpus, corpus_path
from harness.corpus_cli import main
from harness.errors import InputError, UsageError
from harness.readers import bibtex as bibtex_reader
from harness.readers.text import from_string

Run = Callable[..., list[str]]


def record(paper_id: str, title: str, claim: str | None, limitation: str | None, sure: float = 0.8) -> dict[str, Any]:
    moves = {"claim": claim, "limitation": limitation}
    entries = {
        name: text and {"text": text, "sentences": [2, 5], "spans": [[0, 3]], "confidence": sure}
        for name, text in moves.items()
    }
    model = {"name": "test:mini", "backend": "embedded", "digest": ""}
    return {
        "id": paper_id,
        "title": title,
        "status": "ok",
        "moves": entries,
        "style": "quote",
        "model": model,
        "error": None,
    }


RECORDS = [
    record("2402.11651v2", "Small Agents: 50% {less} \\input & $x_1$", "Agents\tget fast.", "Latency | stays high."),
    record("2501.00001", "Tiny models", "We shrink models.", "High latencies remain.", 0.4),
    record("10.1000/xyz", "Fields of wheat", "Wheat grows.", None),
]
ROWS = [
    {"published": "2024-02-18", "categories": "cs.CL cs.AI", "authors": "Ada Nova, Bo Lund", "abstract": "abc { def"},
    {"published": "2025-01-01", "categories": "cs.LG", "authors": "Nova, Ada and O'Neil, Cy", "abstract": "privacy"},
    {"year": "2025", "keywords": "farming; wheat", "authors": "", "abstract": ""},
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.fixture
def filled(home: Path) -> Path:
    with Corpus(corpus_path()) as corpus:
        corpus.add(RECORDS, ROWS)
    return home


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command that must end with 0; gives the lines of stdout."""

    def run(*argv: str, settings: Settings | None = None) -> list[str]:
        assert main(argv, settings or Settings()) == 0
        return capsys.readouterr().out.splitlines()

    return run


@pytest.mark.parametrize(
    "argv",
    [["list"], ["search", "x"], ["stats"], ["matrix"], ["compare", "x"], ["export", "--out", "x.csv"], ["forget", "x"]],
)
def test_an_empty_corpus_says_how_to_fill_it(home: Path, argv: list[str]) -> None:
    with pytest.raises(InputError, match=r"corpus is empty; annotate some papers first.*/annotate"):
        main(argv, Settings())


def test_help_names_the_commands(home: Path, run: Run) -> None:
    text = "\n".join(run("--help"))
    assert text == "\n".join(run())
    assert all(name in text for name in ("search", "list", "stats", "matrix", "compare", "export", "import", "forget"))
    assert "--min-confidence" in "\n".join(run("search", "--help"))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["dance"], "invalid choice"),
        (["list", "--limit", "0"], "--limit: '0' is not a number from 1"),
        (["list", "--min-confidence", "2"], "--min-confidence: '2' is not a number from 0 to 1"),
        (["list", "--year", "soon"], "range of years"),
        (["list", "--term", "-x"], "--term"),
        (["list", "--term", "++"], "no word to look for"),
        (["search", "limitatoin", "latency"], "did you mean 'limitation'"),
        (["matrix", "--moves", "claim,nope"], "there is no move 'nope'; the corpus has claim, limitation"),
        (["export", "--out", "x.docx"], "cannot write .docx"),
        (["export", "--out", "../x.csv"], "leaves the working folder"),
        (["export", "--out", "~/x.csv"], "leaves the working folder"),
    ],
)
def test_wrong_usage_is_one_line(filled: Path, argv: list[str], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        main(argv, Settings())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_search_piped_is_tab_separated(filled: Path, run: Run) -> None:
    header, *lines = run("search", "limitation", "latency", "--year", "2024..2026", "--category", "cs.CL")
    assert header.split("\t") == ["id", "year", "move", "confidence", "text", "sentences", "title"]
    assert [line.split("\t")[:6] for line in lines] == [
        ["2402.11651", "2024", "limitation", "0.80", "Latency | stays high.", "2;5"]
    ]


def test_search_without_a_move_takes_all_words(filled: Path, run: Run) -> None:
    assert [line.split("\t")[0] for line in run("search", "shrink", "models")[1:]] == ["2501.00001"]
    assert run("search", "privacy")[1].split("\t")[2] == "(abstract)"
    assert len(run("search", "limitation")) == 3
    assert len(run("search", "limitation", "--min-confidence", ".6")) == 2
    assert len(run("search", "limitation", "--limit", "1")) == 2


def test_search_that_finds_nothing_says_so_on_stderr(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "zebra"], Settings()) == 0
    assert capsys.readouterr() == ("", "nothing found\n")


def test_json_by_flag_and_by_setting(filled: Path, run: Run) -> None:
    (line,) = run("search", "claim", "wheat", "--json")
    assert json.loads(line) == {
        "id": "10.1000/xyz",
        "title": "Fields of wheat",
        "year": 2025,
        "categories": ["farming", "wheat"],
        "move": "claim",
        "text": "Wheat grows.",
        "sentences": [2, 5],
        "confidence": 0.8,
    }
    lines = run("list", settings=Settings(json=True))
    assert [json.loads(line)["id"] for line in lines] == ["10.1000/xyz", "2501.00001", "2402.11651v2"]
    assert json.loads(run("stats", "--json")[0])["shares"] == {"claim": 1, "limitation": pytest.approx(2 / 3)}
    assert len(run("matrix", "--json", "--year", "2024")) == 1
    assert json.loads(run("compare", "2501.00001", "--json")[0])["authors"] == "Nova, Ada and O'Neil, Cy"


def test_list(filled: Path, run: Run) -> None:
    lines = [line.split("\t") for line in run("list")]
    assert lines[1] == ["10.1000/xyz", "2025", "Fields of wheat", "farming; wheat", "1/2"]
    assert [line[0] for line in lines[2:]] == ["2501.00001", "2402.11651"]


def test_stats(filled: Path, run: Run) -> None:
    assert run("stats") == ["group\tpapers\tclaim\tlimitation", "all\t3\t100%\t67%"]
    assert run("stats", "--by", "year")[1:] == ["2024\t1\t100%\t100%", "2025\t2\t100%\t50%"]
    assert run("stats", "--by", "category", "--year", "2025")[1:] == [
        *("cs.LG\t1\t100%\t100%", "farming\t1\t100%\t0%", "wheat\t1\t100%\t0%")
    ]
    assert run("stats", "--term", "latency", "--term", "zebra")[1:] == [
        *("all\t3\t100%\t67%", "latency\t2\t100%\t100%", "zebra\t0\t\t")
    ]


def test_plot_draws_bars_to_scale(filled: Path, run: Run) -> None:
    lines = run("stats", "--plot")
    assert lines[0] == "all (3 papers)"
    assert lines[1] == f"  claim       {'█' * 30} 100%"
    assert lines[2] == f"  limitation  {'█' * 20}{' ' * 10}  67%"


def test_matrix_and_compare(filled: Path, run: Run) -> None:
    lines = run("matrix", "--moves", "limitation, claim", "--category", "cs")
    assert lines[0] == "id\tyear\ttitle\tlimitation\tclaim"
    assert lines[1].split("\t")[3:] == ["High latencies remain.", "We shrink models."]
    assert lines[2].split("\t")[3:] == ["Latency | stays high.", "Agents get fast."]
    assert run("compare", "arXiv:2501.00001v7", "10.1000/XYZ") == [
        *("\t2501.00001\t10.1000/xyz", "year\t2025\t2025", "title\tTiny models\tFields of wheat"),
        *("claim\tWe shrink models.\tWheat grows.", "limitation\tHigh latencies remain.\t"),
    ]
    with pytest.raises(InputError, match="'1234' is not in the corpus"):
        main(["compare", "1234"], Settings())


def test_on_a_terminal_tables_are_drawn_and_escape_codes_are_not_obeyed(
    filled: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Corpus(corpus_path()) as corpus:
        corpus.add([record("e", "\x1b[2Jevil [red]markup[/red]", "x" * 500, None)])
    monkeypatch.setattr(console, "stdout_is_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    text = "\n".join(run("matrix"))
    assert "\x1b[2J" not in text
    assert "[red]markup[/red]" in text
    assert "─" in text
    assert "x" * 200 not in text
    assert "…" in text


def test_matrix_files(filled: Path, run: Run) -> None:
    for suffix in ("csv", "md", "html"):
        assert run("matrix", "--moves", "limitation", "--out", f"m.{suffix}") == []
    with open("m.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["limitation"] for row in rows] == ["", "High latencies remain.", "Latency | stays high."]
    assert "claim" not in rows[0]
    assert (rows[2]["id"], rows[2]["year"], rows[2]["limitation_sentences"]) == ("2402.11651", "2024", "2;5")
    lines = Path("m.md").read_text(encoding="utf-8").splitlines()
    assert lines[:2] == ["| id | year | title | limitation |", "| --- | --- | --- | --- |"]
    assert len(lines) == 5
    assert r"Latency \| stays high." in lines[4]
    assert html_page.arxiv_link("2402.11651") in Path("m.html").read_text(encoding="utf-8")


def test_existing_files_are_kept_without_yes(filled: Path, run: Run) -> None:
    for name in ("m.md", "m.csv"):
        Path(name).write_text("mine")
        with pytest.raises(UsageError, match="exists already"):
            main(["matrix", "--out", name], Settings())
        assert Path(name).read_text() == "mine"
        run("matrix", "--out", name, "--yes")
        assert Path(name).read_text() != "mine"


def test_export_and_import_are_each_others_inverse(filled: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("export", "--out", "all.jsonl")
    before = run("list", "--json")
    monkeypatch.setenv("MARGINALIA_HOME", str(filled / "second"))
    assert run("import", "all.jsonl") == []
    assert run("list", "--json") == before
    run("import", "all.jsonl")
    assert run("list", "--json") == before


def test_exported_bibtex_can_be_read_and_is_inert(filled: Path, run: Run) -> None:
    with Corpus(corpus_path()) as corpus:
        corpus.add([record("2402.99999", "Small doubts } \\write18{x}", "c", None)], [ROWS[0]])
    run("export", "--out", "all.bib")
    text = Path("all.bib").read_text(encoding="utf-8")
    rows = [entry.row for entry in bibtex_reader.read(from_string("all.bib", text)).records()]
    assert len(rows) == 4
    assert [row["year"] for row in rows] == ["2025", "2025", "2024", "2024"]
    assert "\\input" not in text
    assert "\\write" not in text
    assert text.count("{") == text.count("}")
    assert "@misc{nova2024small,\n" in text
    assert "@misc{nova2024small-2,\n" in text
    assert "  title = {{Small Agents: 50\\% \\textbraceleft{}less\\textbraceright{}" in text
    assert "  author = {Ada Nova and Bo Lund},\n" in text
    assert "  author = {Nova, Ada and O'Neil, Cy},\n" in text
    assert "  eprint = {2402.11651},\n" in text
    assert "@article{2025fields,\n" in text
    assert "  doi = {10.1000/xyz},\n" in text
    assert "  annote = {claim: Wheat grows.},\n" in text


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("Ada Nova, Bo Lund", ["Ada Nova", "Bo Lund"]),
        ("Ada Nova, Bo Lund, and Cy O", ["Ada Nova", "Bo Lund", "Cy O"]),
        ("Nova, Ada; Lund, Bo", ["Nova, Ada", "Lund, Bo"]),
        ("Nova, Ada and Lund, Bo", ["Nova, Ada", "Lund, Bo"]),
        ("Nova, Ada", ["Nova, Ada"]),
        ("Plato", ["Plato"]),
        ("Smith J.; van der Berg K.-L.", ["Smith, J.", "van der Berg, K.-L."]),
        ("Smith JA, Doe K", ["Smith, JA", "Doe, K"]),
        ("Acme AI", ["Acme AI"]),
        ("", []),
    ],
)
def test_author_cells(cell: str, names: list[str]) -> None:
    assert split_authors(cell) == names


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"id": "x", "moves": {}}\nnonsense\n', "line 2: is no JSON"),
        (b'\n{"id": "x"}\n', "line 2: has no moves"),
        (b"[1]\n", "entry 1: is no JSON object"),
        (b'{"a": ' * 100_000, "line 1: is no JSON"),
        (b"[1, ", "is no JSON"),
        (b"\x00\x01\x80" * 50, "is a binary file"),
    ],
)
def test_a_wrong_import_names_the_line_and_imports_nothing(filled: Path, content: bytes, said: str) -> None:
    Path("bad.jsonl").write_bytes(content)
    with pytest.raises(InputError) as caught:
        main(["import", "bad.jsonl"], Settings())
    assert re.match(rf"bad\.jsonl:? {said}", str(caught.value))
    with Corpus(corpus_path()) as corpus:
        assert len(corpus) == 3


def test_import_of_what_is_no_file(home: Path) -> None:
    for name in ("missing.jsonl", "."):
        with pytest.raises(InputError, match="cannot be read"):
            main(["import", name], Settings())


def test_forget(filled: Path, run: Run) -> None:
    run("forget", "2402.11651v1")
    assert [line.split("\t")[0] for line in run("list")[1:]] == ["10.1000/xyz", "2501.00001"]
    with pytest.raises(InputError, match="is not in the corpus"):
        main(["forget", "2402.11651"], Settings())


def test_import_and_forget_as_json_are_one_object(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("new.jsonl").write_text(json.dumps(record("2601.00009", "Ninth", "Nine.", None)) + "\n", encoding="utf-8")
    assert main(["import", "new.jsonl"], Settings(json=True)) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ({"new": 1, "replaced": 0, "left_out": 0}, "")
    assert main(["forget", "2601.00009", "--json"], Settings()) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ({"forgotten": [{"id": "2601.00009", "title": "Ninth"}]}, "")


def test_export_as_tsv_is_read_back(home: Path) -> None:
    with Corpus(corpus_path()) as corpus:
        corpus.add(RECORDS, ROWS, source="test")
    assert main(["export", "--out", "all.tsv"], Settings()) == 0
    with open("all.tsv", newline="", encoding="utf-8") as handle:
        rows = {row["title"]: row for row in csv.DictReader(handle, delimiter="\t")}
    assert rows[RECORDS[0]["title"]]["claim"] == "Agents\tget fast."
    assert rows["Tiny models"]["limitation_sentences"] == "2;5"

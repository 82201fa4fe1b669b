"""CSV and TSV: columns by meaning, delimiters, encodings, broken rows, bounds, real data."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import InputError, UsageError
from harness.readers import Paper, PaperSource, open_papers
from harness.readers.columns import resolve
from harness.readers.source import Table

DATA = Path(__file__).parents[2] / "shared" / "data" / "papers"


def needs(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip("needs ../shared/data, which is not in the repository")
    return DATA / name


def opened(path: Path, content: str | bytes, **options: object) -> tuple[PaperSource, list[Paper]]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    source = open_papers(str(path), **options)  # type: ignore[arg-type]
    return source, list(source.papers)


# --- columns ---


@pytest.mark.parametrize(
    "name", ["abstract", "Abstract ", "SUMMARY", "AB", "paper_abstract", "Abstract Note", "description"]
)
def test_the_abstract_column_is_found_by_meaning(tmp_path: Path, name: str) -> None:
    source, papers = opened(tmp_path / "p.csv", f"DOI,TI,{name}\n10.1/x,T,Text.\n")
    assert (papers[0].id, papers[0].title, papers[0].abstract) == ("10.1/x", "T", "Text.")
    assert source.fieldnames == ("DOI", "TI", name)
    assert any(f"'{name.strip()}'" in note for note in source.notes)


EXPORTS = {
    "scopus": ("Authors,Title,Year,Source title,DOI,Abstract,EID", "Title", "DOI"),
    "scopus by api": ("dc:identifier,dc:title,prism:publicationName,dc:description", "dc:title", "dc:identifier"),
    "web of science": ("Article Title,Source Title,Abstract,UT (Unique WOS ID)", "Article Title", "UT (Unique WOS ID)"),
    "web of science, tags": ("AU,TI,SO,DE,ID,AB,DI,UT,PM", "TI", "UT"),
    "pubmed": ("PMID,Title,Authors,Journal/Book,Abstract", "Title", "PMID"),
    "zotero": ("Key,Item Type,Author,Title,Publication Title,Abstract Note", "Title", "Key"),
    "endnote": ("Reference Type,Primary Title,Journal,Abstract,Accession Number", "Primary Title", "Accession Number"),
    "ris": ("TY,T1,JO,N2,AN", "T1", "AN"),
    "openalex": ("openalex_id,display_name,publication_year,abstract", "display_name", "openalex_id"),
    "semantic scholar": ("paperId,corpusId,title,venue,abstract,tldr", "title", "paperId"),
    "arxiv": ("id,submitter,title,journal-ref,abstract", "title", "id"),
    "ieee": ("Document Title,Authors,Publication Title,Abstract,PDF Link,Document Identifier", "Document Title", None),
    "dimensions": ("Rank,Publication ID,Title,Source title,Abstract", "Title", "Publication ID"),
    "springer": ("Item Title,Publication Title,Item DOI,Abstract (English)", "Item Title", None),
    "biorxiv": ("preprint_doi,preprint_title,preprint_abstract,published_journal", "preprint_title", "preprint_doi"),
    "by hand": ("Heading,Summary", "Heading", None),
    "by hand, too": ("Paper,Journal,Description", "Paper", None),
}  # fmt: skip
"""Column names as exports have them, and those of title and id."""


@pytest.mark.parametrize("export", EXPORTS)
def test_columns_of_the_usual_exports(tmp_path: Path, export: str) -> None:
    header, title, identity = EXPORTS[export]
    names = header.split(",")
    columns = resolve(Table("t", "csv", tuple(names), lambda: iter(()), 0), {})
    assert (columns.title, columns.id) == (title, identity)
    _, (paper,) = opened(tmp_path / "p.csv", f"{header}\n" + ",".join(f"v{n}" for n in range(len(names))))
    assert paper.title == f"v{names.index(title)}"
    assert paper.error is None


def test_abstract_wins_over_summary_and_arxiv_id_over_id(tmp_path: Path) -> None:
    _, papers = opened(tmp_path / "p.csv", "id,summary,abstract,arxiv_id\n1,no,yes,2401.00001\n")
    assert (papers[0].id, papers[0].abstract) == ("2401.00001", "yes")


def test_given_columns(tmp_path: Path) -> None:
    _, papers = opened(
        tmp_path / "p.csv", "n,head,Body\n7,T,Text.\n", columns={"abstract": "body", "id": "n", "title": "head"}
    )
    assert (papers[0].id, papers[0].title, papers[0].abstract) == ("7", "T", "Text.")


def test_a_given_column_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"p\.csv has no column 'text' \(columns: id, abstract\); correct --column abstract"
    ):
        opened(tmp_path / "p.csv", "id,abstract\n1,x\n", columns={"abstract": "text"})
    with pytest.raises(UsageError, match="no such meaning"):
        opened(tmp_path / "p.csv", "id,abstract\n1,x\n", columns={"author": "id"})


@pytest.mark.parametrize(
    ("content", "guess"),
    [
        ("id,title,body\n1,x,y\n", "body"),
        ("id,title,Abstract (DE)\n1,x,y\n", r"Abstract \(DE\)"),
        ("id,what\n1,a long text that could be it\n", "what"),
    ],
)
def test_no_abstract_column(tmp_path: Path, content: str, guess: str) -> None:
    with pytest.raises(InputError, match=f"no column holds the abstract .*--column abstract={guess}"):
        opened(tmp_path / "p.csv", content)


# --- CSV ---


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("name", ["p.csv", "p.tsv"])
def test_delimiters_are_sniffed(tmp_path: Path, delimiter: str, name: str) -> None:
    rows = [["id", "title", "abstract"], ["1", "a; b, c", "x | y\tz, and more; so"]]
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter).writerows(rows)
    source, papers = opened(tmp_path / name, buffer.getvalue())
    assert list(papers[0].row.values()) == rows[1]
    assert source.kind == name[2:]


def test_excel_writes_its_delimiter_first(tmp_path: Path) -> None:
    source, papers = opened(tmp_path / "p.csv", "sep=;\r\nid;abstract\r\n1;x, y\r\n")
    assert (papers[0].id, papers[0].abstract, papers[0].number, source.total) == ("1", "x, y", 1, 1)


@pytest.mark.parametrize(
    ("encoding", "note"),
    [
        ("utf-8", ""),
        ("utf-8-sig", ""),
        ("utf-16", ""),
        ("utf-32", ""),
        ("utf-16-le", "read as UTF-16"),
        ("utf-16-be", "read as UTF-16"),
        ("cp1252", "read as cp1252"),
        ("latin-1", "read as cp1252"),
    ],
)
def test_encodings(tmp_path: Path, encoding: str, note: str) -> None:
    abstract = "Größe und Stärke, café; naïve « façon ». Zwei Sätze."
    source, papers = opened(tmp_path / "p.csv", f'id,abstract\n1,"{abstract}"\n'.encode(encoding))
    assert papers[0].abstract == abstract
    assert source.fieldnames[0] == "id"
    assert note in " ".join(source.notes)
    assert bool(note) == ("read as" in " ".join(source.notes))


def test_bytes_that_cp1252_does_not_have_are_latin_1(tmp_path: Path) -> None:
    source, papers = opened(tmp_path / "p.csv", b"id,abstract\n1,caf\xe9 \x81\n")
    assert papers[0].abstract == "café \x81"
    assert "latin-1" in source.notes[0]


def test_a_bad_byte_far_into_the_file_is_found(tmp_path: Path) -> None:
    rows = b"".join(b"%d,some text\n" % n for n in range(100_000))
    _, papers = opened(tmp_path / "p.csv", b"id,abstract\n" + rows + b"x,caf\xe9\n")
    assert papers[-1].abstract == "café"
    assert len(papers) == 100_001


def test_quoted_newlines_long_cells_latex_and_nul(tmp_path: Path) -> None:
    abstract = 'First line,\r\nsecond "quoted" line with $\\alpha_{1}$ and a \0 byte.\n\n' + "word " * 30_000
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["id", "abstract"], ["1", abstract], ["2", "short"]])
    source, papers = opened(tmp_path / "p.csv", buffer.getvalue())
    assert [paper.abstract for paper in papers] == [abstract, "short"]
    assert source.total == 2


def test_ragged_rows_are_kept(tmp_path: Path) -> None:
    content = "id,title,abstract\n1,only a title\n2,T,one, two, and three\n\n3,T,text,,\n4,T,\n"
    source, papers = opened(tmp_path / "p.csv", content)
    assert [paper.id for paper in papers] == ["1", "2", "3", "4"]
    assert papers[0].error == f"{tmp_path}/p.csv row 1: the abstract is empty"
    assert papers[1].abstract == "one, two, and three"  # an unquoted comma in the last cell separates nothing
    assert papers[2].abstract == "text"
    assert [paper.error is None for paper in papers] == [False, True, True, False]
    assert sum("line 3 has more cells" in note for note in source.notes) == 1
    assert f"{tmp_path}/p.csv: 2 rows without an abstract" in source.notes


def test_one_column_needs_no_quotes(tmp_path: Path) -> None:
    source, papers = opened(tmp_path / "p.csv", 'Abstract\nWe do this, that; and more.\n"Quoted, too."\n')
    assert [paper.abstract for paper in papers] == ["We do this, that; and more.", "Quoted, too."]
    assert source.fieldnames == ("Abstract",)


def test_missing_and_duplicate_ids(tmp_path: Path) -> None:
    source, papers = opened(tmp_path / "p.csv", "id,abstract\ncs/0306108v1,x\n,y\ncs/0306108v1,z\n../../etc,w\n")
    assert [paper.id for paper in papers] == ["cs/0306108v1", "row-2", "cs/0306108v1", "../../etc"]
    assert source.notes[1:] == [
        f"{tmp_path}/p.csv: 1 row without an id, called row-N",
        f"{tmp_path}/p.csv: 1 row with an id that occurred before",
    ]


def test_duplicate_and_empty_headers_lose_no_cell(tmp_path: Path) -> None:
    source, papers = opened(tmp_path / "p.csv", "id,abstract,abstract,,abstract_2\n1,a,b,c,d\n")
    assert source.fieldnames == ("id", "abstract", "abstract_3", "column_4", "abstract_2")
    assert list(papers[0].row.values()) == ["1", "a", "b", "c", "d"]
    assert "renamed" in source.notes[0]


def test_a_quote_that_is_never_closed_is_said(tmp_path: Path) -> None:
    _, papers = opened(tmp_path / "p.csv", 'id,abstract\n1,fine\n2,"opened here\n3,swallowed\n')
    assert papers[0].error is None
    assert "row 2: the quote opened at or after line 3 is never closed" in (papers[1].error or "")


def test_header_without_rows(tmp_path: Path) -> None:
    source, papers = opened(tmp_path / "p.csv", "id,abstract\n")
    assert (papers, source.total) == ([], 0)
    assert any("no rows" in note for note in source.notes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\n \n", "has no rows"),
        (bytes(range(256)) * 20, "binary file"),
        (b"id,abstract\n" + b"\0" * 50_000, "binary file"),
        (b"PK\x03\x04 and so on", "Office document, not text; unpack it, or export the sheet as CSV"),
        (b"\x1f\x8b and so on", "gzip"),
        (b"%PDF-1.5", "is a PDF"),
        (b"," * 50_000, "50,001 columns"),
    ],
)
def test_files_that_are_no_table_get_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        opened(tmp_path / "p.csv", content)
    assert "\n" not in str(caught.value)


def test_messages_hold_no_escape_codes(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        opened(tmp_path / "p.csv", "id,\x1b[31mred\n1,2\n")
    assert "\x1b" not in str(caught.value)


def test_a_row_over_many_lines_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.readers import tables

    monkeypatch.setattr(tables, "MAX_RECORD", 10_000)
    with pytest.raises(InputError, match="never closed"):
        opened(tmp_path / "p.csv", 'id,abstract\n1,"' + "a line of text\n" * 2_000)


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """256 MB, all but the first line in one line."""
    path = tmp_path_factory.mktemp("huge") / "huge"
    with path.open("wb") as file:
        file.write(b"id,abstract\n1,")
        for _ in range(256):
            file.write(b"a" * 2**20)
    return path


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json", "bib", "txt"])
def test_a_huge_line_is_refused_in_little_memory(huge: Path, suffix: str) -> None:
    pytest.importorskip("resource")
    path = huge.with_suffix(f".{suffix}")
    os.link(huge, path)
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (192 << 20, 192 << 20))\n"
        "from harness.readers import open_papers; from harness.errors import InputError\n"
        "try: list(open_papers(sys.argv[1]).papers)\n"
        "except InputError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True)
    assert "longer than" in done.stdout or "larger than" in done.stdout
    assert done.stdout.count("\n") == 1


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x1f"), max_size=40)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=6), delimiter=st.sampled_from(",;\t|"))
def test_csv_round_trip(rows: list[tuple[str, str, str]], delimiter: str) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("id", "title", "abstract"), *rows])
    papers = list(open_papers("", stdin=buffer.getvalue()).papers)
    assert [tuple(paper.row.values()) for paper in papers] == rows
    assert [paper.abstract for paper in papers] == [row[2] for row in rows]
    assert [paper.error is None for paper in papers] == [bool(row[2].strip()) for row in rows]


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_give_papers_or_one_clear_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp()
    for suffix in ("csv", "jsonl", "json", "bib", "txt"):
        path = folder / f"any.{suffix}"
        path.write_bytes(b"id,abstract\n" + content if suffix == "csv" else content)
        try:
            papers, problem = list(open_papers(str(path)).papers), ""
        except InputError as error:
            papers, problem = [], str(error)
        assert "\n" not in problem
        assert all(paper.abstract.strip() or paper.error for paper in papers)


# --- real data ---


def test_nasty_rows(tmp_path: Path) -> None:
    rows = [json.loads(line)["row"] for line in needs("nasty_rows.jsonl").read_text().splitlines()]
    for row in rows:
        row["authors"] = "; ".join(row["authors"]) if isinstance(row["authors"], list) else row["authors"]
        row["categories"] = "; ".join(row["categories"]) if isinstance(row["categories"], list) else row["categories"]
    fieldnames = list(dict.fromkeys(name for row in rows for name in row))
    path = tmp_path / "nasty.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames, restval="")
        writer.writeheader()
        writer.writerows(rows)
    papers = list(open_papers(str(path)).papers)
    assert len(papers) == 7
    for row, paper in zip(rows, papers, strict=True):
        assert (paper.id, paper.abstract, paper.error) == (row["arxiv_id"], row["abstract"], None)
        assert paper.row == {name: row.get(name, "") for name in fieldnames}


def test_agentic_598() -> None:
    path = needs("agentic_598.csv")
    source = open_papers(str(path))
    papers = list(source.papers)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (source.total, len(papers)) == (598, 598)
    assert [dict(paper.row) for paper in papers] == rows
    assert [paper.number for paper in papers] == list(range(1, 599))
    assert all(paper.error is None for paper in papers)


def test_gold_sentences_are_used() -> None:
    path = needs("agentic_598.csv").parents[1] / "gold" / "moves_dev.jsonl"
    papers = list(open_papers(str(path)).papers)
    assert len(papers) == 80
    assert all(paper.sentences for paper in papers)


def test_an_unreadable_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("id,abstract\n1,x\n")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(InputError, match="cannot be read"):
        open_papers(str(path))

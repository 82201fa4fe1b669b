"""Files into documents: pages, sections, reading order, references; and one line for each file that cannot be read."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest
from pdf_maker import Placed, block, make_pdf

from harness.errors import InputError
from harness.readers.pdf import Line
from harness.search import html_text, plain_text
from harness.search.documents import Document
from harness.search.pdf_layout import blocks_of, in_reading_order
from harness.search.pdf_process import Limits, PdfReader
from harness.search.reading import read
from harness.search.sections import Outline, is_known, is_methods, is_references

DATA = Path(__file__).parents[2] / "shared" / "data" / "pdf"
LEFT = [
    "We study memory in long inputs. Our store",
    "is small and it is trained end to end. It",
    "beats three others by 4% on five kinds of",
    "sets of questions that people asked, and",
    "it needs a tenth of the time that the",
    "best of the others takes to answer. All",
    "of this holds for inputs of any length,",
    "which we show in the next part of this",
]
RIGHT = [
    "paper. Memory has a long history in the",
    "field, and many stores were tried before",
    "ours. None of them was small enough. We",
    "follow a line of work on slow stores, and",
    "take over how they are measured. What is",
    "new is that the store can be read by the",
    "people who use it, line by line, and can",
    "be put right where it is wrong.",
]


def documents(path: Path) -> list[Document]:
    with PdfReader() as pdfs:
        return list(read(path, pdfs.read, {}).documents)


def sections(document: Document) -> list[str]:
    return list(dict.fromkeys(part.section for part in document.blocks))


# ---- PDF ----


def test_pages_sections_hyphens_and_references(tmp_path: Path) -> None:
    first = [
        (100, 750, 18, "A Small Store for Long Inputs"), (100, 720, 13, "Abstract"), *block(100, 700, LEFT[:2]),
        (100, 650, 13, "1 Introduction"), *block(100, 630, ["The prob-", "lem is an old one and it goes on"]),
    ]  # fmt: skip
    second = [
        *block(100, 740, ["over the page. It ends here."]), (100, 700, 13, "2 Methods"), (100, 680, 11.5, "2.1 Data"),
        *block(100, 660, LEFT[2:]), (100, 500, 13, "References"), *block(100, 480, ["A. Author. A title. 2001."]),
        (100, 440, 13, "Appendix A"), *block(100, 420, ["Here is more that we say ourselves."]),
    ]  # fmt: skip
    (document,) = documents(make_pdf(tmp_path / "a.pdf", first, second))
    assert document.title == "A Small Store for Long Inputs"
    assert document.pages == 2
    assert sections(document) == ["Abstract", "1 Introduction", "2 Methods › 2.1 Data", "References", "Appendix A"]
    introduction = document.blocks[1]
    assert introduction.text == "The problem is an old one and it goes on over the page. It ends here."
    assert introduction.page_at(0) == 1
    assert introduction.page_at(introduction.text.index("over the")) == 2
    assert introduction.page_at(introduction.text.index("It ends")) == 2
    assert [part.text for part in document.blocks if part.references] == ["A. Author. A title. 2001."]


@pytest.mark.parametrize("interleaved", [False, True])
def test_two_columns_are_read_one_after_the_other(tmp_path: Path, interleaved: bool) -> None:
    left, right = block(60, 700, LEFT), block(320, 700, RIGHT)
    order = [line for pair in zip(left, right, strict=True) for line in pair] if interleaved else left + right
    wide = [
        (
            60.0,
            560.0,
            10.0,
            "Table 1: What the stores need, in minutes, for each of the five sets that we looked at in the paper.",
        )
    ]
    (document,) = documents(make_pdf(tmp_path / "two.pdf", [(100, 760, 18, "A Small Store"), *order, *wide]))
    text = " ".join(part.text for part in document.blocks)
    assert " ".join([*LEFT, *RIGHT]) in text
    assert text.endswith("in the paper.")


def test_running_heads_and_page_numbers_are_left_out(tmp_path: Path) -> None:
    pages: list[list[Placed]] = [
        [
            *((60, 780, 8, f"Author et al.   {n}"), (300, 30, 8, str(n)), (60, 40, 8, "Preprint 2031")),
            *block(60, 700, [f"Line {line} of page {'abcd'[n - 1]} says something new." for line in range(9)]),
        ]
        for n in range(1, 5)
    ]
    (document,) = documents(make_pdf(tmp_path / "heads.pdf", *pages))
    text = " ".join(part.text for part in document.blocks)
    assert "Author" not in text
    assert "Preprint" not in text
    assert text.count("says something new.") == 36


def test_one_column_with_short_lines_is_not_two() -> None:
    lines = [Line(text, 0, 60, 60 + 5 * len(text), 700 - 12 * n, 10) for n, text in enumerate(LEFT + RIGHT)]
    assert in_reading_order(lines) == lines


def test_labels_and_captions_are_no_headings() -> None:
    texts = ["Running text of the paper goes here.", "regularity index", "Figure 2. What came out of it all", "A B C"]
    lines = [Line(text, 0, 60, 300, 700 - 40 * n, 10 if n == 0 else 14) for n, text in enumerate(texts)]
    assert {part.section for part in blocks_of([[lines[0], *lines]])} == {""}


FAULTS = {
    "empty": (b"", "is empty"),
    "html": (
        b"<!DOCTYPE html><html><body>Not found</body></html>",
        "is an HTML page, not a PDF; rename it to end in .html",
    ),
    "text": (b"Just some notes on a paper.\n" * 60, "is text, not a PDF"),
    "zip": (b"PK\x03\x04" + bytes(100), "is a zip archive or an Office document, not a PDF"),
    "noise": (bytes(range(256)) * 8, "is not a PDF"),
    "head": (b"%PDF-1.4\n" + b"\x00\xff" * 500, "is damaged or cut short"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_files_that_are_no_pdf_are_one_line(tmp_path: Path, name: str) -> None:
    data, message = FAULTS[name]
    (tmp_path / f"{name}.pdf").write_bytes(data)
    with pytest.raises(InputError) as caught:
        documents(tmp_path / f"{name}.pdf")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_limits_are_kept_and_told(tmp_path: Path) -> None:
    path = make_pdf(tmp_path / "long.pdf", *[block(60, 700, LEFT)] * 5)
    with PdfReader(limits=Limits(pages=2)) as pdfs:
        document, notes = pdfs.read(path)
        assert document.pages == 2
        assert notes == ["read 2 of 5 pages, which is the limit"]
    with PdfReader(limits=Limits(seconds=0)) as pdfs, pytest.raises(InputError, match="read 0 of 5 pages in 0 s"):
        pdfs.read(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_a_reader_that_hangs_is_replaced_and_the_rest_goes_on(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hangs.pdf")
    good = make_pdf(tmp_path / "good.pdf", block(60, 700, LEFT))
    with PdfReader(limits=Limits(seconds=0.5), grace=0.2) as pdfs:
        started = time.monotonic()
        with pytest.raises(InputError, match="takes more than 0 s; leave it out"):
            pdfs.read(tmp_path / "hangs.pdf")
        assert time.monotonic() - started < 20
    with PdfReader() as pdfs:
        pdfs.read(good)
        assert pdfs._process is not None
        pdfs._process.kill()
        pdfs._process.wait()
        assert pdfs.read(good)[0].pages == 1


def test_a_reader_that_dies_is_one_line(tmp_path: Path) -> None:
    good = make_pdf(tmp_path / "good.pdf", block(60, 700, LEFT))
    with PdfReader() as pdfs:
        process = pdfs._started()
        assert process.stdin is not None
        process.stdin.write(b"no JSON: the child fails with a traceback\n")
        with pytest.raises(InputError, match=r"good\.pdf: the PDF library died of it"):
            pdfs.read(good)
        assert pdfs.read(good)[0].pages == 1


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data, which is not in the repository")
def test_every_real_pdf_is_text_or_a_reason() -> None:
    reasons = {
        "made_empty": "is empty",
        "made_encrypted_userpw": "is encrypted with a password; give it with --password",
        "made_scanned_notext": "has no text on its 4 pages (scanned?)",
        "made_truncated": "is damaged or cut short",
    }
    read_: dict[str, Document] = {}
    with PdfReader() as pdfs:
        for path in sorted(DATA.glob("*.pdf")):
            if path.stem in reasons:
                with pytest.raises(InputError, match=re.escape(reasons[path.stem])):
                    pdfs.read(path)
            else:
                read_[path.stem], notes = pdfs.read(path)
                assert notes == []
    columns = next(part.text for part in read_["pypdfsample_multicolumn"].blocks if part.text.startswith("Fusce mauris"))
    assert "Vestibulum luctus nibh at lectus." in columns
    assert sections(read_["rescience_3528175"])[1:] == [
        "1 Introduction", "2 A Recipe for Reproducible Parallelizable Cross-Validation", "3 Modifications for LIBLINEAR",
        "4 Results", "5 Conclusion", "References",
    ]  # fmt: skip
    for name, document in read_.items():
        text = " ".join(part.text for part in document.blocks)
        assert not set("\ufffe\u00ad\ufb01\ufb02") & set(text), name
        assert document.characters > (20 if name == "pypdfsample_arabic" else 3000)
        if name.startswith("rescience"):
            assert any(part.references for part in document.blocks)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data, which is not in the repository")
def test_a_password_opens_an_encrypted_pdf() -> None:
    path = DATA / "made_encrypted_userpw.pdf"
    with PdfReader(["wrong", "secret-user"]) as pdfs:
        assert pdfs.read(path)[0].pages == 3
    with PdfReader(["wrong"]) as pdfs, pytest.raises(InputError, match="no password given opens it"):
        pdfs.read(path)


# ---- text, Markdown, HTML ----


def test_markdown_headings_make_a_path_and_code_is_left_alone() -> None:
    text = (
        "---\ntitle: 'Small stores'\n---\nIntro **here**.\n\n# Methods\n\n"
        "## Data\nFirst.\n\nSecond.\n\n```\n# no heading\n```\n"
        "Results\n-------\nThird.\n\n## References\n- A. Author\n"
    )
    document = plain_text.read(text, markdown=True)
    assert document.title == "Small stores"
    assert [(part.section, part.text, part.references) for part in document.blocks] == [
        ("", "Intro **here**.", False), ("Methods › Data", "First.", False), ("Methods › Data", "Second.", False),
        ("Methods › Data", "```\n# no heading\n```\nResults\n-------\nThird.", False),
        ("Methods › References", "- A. Author", True),
    ]  # fmt: skip


def test_text_has_a_title_headings_and_pages_by_form_feeds() -> None:
    text = "A small store\n\nAbstract\nWe do it.\r\n\r\n2. Data and code\n\nSome data.\fREFERENCES\n\nA. Author. 2001.\n"
    document = plain_text.read(text, markdown=False)
    assert document.title == "A small store"
    assert [(part.section, part.text, part.page_at(0)) for part in document.blocks] == [
        ("Abstract", "We do it.", 1), ("2. Data and code", "Some data.", 1), ("REFERENCES", "A. Author. 2001.", 2),
    ]  # fmt: skip
    assert document.blocks[-1].references


def test_html_keeps_what_is_said_and_drops_the_rest() -> None:
    page = """<html><head><title>Stores &amp; more</title><style>p {}</style><meta charset=utf-8></head><body>
      <nav>Home <p>About</nav><h1>Small stores</h1><p>We <b>do</b> it.<br>Then more.<h2>Methods</h2>
      <ul><li>First<li>Second</ul><table><tr><td>1<td>2</tr></table><script>var x = "<p>no</p>"</script>
      <h2>References</h2><p>A. Author</body></html>"""
    document = html_text.read(page)
    assert document.title == "Stores & more"
    assert [(part.section, part.text) for part in document.blocks] == [
        ("", "We do it."), ("", "Then more."), ("Methods", "First"), ("Methods", "Second"), ("Methods", "1 2"),
        ("References", "A. Author"),
    ]  # fmt: skip
    assert html_text.read("<p>no html at all <b>x").blocks[0].text == "no html at all x"


# ---- tables and annotations ----


def test_rows_of_a_table_are_papers_and_bad_rows_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text('id,title,abstract\na,One,"First, here."\nb,Two,\nc,Three,Third here.\n')
    reading = read(path, lambda path: (Document("", ()), []), {})
    found = list(reading.documents)
    assert [(doc.id, doc.title, doc.place, doc.blocks[0].text, doc.abstract) for doc in found] == [
        ("a", "One", "row 1", "First, here.", True), ("c", "Three", "row 3", "Third here.", True),
    ]  # fmt: skip
    assert any("left out 1 of its rows" in note for note in reading.notes)


def test_saved_annotations_are_read_move_by_move(tmp_path: Path) -> None:
    move = {"text": "We do it.", "sentences": [1], "spans": [[0, 9]]}
    good = {"id": "a", "title": "One", "status": "ok", "moves": {"claim": move, "scope": None}}
    bad = {"id": "b", "status": "error", "moves": None, "error": "too short"}
    path = tmp_path / "saved.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (good, bad)))
    reading = read(path, lambda path: (Document("", ()), []), {})
    (document,) = reading.documents
    assert [(part.section, part.text) for part in document.blocks] == [("claim", "We do it.")]
    assert "left out 1 records" in reading.notes[-1]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"%PDF-1.4 and so on", "is a PDF, not text; rename it to end in .pdf"),
        ("a.md", b"", "is empty"),
        ("a.md", b" \n\n ", "has no text in it"),
        ("a.html", b"<html><script>x</script></html>", "has no text in it"),
        ("a.docx", b"PK\x03\x04", "is of no kind that can be read"),
        ("a.jsonl", b'{"x": 1}\n', "no column holds the abstract"),
    ],
)
def test_other_files_that_cannot_be_read_are_one_line(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message.replace("(", r"\(")) as caught:
        list(read(tmp_path / name, lambda path: (Document("", ()), []), {}).documents)
    assert "\n" not in str(caught.value)


# ---- headings ----


@pytest.mark.parametrize("text", ["Methods", "3. RESULTS", "IV. Discussion", "Materials and Methods", "References:"])
def test_known_headings(text: str) -> None:
    assert is_known(text)


@pytest.mark.parametrize("text", ["Methods are compared here", "In results", "A references", ""])
def test_lines_that_are_no_known_headings(text: str) -> None:
    assert not is_known(text)


def test_references_end_at_an_appendix_or_a_heading_of_their_own_level() -> None:
    outline = Outline()
    assert (is_references("7 Bibliography"), is_methods("Related work")) == (True, False)
    states = []
    for level, heading in [
        (1, "1 Intro"),
        (1, "References"),
        (2, "A–C"),
        (1, "Appendix"),
        (2, "More"),
        (1, "References"),
        (1, "Late"),
    ]:
        outline.enter(level, heading)
        states.append((outline.path, outline.in_references))
    assert states == [
        ("1 Intro", False), ("References", True), ("References", True), ("Appendix", False), ("Appendix › More", False),
        ("References", True), ("Late", False),
    ]  # fmt: skip

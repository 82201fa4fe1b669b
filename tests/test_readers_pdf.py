"""Abstracts out of PDFs: made ones with known text, and every real one at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from pdf_maker import block, make_pdf

from harness.errors import InputError
from harness.readers import Paper, open_papers
from harness.readers.pdf import Line, join

DATA = Path(__file__).parents[2] / "shared" / "data" / "pdf"
WORDS = "the model learns to keep what matters and to drop the rest of the long input stream"


def read(path: Path) -> tuple[Paper, list[str]]:
    source = open_papers(str(path))
    (paper,) = source.papers
    return paper, source.notes


LEFT = [
    "We study memory in long inputs. Our store",
    "is small and it is trained end to end. It",
    "beats three others by 4% on five sets.",
]
RIGHT = [
    "Memory has a long history in the field,",
    "and many stores were tried before ours.",
    "None of them was small. We go on here.",
]


def test_heading_to_introduction_in_one_column(tmp_path: Path) -> None:
    lines = [(100, 750, 18, "A Small Store"), (100, 720, 12, "Abstract"), *block(100, 700, LEFT)]
    lines += [(100, 650, 12, "1 Introduction"), *block(100, 630, RIGHT)]
    paper, notes = read(make_pdf(tmp_path / "one.pdf", lines))
    assert (paper.id, paper.title, paper.abstract) == ("one", "A Small Store", " ".join(LEFT))
    assert notes == []


@pytest.mark.parametrize("interleaved", [False, True])
def test_two_columns_in_either_order(tmp_path: Path, interleaved: bool) -> None:
    left = [(60, 720, 10, "Abstract"), *block(60, 700, LEFT), (60, 660, 10, "Keywords: memory, store")]
    right = [(320, 720, 10, "1 Introduction"), *block(320, 700, RIGHT)]
    order = [line for pair in zip(left, right, strict=False) for line in pair] if interleaved else left + right
    paper, _ = read(make_pdf(tmp_path / "two.pdf", [(100, 760, 18, "A Small Store"), *order]))
    assert paper.abstract == " ".join(LEFT)


def test_an_abstract_goes_on_in_the_next_column(tmp_path: Path) -> None:
    left = [(60, 200, 10, "Abstract"), *block(60, 180, [*LEFT, "What is more, the store can be read by"])]
    right = [*block(320, 700, ["people and checked."]), (320, 670, 12, "1 Introduction"), *block(320, 650, RIGHT)]
    paper, _ = read(make_pdf(tmp_path / "over.pdf", left + right))
    assert paper.abstract == " ".join([*LEFT, "What is more, the store can be read by", "people and checked."])


def test_run_in_heading(tmp_path: Path) -> None:
    lines = block(60, 700, [f"Abstract. {LEFT[0]}", *LEFT[1:], "Index Terms: memory"])
    paper, _ = read(make_pdf(tmp_path / "run.pdf", lines))
    assert paper.abstract == " ".join(LEFT)


def test_without_a_heading_the_first_running_text_is_taken(tmp_path: Path) -> None:
    lines = [(100, 750, 18, "A Small Store"), (100, 730, 10, "B. Author"), *block(100, 700, [*LEFT, f"And {WORDS}."])]
    paper, notes = read(make_pdf(tmp_path / "none.pdf", lines))
    assert paper.abstract == " ".join([*LEFT, f"And {WORDS}."])
    assert any("no heading 'Abstract'" in note for note in notes)


def test_words_broken_at_a_line_end_and_powers(tmp_path: Path) -> None:
    lines = [
        (60, 720, 12, "Abstract"),
        *block(60, 700, ["We state the prob-", "lem with 10", "Then we solve it for state-of-the-", "art."]),
    ]
    lines.insert(3, (60 + 51, 692, 6, "6"))
    paper, _ = read(make_pdf(tmp_path / "hyphen.pdf", [*lines, *block(60, 640, [WORDS, WORDS, WORDS])]))
    assert paper.abstract.startswith("We state the problem with 10⁶ Then we solve it for state-of-the-art.")


def line(text: str) -> Line:
    return Line(text, 0, 0, 100, 0, 10)


@pytest.mark.parametrize(
    ("lines", "around", "expected"),
    [
        (["a self-", "supervised net"], ["self-supervised"], "a self-supervised net"),
        (["pre\ufffe", "vention"], [], "prevention"),
        (["platform\ufffe", "dependent"], ["the platform is", "dependent on"], "platform-dependent"),
        (["selec\u2010", "tion of \ufb01ne \ufb02ow"], [], "selection of fine flow"),
        (["2019-", "2020"], [], "2019- 2020"),
        (["LIBLINEAR", ", a library"], [], "LIBLINEAR, a library"),
    ],
)
def test_join(lines: list[str], around: list[str], expected: str) -> None:
    body = [line(text) for text in lines]
    assert join(body, [*body, *(line(text) for text in around)]) == expected


def test_a_pdf_without_text_or_abstract(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no text"):
        read(make_pdf(tmp_path / "blank.pdf", []))
    with pytest.raises(InputError, match="no abstract found"):
        read(make_pdf(tmp_path / "short.pdf", [(100, 700, 10, "Hello there")]))


@pytest.mark.parametrize("cut", [0, 5, 100, 400])
def test_damaged_files_give_one_line(tmp_path: Path, cut: int) -> None:
    whole = make_pdf(tmp_path / "x.pdf", [(60, 720, 12, "Abstract"), *block(60, 700, LEFT)]).read_bytes()
    (tmp_path / "cut.pdf").write_bytes(whole[:cut])
    with pytest.raises(InputError, match=r"is empty|cannot be read|can be read|has no text") as caught:
        read(tmp_path / "cut.pdf")
    assert "\n" not in str(caught.value)


STARTS = {
    "joss_aorsf": ("Risk prediction is a type of supervised learning", "see documentation for orsf_vi())."),
    "joss_effmass": ("Many semiconductor properties depend", "will suit your needs better."),
    "joss_openquestion": ("OpenQuestion is a survey building", "document creation.¹"),
    "joss_pomdpstress": ("POMDPStressTesting.jl is a package", ""),
    "pypdfsample_multicolumn": ("This is a sample document with two columns", ""),
    "rescience_3528175": ("Cross-validation is the gold standard", "PRNG state by parallel threads."),
    "rescience_3538217": ("Since the first description of spike timing", ""),
    "rescience_4081202": ("A stochastic ensemble simulation of evolutionary dynamics", ""),
    "rescience_5347786": ("This paper reports the successful reproduction", "sources for this report."),
}
ERRORS = {
    "made_empty": "is empty",
    "made_encrypted_userpw": "encrypted with a password",
    "made_scanned_notext": "has no text",
    "made_truncated": "damaged or cut short",
    "pypdfsample_arabic": "no abstract found",
}


def test_every_real_pdf() -> None:
    if not DATA.is_dir():
        pytest.skip("needs ../shared/data, which is not in the repository")
    papers = {paper.id: paper for paper in open_papers(str(DATA)).papers}
    assert set(papers) == STARTS.keys() | ERRORS.keys() == {path.stem for path in DATA.glob("*.pdf")}
    for name, (start, end) in STARTS.items():
        paper = papers[name]
        assert paper.error is None
        assert paper.abstract.startswith(start)
        assert paper.abstract.endswith(end)
        assert len(paper.title) > 10
        assert not set("\ufffe\u00ad\ufb01\r\n") & set(paper.abstract)
    for name, message in ERRORS.items():
        assert message in (papers[name].error or "")

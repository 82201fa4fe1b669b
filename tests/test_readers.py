"""What the user's input means, and the sources that need no format of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.errors import InputError, Offline, UsageError
from harness.readers import open_papers
from harness.readers.locate import locate
from harness.readers.paper import Paper
from harness.readers.topic import content_words, rank

DATA = Path(__file__).parents[2] / "shared" / "data"
ABSTRACT = "We study how agents forget. Our method keeps a small store. It beats three baselines by 4%."


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a few inputs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "papers.csv").write_text(f"id,title,abstract,year\na,First,{ABSTRACT},2024\nb,Second,,2025\n")
    (tmp_path / "more papers.jsonl").write_text('{"id": "c", "abstract": "Third one.", "venue": "X"}\n')
    (tmp_path / "note.txt").write_text(ABSTRACT)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("papers.csv", "files"),
        ("'papers.csv'", "files"),
        ("more papers.jsonl", "files"),
        ("*.csv", "files"),
        ("papers.csv 'more papers.jsonl'", "files"),
        ("2402.11651", "arxiv"),
        ("arXiv:2402.11651v2, cs/0306108v1", "arxiv"),
        ("https://arxiv.org/abs/math.GT/0309136", "arxiv"),
        ("https://arxiv.org/pdf/2402.11651v2.pdf", "arxiv"),
        (f'"{ABSTRACT}"', "typed"),
        (f"“{ABSTRACT}”", "typed"),
        (ABSTRACT, "typed"),
        ("Survey of RAG techniques", "topic"),
        ('"Survey of RAG techniques"', "topic"),
        ("input/output examples for code models", "topic"),
        ("agents don't forget", "topic"),
        ("x" * 5000, "topic"),
        ("nul\0byte topic", "topic"),
    ],
)
def test_locate(folder: Path, source: str, kind: str) -> None:
    assert locate(source, has_stdin=False).kind == kind


@pytest.mark.parametrize("source", ["paper.csv", "./nowhere", "papers/x", "*.parquet", "papers.csv lost.csv"])
def test_a_missing_path_is_never_a_topic(folder: Path, source: str) -> None:
    with pytest.raises(InputError, match=r"no file|matches"):
        open_papers(source, offline=True)


def test_a_missing_path_shows_near_names(folder: Path) -> None:
    with pytest.raises(InputError, match=r"near it: papers\.csv"):
        open_papers("Paper.csv")
    with pytest.raises(InputError, match=r"near it: papers\.csv"):
        open_papers("./pap")


def test_words_that_are_also_folders_do_not_turn_prose_into_paths(folder: Path) -> None:
    for name in ("study", "method"):
        (folder / name).mkdir()
    assert open_papers(ABSTRACT).kind == "typed"


def test_other_addresses_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="not a paper on arXiv"):
        open_papers("https://example.org/paper.pdf")


def test_nothing_to_read() -> None:
    with pytest.raises(UsageError, match="nothing to read"):
        open_papers("")
    with pytest.raises(InputError, match="standard input is empty"):
        open_papers("-", stdin=" \n")


def test_typed_abstract() -> None:
    source = open_papers(f'"{ABSTRACT}"')
    (paper,) = source.papers
    assert (source.kind, paper.source, paper.abstract, paper.error) == ("typed", "typed", ABSTRACT, None)


def test_several_files_keep_their_rows_and_columns(folder: Path) -> None:
    source = open_papers("papers.csv 'more papers.jsonl' note.txt")
    assert source.fieldnames == ("id", "title", "abstract", "year", "venue")
    assert (source.kind, source.total, source.name) == ("mixed", 4, "3 files")
    papers = list(source.papers)
    assert [paper.id for paper in papers] == ["a", "b", "c", "note"]
    assert papers[1].error == "papers.csv row 2: the abstract is empty"
    assert "papers.csv: 1 row without an abstract" in source.notes


def test_a_bad_file_among_several_is_a_row_with_an_error(folder: Path) -> None:
    (folder / "broken.pdf").write_bytes(b"")
    (folder / "other.csv").write_text("a,b\n1,2\n")
    papers = {paper.source: paper for paper in open_papers(str(folder)).papers}
    assert len(papers) == 5
    assert "is empty" in (papers[str(folder / "broken.pdf")].error or "")
    assert "no column holds the abstract" in (papers[str(folder / "other.csv")].error or "")
    assert papers[str(folder / "note.txt")].error is None


def test_a_folder_without_papers(folder: Path) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="holds no file"):
        open_papers("empty")


def test_limit(folder: Path) -> None:
    source = open_papers("papers.csv", limit=1)
    assert source.total == 1
    assert [paper.id for paper in source.papers] == ["a"]


@pytest.mark.parametrize(
    ("text", "count", "first"),
    [
        ('{"id": "x", "abstract": "A."}\n{"id": "y", "abstract": "B."}\n', 2, "A."),
        ('[\n{"abstract": "A."}]', 1, "A."),
        ('{\n"papers": [{"abstract": "A."}]}', 1, "A."),
        ("\ufeffid;abstract\n1;A.\n", 1, "A."),
        ("@article{k,\n abstract = {A.}}\n", 1, "A."),
        ("# Title\n\n## Abstract\n\nA. B.\nC.\n\n## Introduction\nD.\n", 1, "A. B.\nC."),
        (ABSTRACT, 1, ABSTRACT),
        ("[1] is wrong, we say. We show why.", 1, "[1] is wrong, we say. We show why."),
    ],
)
def test_stdin_is_sniffed(text: str, count: int, first: str) -> None:
    source = open_papers("", stdin=text)
    papers = list(source.papers)
    assert (source.kind, len(papers), papers[0].abstract) == ("stdin", count, first)
    assert papers[0].source == "stdin"


@pytest.mark.parametrize(
    ("text", "title", "abstract"),
    [
        ("# A *Title*\n\nText one. Text two.\n", "A *Title*", "Text one. Text two."),
        ("A plain title\n\nText one.\nText two.\n", "A plain title", "Text one.\nText two."),
        ("No title here. Just text.\n\nSecond paragraph.", "", "No title here. Just text.\n\nSecond paragraph."),
        ("T\n\nAbstract\nWe do.\n\nKeywords: a, b\nmore", "T", "We do."),
        ("T\n\nAbstract—We do.\n1 Introduction\nmore", "T", "We do."),
        ("T\n\nAbstract\nBackground\nWe do.\nMethods\nSo.\n\nIntroduction\nmore", "T", "Background\nWe do.\nMethods\nSo."),
        ("Summary statistics are hard. We help.", "", "Summary statistics are hard. We help."),
    ],
)
def test_plain_text(tmp_path: Path, text: str, title: str, abstract: str) -> None:
    path = tmp_path / "one.md"
    path.write_text(text)
    (paper,) = open_papers(str(path)).papers
    assert (paper.id, paper.title, paper.abstract) == ("one", title, abstract)


def test_a_pipe_is_refused_not_waited_for(tmp_path: Path) -> None:
    import os

    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(tmp_path / "p.csv")
    with pytest.raises(InputError, match="not a regular file"):
        open_papers(str(tmp_path / "p.csv"))


def test_topic_words() -> None:
    assert content_words("Survey of RAG techniques") == ["rag"]
    assert content_words("agents and policies") == ["agent", "policy"]
    assert content_words("survey methods") == ["survey", "method"]
    assert content_words("?!") == []


def test_ranking_prefers_rare_words_and_keeps_the_order_of_equals() -> None:
    def paper(identity: str, text: str) -> Paper:
        return Paper(identity, "", text, "x", 1)

    papers = [paper("1", "agents one"), paper("2", "agents memory"), paper("3", "agents one"), paper("4", "nothing")]
    assert [p.id for p in rank("agent memory", papers, 0)] == ["2", "1", "3"]
    assert [p.id for p in rank("agent memory", papers, 1)] == ["2"]
    assert rank("zebra", papers, 0) == []


def test_topic_from_the_files_given(folder: Path) -> None:
    source = open_papers("what do agents forget?", corpus=[folder / "papers.csv"], offline=True)
    assert [paper.id for paper in source.papers] == ["a"]
    assert source.kind == "topic"
    assert any("left out 1" in note for note in source.notes)


@pytest.mark.parametrize("corpus", [[], ["papers.csv"]])
def test_topic_without_papers_says_both_remedies(folder: Path, corpus: list[str]) -> None:
    with pytest.raises(Offline, match=r"--papers, or run without --offline"):
        open_papers("Survey of zebras", corpus=[folder / name for name in corpus], offline=True)


def test_piped_papers_serve_a_topic_and_are_never_dropped_in_silence(folder: Path) -> None:
    piped = "id,abstract\nx,on zebras\ny,on whales\n"
    assert [paper.id for paper in open_papers("zebras", stdin=piped, offline=True).papers] == ["x"]
    assert any("standard input was not read" in note for note in open_papers("papers.csv", stdin=piped).notes)


def test_bytes_that_are_no_text_come_out_writable(folder: Path) -> None:
    (paper,) = open_papers(ABSTRACT + " caf\udce9").papers
    assert paper.abstract.endswith("caf\ufffd")
    (paper,) = open_papers("", stdin="id,abstract\n1,caf\udce9\n").papers
    assert paper.abstract == "caf\ufffd"


def test_topic_with_a_missing_corpus_file(folder: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        open_papers("agents", corpus=[Path("lost.csv")], offline=True)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, harness.readers as r; list(r.open_papers('', stdin='id,abstract\\n1,x').papers);"
        "print(sorted({'numpy','pyarrow','pypdfium2','pandas','urllib.request','xml','rich'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_topic_on_real_papers() -> None:
    path = DATA / "papers" / "agentic_598.csv"
    if not path.exists():
        pytest.skip("needs ../shared/data, which is not in the repository")
    papers = list(open_papers("Survey of RAG techniques", corpus=[path], offline=True).papers)
    assert 10 <= len(papers) <= 25
    assert all("rag" in f"{paper.title} {paper.abstract}".casefold() for paper in papers)


def test_remarks_on_a_folder_are_one_line(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("id,abstract\n1,text\n,more\n", encoding="utf-8")
    source = open_papers(str(tmp_path))
    list(source.papers)
    (line,) = source.remarks()
    assert line.startswith("2 files: abstract from column 'abstract' (2 files); 2 rows without an id, called row-N")
    assert len(source.remarks(verbose=True)) == 4
    single = open_papers(str(tmp_path / "a.csv"))
    list(single.papers)
    assert single.remarks() == single.notes

"""BibTeX: tolerant parsing, LaTeX as Unicode."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bibtex import escape
from harness.errors import InputError
from harness.readers import Paper, open_papers
from harness.readers.latex import to_unicode

LIBRARY = r"""
% a comment line with an @ sign in it: me@example.org
@string{jair = "Journal of " # {AI Research}}
@comment{jabref-meta: databaseType:bibtex;}
@preamble{"\newcommand{\x}{y}"}
@Article{mueller:2024/a,
  author   = {M{\"u}ller, J{\'o}zef and Erd{\H o}s, P.},
  title    = "The {BERT} of {\"O}sterreich: $L_{2}$ \& more",
  journal  = jair,
  year     = 2024,
  month    = mar,
  abstract = {We study {nested {braces}} and
              \emph{LaTeX} with 5\% "quotes". Second sentence.},
}
@inproceedings(paren, title = {Round}, abstract = "One " # {two} # " three.", year = {1999})
@misc{, title={No key}, abstract={Keyless.}} @misc{same-line, abstract={Inline.}}
"""


def read(tmp_path: Path, content: str) -> tuple[tuple[str, ...], list[Paper], list[str]]:
    path = tmp_path / "lib.bib"
    path.write_text(content)
    source = open_papers(str(path))
    papers = list(source.papers)
    assert source.kind == "bibtex"
    assert source.total == len(papers)
    return source.fieldnames, papers, source.notes


def test_entries(tmp_path: Path) -> None:
    fieldnames, papers, _ = read(tmp_path, LIBRARY)
    assert [paper.id for paper in papers] == ["mueller:2024/a", "paren", "row-3", "same-line"]
    first = papers[0]
    assert first.title == "The BERT of Österreich: $L_{2}$ & more"
    assert first.row["author"] == "Müller, Józef and Erdős, P."
    assert (first.row["journal"], first.row["year"], first.row["month"]) == ("Journal of AI Research", "2024", "March")
    assert first.abstract == 'We study nested braces and LaTeX with 5% "quotes". Second sentence.'
    assert first.row["abstract"] == first.abstract
    assert papers[1].abstract == "One two three."
    assert fieldnames[:2] == ("id", "entry_type")
    assert {"author", "year", "journal"} <= set(fieldnames)


@pytest.mark.parametrize(
    "broken",
    [
        "@article{bad, title = {never closed,\n",
        "@article{bad, title = }\n",
        '@article{bad, title = "x\n',
        "@article{bad title={x}}\n",
    ],
)
def test_a_malformed_entry_is_kept_and_the_rest_goes_on(tmp_path: Path, broken: str) -> None:
    _, papers, _ = read(tmp_path, f"\n{broken}@misc{{good, abstract={{Fine.}}}}\n")
    assert [paper.error is None for paper in papers] == [False, True]
    assert "lib.bib:2: entry" in (papers[0].error or "")
    assert papers[1].id == "good"


def test_an_entry_without_an_abstract_is_a_row_with_an_error(tmp_path: Path) -> None:
    _, papers, notes = read(tmp_path, "@misc{a, title={T}}\n@misc{b, abstract={B.}}\n")
    assert "the abstract is empty" in (papers[0].error or "")
    assert any("1 row without an abstract" in note for note in notes)


def test_no_entries_and_no_abstracts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no BibTeX entries"):
        read(tmp_path, "just text\n")
    with pytest.raises(InputError, match="no column holds the abstract"):
        read(tmp_path, "@misc{a, title={T}}\n")


def test_many_unclosed_entries_take_linear_time(tmp_path: Path) -> None:
    _, papers, _ = read(tmp_path, "@misc{x, abstract={never\n" * 20_000 + "@misc{y, abstract={ok}}\n")
    assert len(papers) == 20_001
    assert papers[-1].abstract == "ok"


@pytest.mark.parametrize(
    ("latex", "text"),
    [
        (r"{\'E}cole \`a la fran\c{c}aise", "École à la française"),
        (r"{\o}re \AA{}ngstr{\"{o}}m Stra{\ss}e \L{}\'od\'z", "øre Ångström Straße Łódź"),
        (r"Dvo\v{r}\'ak, \v Capek, na{\"\i}ve", "Dvořák, Čapek, naïve"),
        (r"A--B---C ``q'' 5\% R\&D x\_y \#1 \$9", "A–B—C “q” 5% R&D x_y #1 $9"),
        (r"{Deep} $x^{2}$ {\emph{Nets}}", "Deep $x^{2}$ Nets"),
        ("a\n   b~c", "a b c"),
        (r"\unknown{kept} \cite{a,b}", r"\unknown{kept} \cite{a,b}"),
        (r"{RNA}s at \$5 for {$n$ or \(k^{2}\)} \$9", r"RNAs at $5 for $n$ or \(k^{2}\) $9"),
        (r"5\,\% \{a\} \textbackslash{}Delta \textasciitilde{} \textasciicircum{}", r"5 % {a} \Delta ~ ^"),
        ("costs $5", "costs $5"),
    ],
)
def test_latex(latex: str, text: str) -> None:
    assert to_unicode(latex) == text


def test_what_was_exported_reads_back(tmp_path: Path) -> None:
    text = r"50% of $\Delta_{i}$ & {a_b} ~ ^2 # C:\dir at $3, é."
    _, papers, _ = read(tmp_path, f"@misc{{a, abstract = {{{escape(text)}}}}}\n")
    assert papers[0].abstract == text

"""What reference managers and services export: RIS, MEDLINE, Web of Science, nested JSON; other languages are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.readers import Paper, open_papers

RIS = """TY  - JOUR\r
AU  - Smith, J.\r
AU  - Müller, K.\r
TI  - On kites\r
AB  - We fly kites.\r
They stay up.\r
PY  - 2020\r
DO  - 10.1/1\r
ER  - \r
\r
TY  - CONF\r
T1  - On drones\r
N2  - We fly drones.\r
ER  - \r
"""
NBIB = """PMID- 123
OWN - NLM
TI  - On kites and how
      they fly.
AB  - BACKGROUND: Kites are
      old. METHODS: We fly.
FAU - Smith, J

PMID- 124
TI  - No abstract here
"""
WOS = """FN Clarivate Analytics Web of Science
VR 1.0
PT J
AU Smith, J
   Doe, K
TI On kites
ID KEYWORDS; PLUS
AB We fly
   kites.
UT WOS:1
ER

EF
"""


def opened(path: Path, content: str, **given: str) -> list[Paper]:
    path.write_text(content, encoding="utf-8", newline="")
    return list(open_papers(str(path), columns=given).papers)


def test_ris(tmp_path: Path) -> None:
    kites, drones = opened(tmp_path / "p.ris", RIS)
    assert (kites.id, kites.title, kites.abstract) == ("10.1/1", "On kites", "We fly kites.\nThey stay up.")
    assert (kites.row["author"], kites.row["year"], kites.row["TY"]) == ("Smith, J.; Müller, K.", "2020", "JOUR")
    assert (drones.title, drones.abstract, drones.error) == ("On drones", "We fly drones.", None)


def test_two_abstracts_of_one_reference_are_not_mixed(tmp_path: Path) -> None:
    (paper,) = opened(tmp_path / "p.ris", "TY  - JOUR\nAB  - We fly.\nN2  - Wir fliegen.\n")
    assert (paper.abstract, paper.row["N2"]) == ("We fly.", "Wir fliegen.")


def test_medline(tmp_path: Path) -> None:
    kites, nothing = opened(tmp_path / "p.nbib", NBIB)
    assert (kites.id, kites.title) == ("123", "On kites and how they fly.")
    assert kites.abstract == "BACKGROUND: Kites are old. METHODS: We fly."
    assert nothing.id == "124"
    assert nothing.error == f"{tmp_path}/p.nbib row 2: the abstract is empty"


@pytest.mark.parametrize("content", [RIS, NBIB, WOS, "PT\tTI\tAB\tUT\nJ\tOn kites\tWe fly kites.\tWOS:1\n"])
def test_exports_named_txt_are_not_one_long_abstract(tmp_path: Path, content: str) -> None:
    paper = opened(tmp_path / "savedrecs.txt", content)[0]
    assert paper.title.startswith("On kites")
    assert paper.abstract.split()[-1] in ("kites.", "up.", "fly.")


def test_web_of_science_authors_and_id(tmp_path: Path) -> None:
    (paper,) = opened(tmp_path / "p.ciw", WOS)
    assert (paper.id, paper.row["author"], paper.abstract) == ("WOS:1", "Smith, J; Doe, K", "We fly kites.")


def test_a_file_without_references(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no references"):
        opened(tmp_path / "p.ris", "just text\n")


KITES = {"title": "On kites", "abstract": "We fly kites."}
CROSSREF = {
    "DOI": "10.1/1",
    "title": ["On kites"],
    "abstract": "<jats:title>Abstract</jats:title><jats:p>We fly <jats:italic>kites</jats:italic>.</jats:p>",
    "reference": [{"key": "1"}, {"key": "2"}],
}
OPENALEX = {"display_name": "On kites", "abstract_inverted_index": {"kites.": [2], "We": [0], "fly": [1]}}


@pytest.mark.parametrize(
    "document",
    [
        {"meta": {"n": 1}, "results": [KITES]},
        {"message": {"items": [CROSSREF]}},
        CROSSREF,
        {"results": [OPENALEX]},
        {"data": [{"citingPaper": KITES, "contexts": ["x"]}]},
        [{"key": "AB", "data": {"title": "On kites", "abstractNote": "We fly kites."}}],
        [{"title": "On kites", "abstract": {"text": "We fly kites.", "length": 3}}],
        {"p1": KITES, "p2": KITES},
    ],
)
def test_papers_inside_json(tmp_path: Path, document: Any) -> None:
    for paper in opened(tmp_path / "p.json", json.dumps(document)):
        assert (paper.title, paper.abstract, paper.error) == ("On kites", "We fly kites.", None)


def test_a_paper_with_a_list_inside_stays_one_paper(tmp_path: Path) -> None:
    document = {"body": "We fly kites.", "references": [KITES, KITES]}
    (paper,) = opened(tmp_path / "p.json", json.dumps(document), abstract="body")
    assert paper.abstract == "We fly kites."
    assert len(opened(tmp_path / "q.json", json.dumps(document | KITES))) == 1


def test_an_export_without_abstracts_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no column holds the abstract .* or export the papers with their abstracts"):
        opened(tmp_path / "p.csv", "PMID,Title,Create Date\n1,Kites,2020/01/01\n")

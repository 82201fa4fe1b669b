"""Leaks between the training data and the evaluation sets, told by file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from finetune.dataset.inputs import paper_id, sha256
from finetune.dataset.leaks import LeakCheck
from finetune.dataset.rows import Row
from harness.errors import InputError
from harness.readers import open_papers
from harness.readers.paper import Paper


class Leak(NamedTuple):
    """Why a paper must go: the evaluation set it stands in, and what is the same: ``id``, ``title`` or ``text``."""

    file: str
    reason: str


class HeldOut:
    """The evaluation sets of one build; counts what it finds."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Raises InputError for a file that is no list of papers."""
        self.paths = paths
        self._papers = [_papers(path) for path in paths]
        self._checks = [LeakCheck(papers) for papers in self._papers]
        # One check over all sets first: nearly every row is in none, and then it is over.
        self._any = LeakCheck(paper for papers in self._papers for paper in papers)
        self._found = [Counter[str]() for _ in paths]

    def leak(self, row: Row) -> Leak | None:
        """The leak that a row is, or None."""
        if not self.paths:
            return None
        paper = {"id": paper_id(row.id), "title": row.title, "abstract": row.abstract}
        if not (reason := self._any.reason(paper)):
            return None
        for path, check, found in zip(self.paths, self._checks, self._found, strict=True):
            if own := check.reason(paper):
                found[own] += 1
                return Leak(path.name, own)
        return Leak("several", reason)  # its text is put together from papers of more than one set

    def report(self) -> list[dict[str, Any]]:
        """What the card says: each set with its hash, its papers, and the rows found in it by reason."""
        return [
            {"file": path.name, "sha256": sha256(path), "papers": len(papers), "rows_found": dict(sorted(found.items()))}
            for path, papers, found in zip(self.paths, self._papers, self._found, strict=True)
        ]


def _papers(path: Path) -> list[Mapping[str, str]]:
    if not path.is_file():
        raise InputError(f"{path}: there is no such evaluation set", "correct --held-out")
    source = open_papers(str(path.resolve()))
    papers = [_plain(paper) for paper in source.papers if not (paper.error and not paper.row)]
    if not papers:
        raise InputError(f"{path}: holds no papers", "correct --held-out")
    return papers


def _plain(paper: Paper) -> Mapping[str, str]:
    made_up = paper.id == f"row-{paper.number}"
    return {"id": "" if made_up else paper_id(paper.id), "title": paper.title, "abstract": paper.abstract}

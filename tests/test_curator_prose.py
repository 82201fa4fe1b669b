"""The checks leave free prose alone: summaries of the sample papers in words of their own, true to the abstract."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping

import pytest

from curation.annotation import Annotation
from curation.checks import findings
from harness.config import ROOT

PROSE: Mapping[str, Mapping[str, Mapping[str, str]]] = tomllib.loads(
    (ROOT / "benchmarks" / "curator_prose.toml").read_text(encoding="utf-8")
)


def serious(name: str, texts: Mapping[str, str]) -> list[str]:
    with (ROOT / "data" / "sample_papers.csv").open(newline="", encoding="utf-8") as handle:
        paper = next(row for row in csv.DictReader(handle) if row["id"] == name)
    return [f"{f.check}: {f}" for f in findings(Annotation(paper["abstract"], paper["title"], texts)) if f.fatal]


@pytest.mark.parametrize(("group", "name"), [(group, name) for group, texts in PROSE.items() for name in texts])
def test_free_prose_is_left_alone(group: str, name: str) -> None:
    assert serious(name, PROSE[group][name]) == []

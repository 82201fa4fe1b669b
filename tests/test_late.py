"""Late interaction: MaxSim against a plain loop, the order that it gives, and what is said where PyLate is not."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from search_helpers import put

from harness.cli import main
from harness.errors import InputError
from harness.search.late import TokenEncoder, max_sim, open_encoder, rerank_late
from harness.search.search import Plan, explain, search
from harness.search.sqlite_store import SqliteStore
from harness.search.vectors import Matrix

TEXTS = ("Rye rye rye was sold.", "Rye bread rises slowly with sour dough.", "Oats feed horses.")


class Words:
    """A vector a word: the same word, the same direction."""

    name = "words"

    def question(self, text: str) -> Matrix:
        words = [word.strip(".?").lower() for word in text.split()]
        rows = [np.random.default_rng(sum(map(ord, word)) * 7 + len(word)).standard_normal(64) for word in words]
        return np.array([row / np.linalg.norm(row) for row in rows], dtype=np.float32)

    def passages(self, texts: Sequence[str]) -> list[Matrix]:
        return [self.question(text) for text in texts]


def test_max_sim_is_the_sum_of_each_tokens_nearest() -> None:
    dice = np.random.default_rng(3)
    asked, there = (dice.standard_normal((size, 8)).astype(np.float32) for size in (4, 9))
    expected = sum(max(float(one @ other) for other in there) for one in asked)
    assert max_sim(asked, there) == pytest.approx(expected, abs=1e-4)
    assert max_sim(asked, there[:0]) == 0


def test_the_best_passages_are_put_in_its_order(tmp_path: Path) -> None:
    encoder: TokenEncoder = Words()
    with SqliteStore(tmp_path / "i.db") as store:
        put(store, "/a", *TEXTS)
        found = search(store, "rye bread sour rises", plan=Plan(limit=3))
        turned = rerank_late(found, "rye bread sour rises", encoder)
        single = rerank_late(found, "rye bread sour rises", encoder, top=1)
    assert turned.hits[0].chunk.text == TEXTS[1]
    assert {hit.chunk.id for hit in turned.hits} == {hit.chunk.id for hit in found.hits}
    assert turned.hits[0].steps[-1].stage == "late"
    assert turned.hits[0].steps[-1].score > turned.hits[1].steps[-1].score
    assert any("MaxSim" in line for line in explain(turned))
    assert "by words" in turned.notes[-1]
    assert single.hits == found.hits  # one alone has no order


@pytest.mark.skipif(importlib.util.find_spec("pylate") is not None, reason="PyLate is installed")
def test_without_pylate_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="late interaction needs PyLate"):
        open_encoder("some/model", offline=True)
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rye.md").write_text("# Rye\n\nRye grew fast on the dry sand of the coast.\n")
    assert main(['/ask --docs rye.md --late some/model "How did rye grow?"']) == 1
    assert "pip install 'marginalia[late]'" in capsys.readouterr().err

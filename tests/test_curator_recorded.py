"""The curator with a chat model's own replies: recorded once over the invented sample papers, played by a loopback Ollama.

``recorded/curator_votes.jsonl`` names the model. Each reply was given to the very prompt of ``curation.judge``; the papers
are four honest annotations and four whose sentences stand in wrong moves, which no deterministic check calls a fact.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ollama_server import OllamaServer

from curation import judge
from curation.personas import load_panel
from curator import main
from harness.config import ROOT
from harness.sentences import split
from tests.test_curator import read_csv, read_log, write_csv

HEADER, *RECORDED = [
    json.loads(line) for line in (ROOT / "tests" / "recorded" / "curator_votes.jsonl").read_text("utf-8").splitlines()
]
PERSONAS = [persona.name for persona in load_panel().personas]
COMMAND = ["a.csv", "--model", "tiny", "--out", "kept.csv"]


class Player:
    """Answers each prompt with what the model said to it; ``change`` may spoil a reply."""

    def __init__(self, cells: list[dict[str, str]]) -> None:
        self.cells = cells
        self.asked: list[tuple[int, str]] = []
        self.cut: set[tuple[int, str]] = set()

    def __call__(self, body: dict[str, Any]) -> Iterator[str]:
        text = body["messages"][-1]["content"]
        persona = re.search(r"Judge it as the ([a-z-]+)", text)
        assert persona is not None
        claims = [f"Title: {row['title']}\n" in text and f"\nclaim: {row['claim']}\n" in text for row in self.cells]
        asked = claims.index(True), persona[1]
        self.asked.append(asked)
        reply = RECORDED[asked[0]]["replies"][asked[1]]
        yield reply[: len(reply) // 2] if asked in self.cut else reply


@pytest.fixture
def player(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: OllamaServer) -> Player:
    """A folder with the annotated papers, and the model's replies behind the server."""
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    monkeypatch.chdir(tmp_path)
    with (ROOT / HEADER["papers"]).open(encoding="utf-8", newline="") as handle:
        papers = {row["id"]: row for row in csv.DictReader(handle)}
    rows = []
    for number, recorded in enumerate(RECORDED):
        paper = papers[recorded["paper"]]
        sentences = [sentence.text for sentence in split(paper["abstract"])]
        cells = {move: " ".join(sentences[n - 1] for n in numbers) for move, numbers in recorded["moves"].items()}
        rows.append({"id": f"row-{number}", "title": paper["title"], "abstract": paper["abstract"], **cells})
    write_csv(tmp_path / "a.csv", rows)
    server.answer = player = Player(rows)
    return player


def kept() -> list[str]:
    return [row["id"] for row in read_csv(Path("kept.csv"))]


HONEST = [f"row-{number}" for number, recorded in enumerate(RECORDED) if not recorded["corrupted"]]


def test_every_recorded_prompt_is_answered_under_its_contract(player: Player) -> None:
    assert HEADER["contract"] == judge.CONTRACT, "the prompt has changed: record the replies again"
    assert all(sorted(recorded["replies"]) == sorted(PERSONAS) for recorded in RECORDED)


@pytest.mark.parametrize("quorum", [3, 4, 5])
def test_the_model_keeps_honest_annotations_and_rejects_exchanged_moves(player: Player, quorum: int) -> None:
    assert main([*COMMAND, "--quorum", str(quorum)]) == 0
    assert kept() == HONEST
    sources = {vote["source"] for record in read_log() for vote in record["votes"]}
    assert "tiny" in " ".join(sources)
    assert len(player.asked) == len(set(player.asked))


def test_one_fact_checker_alone_would_keep_them(player: Player) -> None:
    main([*COMMAND, "--quorum", "1"])
    assert len(kept()) == len(RECORDED)  # every sentence does stand in its abstract; other lenses see that it is misplaced


def test_replies_that_are_cut_are_failed_votes_and_three_of_them_reject(player: Player) -> None:
    player.cut = {(0, persona) for persona in PERSONAS[:2]} | {(1, persona) for persona in PERSONAS[:3]}
    assert main(COMMAND) == 0
    assert kept() == [name for name in HONEST if name != "row-1"]
    failed = [sum(vote["score"] is None for vote in record["votes"]) for record in read_log()]
    assert failed[:3] == [2, 3, 0]


def test_a_run_that_is_broken_off_asks_only_what_it_has_not_heard(player: Player) -> None:
    write_csv(Path("first.csv"), player.cells[:3])
    assert main(["first.csv", *COMMAND[1:]]) == 0
    heard = list(player.asked)
    assert {row for row, _ in heard} == {0, 1, 2}
    assert main([*COMMAND, "--yes"]) == 0
    assert kept() == HONEST
    assert not set(heard) & set(player.asked[len(heard) :])

"""/ask with a chat model's own replies: recorded once over the invented sample papers, played by a loopback Ollama.

``recorded/ask_answers.jsonl`` names the model. Each reply was given to the prompt of ``skills/ask/prompt.py``; the player
only fills in under which number a quoted passage stands, which is the search's to decide. A sound answer must pass the
checks untouched, and the same answer with one thing changed must not.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ollama_server import OllamaServer

from harness.cli import main
from harness.config import ROOT
from skills.ask import prompt

HEADER, *RECORDED = [
    json.loads(line) for line in (ROOT / "tests" / "recorded" / "ask_answers.jsonl").read_text("utf-8").splitlines()
]
ANSWERED = [one for one in RECORDED if one["paper"]]


class Player:
    """Answers each prompt with what the model said to it; ``change`` may spoil one."""

    def __init__(self) -> None:
        self.asked = 0
        self.change: tuple[str, str] | None = None

    def __call__(self, body: dict[str, Any]) -> Iterator[str]:
        passages, _, rest = body["messages"][1]["content"].partition("\n\nQuestion: ")
        there = [json.loads(line) for line in passages.splitlines()[1:]]
        reply = json.loads(json.dumps(next(one["reply"] for one in RECORDED if rest.startswith(one["question"]))))
        for claim in reply["answer"]:
            for citation in claim["citations"]:
                citation["n"] = next(one["n"] for one in there if citation["quote"] in one["text"])
            if self.change:
                claim["text"] = claim["text"].replace(*self.change)
        self.asked += 1
        yield json.dumps(reply)


@pytest.fixture
def player(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: OllamaServer) -> Player:
    """The sample papers, and the model's replies behind the server."""
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", None)
    server.add("recorded", context=32768)
    server.answer = player = Player()
    return player


def ask(question: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["--model", "recorded", "--json", f'/ask --docs {ROOT / HEADER["papers"]} "{question}"']) == 0
    record: dict[str, Any] = json.loads(capsys.readouterr().out)
    return record


def test_the_replies_are_to_the_prompt_of_today() -> None:
    assert HEADER["contract"] == prompt.CONTRACT, "the prompt has changed: record the replies again"


@pytest.mark.parametrize("recorded", ANSWERED, ids=lambda one: one["paper"])
def test_a_sound_answer_passes_the_checks_as_it_is(
    recorded: dict[str, Any], player: Player, capsys: pytest.CaptureFixture[str]
) -> None:
    record = ask(recorded["question"], capsys)
    cited = [claim for claim in recorded["reply"]["answer"] if claim["citations"]]
    assert re.sub(r" \[\d+\]", "", record["answer"]) == " ".join(claim["text"] for claim in cited)
    assert (record["unsupported"], record["abstained"], player.asked) == ([], False, 1)
    assert {one["where"] for one in record["citations"]} == {f"row {int(recorded['paper'][-2:])}"}


def test_what_an_abstract_does_not_say_is_a_remark(player: Player, capsys: pytest.CaptureFixture[str]) -> None:
    remarked = [one for one in ANSWERED if not all(claim["citations"] for claim in one["reply"]["answer"])]
    assert len(remarked) == 1
    assert any("does not say how the plots were chosen" in note for note in ask(remarked[0]["question"], capsys)["notes"])


@pytest.mark.parametrize("recorded", [one for one in RECORDED if not one["paper"]], ids=["cryo", "time"])
def test_the_model_says_that_the_papers_do_not_answer(
    recorded: dict[str, Any], player: Player, capsys: pytest.CaptureFixture[str]
) -> None:
    record = ask(recorded["question"], capsys)
    assert (record["abstained"], record["citations"], record["unsupported"]) == (True, [], [])


@pytest.mark.parametrize(
    ("paper", "old", "new", "said"),
    [
        ("sample-09", "1.9 GB", "1.9 MB", "does not have 1.9 MB"),
        ("sample-21", "decisions did not change", "decisions changed", "drops 'not'"),
        ("sample-21", "12% shorter", "21% shorter", "does not have 21%"),
        ("sample-11", "Transparent objects, because the depth camera", "Bees, whose hive", "no passage says this"),
        ("sample-03", "\\log \\Delta", "\\Delta^2", "none of the evidence's equations"),
        ("sample-17", "nine points more", "nine points less", "has 'less' for 'more'"),
    ],
)
def test_the_same_answer_with_one_thing_changed_does_not(
    paper: str, old: str, new: str, said: str, player: Player, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = next(one for one in ANSWERED if one["paper"] == paper)
    changed = [claim["text"].replace(old, new) for claim in recorded["reply"]["answer"] if old in claim["text"]]
    player.change = old, new
    record = ask(recorded["question"], capsys)
    assert record["unsupported"] == changed
    assert any(said in note for note in record["notes"])
    assert player.asked == 2  # it was told, and had the chance to repair it

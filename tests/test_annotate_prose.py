"""/annotate with a general chat model of a loopback Ollama: prose and its one repair, quotes, a framework of one's own."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ollama_server import OllamaServer

from harness.cli import main

ABSTRACT = "Caches do not fit on phones. We present PocketCache, which is four times smaller. It loses 0.4 points on MMLU."
HONEST = "PocketCache is four times smaller."
INVENTED = "It beats HugeCache by 12 points."
OWN = '[[moves]]\nname = "goal"\nquestion = "What is wanted?"\n[[moves]]\nname = "price"\nquestion = "What does it cost?"\n'


class Writer:
    """Answers the n-th request with the n-th of its texts for every move, resting on sentence 2."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.asked: list[dict[str, Any]] = []

    def __call__(self, body: dict[str, Any]) -> Iterator[str]:
        self.asked.append(body)
        text = self.texts.pop(0)
        moves = body["format"]["properties"]
        yield json.dumps({move: {"text": text, "sentences": [2]} if text else [3, 2] for move in moves})


@pytest.fixture
def writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    """The model, and a folder with one paper."""
    answer = Writer()
    with OllamaServer(answer) as server:
        server.add("producer", context=8192)
        monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("MARGINALIA_MODEL", "producer")
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        monkeypatch.chdir(tmp_path)
        with open("papers.csv", "w", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerows([("id", "abstract"), ("p1", ABSTRACT)])
        yield answer


def row() -> dict[str, str]:
    with open("out.csv", newline="", encoding="utf-8") as handle:
        (found,) = csv.DictReader(handle)
    return found


def test_prose_that_the_abstract_bears_out(writer: Writer) -> None:
    writer.texts = [HONEST]
    assert main(["/annotate papers.csv --style prose save to out.csv"]) == 0
    assert (row()["claim"], row()["claim_sentences"], row()["annotation_status"]) == (HONEST, "2", "ok")


def test_prose_with_an_invented_name_is_repaired_once(writer: Writer) -> None:
    writer.texts = [INVENTED, HONEST]
    assert main(["/annotate papers.csv --style prose save to out.csv"]) == 0
    assert row()["claim"] == HONEST
    assert "Not in the abstract: 12, HugeCache" in writer.asked[1]["messages"][-1]["content"]


def test_prose_that_stays_wrong_is_marked(writer: Writer, capsys: pytest.CaptureFixture[str]) -> None:
    writer.texts = [INVENTED, INVENTED]
    assert main(["/annotate papers.csv --style prose save to out.csv"]) == 1
    assert row()["annotation_status"] == "partial"
    assert row()["annotation_error"] == "not in the abstract: 12, HugeCache"
    assert "1 of 1 papers annotated, 1 marked as partial" in capsys.readouterr().err


def test_a_general_model_quotes_in_its_own_order(writer: Writer) -> None:
    writer.texts = [""]
    assert main(["/annotate papers.csv save to out.csv"]) == 0
    second, third = "We present PocketCache, which is four times smaller.", "It loses 0.4 points on MMLU."
    assert (row()["claim"], row()["claim_sentences"]) == (f"{third} {second}", "3;2")


def test_other_moves_are_another_file(writer: Writer) -> None:
    writer.texts = [HONEST]
    Path("own.toml").write_text(OWN, encoding="utf-8")
    assert main(["/annotate papers.csv --framework own.toml --style prose save to out.csv"]) == 0
    assert list(row()) == [
        *("id", "abstract", "goal", "price", "goal_sentences", "price_sentences"),
        *("annotation_status", "annotation_error", "annotation_model"),
    ]
    assert "What does it cost?" in writer.asked[0]["messages"][0]["content"]

"""/ask end to end: real PDFs, the real index, no chat model, and a chat model of a loopback Ollama."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ask_helpers import BARLEY, OATS, RYE_AIM, RYE_FOUND, write_library
from ollama_server import OllamaServer

from harness import registry
from harness.cli import main
from harness.config import Settings
from harness.rate import Rate
from harness.search.sqlite_store import SqliteStore, index_path
from harness.session import Session

QUESTION = "Does an early harvest improve the yield of rye?"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a library, a data folder of its own, and no daemon."""
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    work = tmp_path / "work"
    write_library(work / "papers")
    monkeypatch.chdir(work)
    monkeypatch.setattr(sys, "stdin", None)
    return work


def run(capsys: pytest.CaptureFixture[str], task: str) -> tuple[int, list[dict[str, Any]], str]:
    status = main(["--json", task])
    out, err = capsys.readouterr()
    return status, [json.loads(line) for line in out.splitlines()], err


def pages_of(name: str) -> dict[int, str]:
    """What the index has of a file, by page."""
    with SqliteStore(index_path()) as store:
        found: dict[int, str] = {}
        for path in store.files():
            for chunk in store.chunks_of_file(path) if path.endswith(name) else ():
                for start, end, page in chunk.sentences:
                    found[page] = found.get(page, "") + chunk.text[start:end] + "\n"
        return found


def test_without_a_model_it_answers_with_a_sentence_of_the_paper(capsys: pytest.CaptureFixture[str]) -> None:
    status, [record], err = run(capsys, f'/ask --docs papers "{QUESTION}"')
    assert status == 0
    assert (record["style"], record["abstained"], record["model"], record["unsupported"]) == ("extractive", False, {}, [])
    assert "No chat model took part" in record["reasoning"]
    assert "no chat model is here" in err
    first = record["citations"][0]
    assert (Path(first["file"]).name, first["page"], first["quote"]) == ("rye.pdf", 2, RYE_FOUND)
    assert all(one["quote"] in pages_of("rye.pdf")[one["page"]] for one in record["citations"])
    assert record["answer"].startswith(f"{RYE_FOUND} [{first['n']}]")
    assert RYE_AIM not in record["answer"].split("\n")[0]


def test_the_second_time_nothing_is_read_anew_and_the_index_is_enough(capsys: pytest.CaptureFixture[str]) -> None:
    first = run(capsys, f'/ask --docs papers "{QUESTION}"')[1]
    with SqliteStore(index_path()) as store:
        before = {path: store.chunks_of_file(path)[0].id for path in store.files()}
    assert run(capsys, f'/ask --docs papers "{QUESTION}"')[1] == first
    with SqliteStore(index_path()) as store:
        assert {path: store.chunks_of_file(path)[0].id for path in store.files()} == before
    assert run(capsys, f'/ask "{QUESTION}"')[1][0]["citations"][0]["quote"] == RYE_FOUND


def test_only_the_named_files_answer(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "/index papers")
    _, [record], _ = run(capsys, f'/ask --docs papers/oats.md "{QUESTION}"')
    assert record["abstained"]
    assert record["citations"] == []
    assert {Path(one["file"]).name for one in record.get("closest", [])} <= {"oats.md"}
    _, [record], _ = run(capsys, '/ask --docs papers/*.md --docs papers/table.csv "How sweet was malted barley?"')
    assert record["citations"][0] == record["citations"][0] | {"quote": BARLEY, "page": None, "where": "row 1"}


def test_a_copy_of_an_indexed_file_answers_too(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "/index papers")
    (place / "copy.md").write_bytes((place / "papers" / "oats.md").read_bytes())
    _, [record], _ = run(capsys, '/ask --docs copy.md "Was mould found in stored oats?"')
    assert record["citations"][0]["quote"] == OATS


def test_a_table_that_was_read_by_other_columns_stays_so(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "odd.csv").write_text(f'id,heading,body\n1,Malting,"Malting is old. {BARLEY}"\n')
    assert run(capsys, "/index odd.csv --column abstract=body")[0] == 0
    _, [record], _ = run(capsys, '/ask --docs odd.csv "How sweet was malted barley?"')
    assert record["citations"][0]["quote"] == BARLEY


def test_what_the_papers_do_not_say_is_not_answered(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(['/ask --docs papers "Which satellites measured the yield of rye from orbit in 1987?"'])
    out = capsys.readouterr().out
    assert status == 0
    assert "\n#####\nNot answered by these papers.\n\nClosest:\n[1] rye.pdf, p. " in out
    assert "satellites" in out.split("#####")[0]
    status, [record], _ = run(capsys, '/ask --threshold 0 "Which satellites measured the yield of rye from orbit in 1987?"')
    assert not record["abstained"]
    assert record["notes"][0].startswith("none of the passages has: satellites, ")


def test_people_see_reasoning_mark_answer_and_sources(capsys: pytest.CaptureFixture[str]) -> None:
    main(['/ask --docs papers "Was mould found in stored oats?"'])
    assert capsys.readouterr().out.splitlines()[1:] == ["#####", f"{OATS} [1]", "", f'[1] oats.md: "{OATS}"']


def test_a_file_of_questions_keeps_its_columns_and_order(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "asked.csv").write_text(f"id,question\na,{QUESTION}\nb,\nc,Was mould found in stored oats?\n")
    assert main(["/ask --docs papers asked.csv save to answers.csv"]) == 1
    assert "3 questions: 2 answered, 0 not answered, 1 failed" in capsys.readouterr().err
    rows = list(csv.DictReader((place / "answers.csv").open(newline="")))
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert RYE_FOUND in rows[0]["sources"]
    assert rows[1]["error"] == "the question is empty"
    assert rows[2]["answer"] == f"{OATS} [1]"
    (place / "answers.csv").unlink()
    main(["/ask --docs papers asked.csv save to answers.csv"])
    assert "2 of them known already" in capsys.readouterr().err


def test_a_question_and_a_list_of_them_can_be_piped_in(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Was mould found in stored oats?\n"))
    _, [record], _ = run(capsys, "/ask --docs papers")
    assert record["citations"][0]["quote"] == OATS
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"question;who\n{QUESTION};a\nWho milks cows?;b\n"))
    _, records, _ = run(capsys, "/ask")
    assert [record["abstained"] for record in records] == [False, True]


def test_explain_accounts_for_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    _, [record], err = run(capsys, f'/ask --docs papers --explain --lex "rye straw" "{QUESTION}"')
    assert "model: none: no model can serve ask here" in err
    assert "telling words (idf): early" in err
    assert re.search(r"bm25 +original score", err)
    assert re.search(r"bm25 +lex +score", err) or "expansion left out: BM25 is sure" in err
    assert set(record["explain"]["measures"]) == {"passage", "pairs", "above"}
    assert record["explain"]["passages"][0]["steps"]


@pytest.mark.parametrize(
    ("task", "message", "code"),
    [
        ("/ask", "no question", 2),
        ("/ask Why?", "the index holds no papers", 2),
        ("/ask --docs nowhere Why?", "there is no file", 1),
        ("/ask --docs papers --passages 0 Why?", "is not a whole number from 1", 2),
        ("/ask --docs papers --threshold 2 Why?", "is not a number from 0 to 1", 2),
        ("/ask --docs papers --expand --no-expand Why?", "exclude each other", 2),
        ("/ask papers/ Why?", '/ask --docs papers/ "QUESTION"', 2),
        ("/ask --docs papers asked.csv", "there is no file", 1),
        ("/ask --docs papers Why? save to answer.pdf", "cannot write .pdf", 2),
        ("/ask --docs broken Why?", "none of the files in broken can be read", 1),
    ],
)
def test_mistakes_are_one_line(place: Path, capsys: pytest.CaptureFixture[str], task: str, message: str, code: int) -> None:
    (place / "broken").mkdir()
    (place / "broken" / "cut.pdf").write_bytes(b"%PDF-1.4 and nothing more")
    status, _, err = run(capsys, task)
    assert (status, message in err, "Traceback" in err) == (code, True, False), err


def test_a_file_that_cannot_be_read_is_told_and_the_rest_answers(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "papers" / "cut.pdf").write_bytes(b"%PDF-1.4 and nothing more")
    status, [record], err = run(capsys, f'/ask --docs papers "{QUESTION}"')
    assert (status, record["abstained"]) == (0, False)
    assert record["notes"][-1] == "1 of 4 files could not be read"
    assert "cut.pdf is damaged" in err


def test_a_session_understands_follow_ups_until_it_is_cleared() -> None:
    session = Session(Settings(ollama_host="127.0.0.1:9"))
    try:
        session.run('/ask --docs papers "Was mould found in the oats?"')
        [record] = session.run("/ask And how were they stored?").records
        assert record["notes"][0] == "understood as: And how were they stored? (mould found oats)"
        assert record["question"] == "And how were they stored?"
        assert record["citations"][0]["quote"] == OATS
        session.clear()
        [record] = session.run("/ask And how were they stored?").records
        assert not any("understood as" in note for note in record["notes"])
    finally:
        session.close()


def test_a_follow_up_looks_where_the_question_before_looked(place: Path) -> None:
    session = Session(Settings(ollama_host="127.0.0.1:9"))
    try:
        session.run("/index papers")
        session.run(f'/ask --docs papers/oats.md "{QUESTION}"')
        [record] = session.run("/ask And what about it in spring?").records
        assert {Path(one["file"]).name for one in record.get("closest", [])} <= {"oats.md"}
        assert record["abstained"]
        assert not session.run(f'/ask "{QUESTION}"').records[0]["abstained"]
    finally:
        session.close()


class Daemon(OllamaServer):
    """A loopback Ollama whose model quotes the first sentence of the first passage, or says what it is told to say."""

    def __init__(self) -> None:
        super().__init__(self._write)
        self.says: str | None = None

    def _write(self, body: dict[str, Any]) -> Iterator[str]:
        yield from re.findall(r"\s*\S+|\s+$", self.says or self._answer(body["messages"][1]["content"]))

    @staticmethod
    def _answer(prompt: str) -> str:
        first = json.loads(next(line for line in prompt.splitlines() if line.startswith('{"n"')))
        quote = first["text"].partition(". ")[0].rstrip(".") + "."
        claim = {"text": quote, "citations": [{"n": first["n"], "quote": quote}]}
        return json.dumps({"reasoning": "Passage 1 says it.", "answered": True, "answer": [claim]})


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    with Daemon() as server:
        server.add("producer", context=8192)
        monkeypatch.setenv("OLLAMA_HOST", server.url)
        yield server


def test_a_chat_model_writes_and_the_weak_are_not_sent_to_it(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    status, [record], err = run(capsys, '/ask --docs papers "Was mould found in stored oats?"')
    assert (status, record["style"], record["model"]["name"]) == (0, "written", "producer:latest")
    assert record["reasoning"] == "Passage 1 says it."
    assert record["citations"][0]["quote"] in OATS
    assert re.search(r"tokens read, [\d,]+ written; context [\d,]+ of 8,192", err)
    asked = len(daemon.bodies("/api/chat"))
    _, [record], _ = run(capsys, '/ask "Which satellites orbit Jupiter backwards?"')
    assert record["abstained"]
    assert len(daemon.bodies("/api/chat")) == asked
    _, [record], _ = run(capsys, '/ask --extractive "Was mould found in stored oats?"')
    assert (record["style"], len(daemon.bodies("/api/chat"))) == ("extractive", asked)


def test_a_chat_model_that_writes_nonsense_leaves_the_extractive_answer(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.says = "I would rather not."
    status, [record], _ = run(capsys, '/ask --docs papers "Was mould found in stored oats?"')
    assert (status, record["style"], record["citations"][0]["quote"]) == (0, "extractive", OATS)
    assert record["notes"][0].startswith("the chat model failed: ")


def test_an_embedding_model_takes_part_where_it_is_named(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.add("embedder", capabilities=("embedding",))
    task = f'/ask --docs papers --embed embedder --extractive --explain "{QUESTION}"'
    status, [record], err = run(capsys, task)
    assert status == 0
    assert re.search(r"dense +original score", err)
    assert record["citations"][0]["quote"] == RYE_FOUND
    asked = len(daemon.bodies("/api/embed"))
    run(capsys, task)
    assert len(daemon.bodies("/api/embed")) == asked + 1
    _, _, err = run(capsys, f'/ask --docs papers --extractive --vec "early reaping" "{QUESTION}"')
    assert "there is no embedding model" in run(capsys, f'/ask --extractive --vec x --explain "{QUESTION}"')[2] + err


def test_only_the_named_files_are_embedded(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.add("embedder", capabilities=("embedding",))
    run(capsys, "/index papers")
    question = "Was mould found in stored oats?"
    _, _, err = run(capsys, f'/ask --docs papers/oats.md --embed embedder --extractive "{question}"')
    told = [text for body in daemon.bodies("/api/embed") for text in body["input"] if text != question]
    assert len(told) == 1
    assert OATS in told[0]
    assert "have no vector" not in err
    _, _, err = run(capsys, f'/ask --embed embedder --extractive "{question}"')
    assert re.search(r"[1-9] passages have no vector of this model yet: /index --embed embedder", err)


def test_what_needs_a_model_is_a_note_without_one(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(registry, "ROOT", place)  # no bundled models here
    _, [record], _ = run(capsys, f'/ask --docs papers --rerank 2 --expand "{QUESTION}"')
    assert any(note.startswith("searched without an expansion: no model can serve expand") for note in record["notes"])
    assert "not reranked: there is no chat model" in record["notes"]
    assert record["citations"][0]["quote"] == RYE_FOUND


def test_the_growing_answer_is_shown_on_a_terminal_and_wiped(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from skills.ask.show import streaming

    screen = io.StringIO()
    with streaming(Console(file=screen, force_terminal=True, width=60), True) as on_text:
        assert on_text is not None
        on_text("The yield \x1b]0;x\x07fell.")
    assert "The yield fell." in screen.getvalue()
    with streaming(Console(file=io.StringIO()), True) as on_text:
        assert on_text is None


def test_a_batch_asks_the_model_once_for_each_question(
    daemon: Daemon, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "asked.txt").write_text(f"# two questions\n{QUESTION}\nWas mould found in stored oats?\n")
    status, records, _ = run(capsys, "/ask --docs papers asked.txt")
    assert (status, [record["style"] for record in records]) == (0, ["written", "written"])
    asked = len(daemon.bodies("/api/chat"))
    assert run(capsys, "/ask --docs papers asked.txt")[1] == records
    assert len(daemon.bodies("/api/chat")) == asked


def test_a_batch_keeps_to_its_rate_where_the_model_is_asked(
    daemon: Daemon, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def wait(self: Rate, cancel: threading.Event, client: str = "") -> bool:
        asked.append(len(daemon.bodies("/api/chat")))
        return True

    monkeypatch.setattr(Rate, "wait", wait)
    (place / "asked.txt").write_text(f"{QUESTION}\nWas mould found in stored oats?\nWhich robots weeded the orchids?\n")
    status, records, _ = run(capsys, "/ask --docs papers --rate 5 asked.txt")
    assert (status, records[2]["abstained"]) == (0, True)
    assert asked == [0, 1]  # before each of the two; nobody asks the model about robots
    run(capsys, "/ask --docs papers --rate 5 asked.txt")
    assert len(asked) == 2  # what is known already waits for nothing
    assert run(capsys, "/ask --docs papers --rate 0 asked.txt")[0] == 2

"""Reranking: pure scores, a real model's log-probabilities, the time budget, and models that cannot do it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ollama_server import OllamaServer
from search_helpers import put
from tiny_gguf import bpe, write_tiny_gguf

from harness.cli import main
from harness.errors import ModelUnavailable
from harness.models.base import ModelInfo, OnText, Reply, Request, TokenLogprob
from harness.models.embedded import EmbeddedModel
from harness.models.ollama import OllamaModel
from harness.search.rerank import judge, log_odds, reordered, request, rerank
from harness.search.search import Found, explain, search
from harness.search.sqlite_store import SqliteStore

TEXTS = ("Rye is cut when dry.", "Rye likes rain.", "Rye bread is dark.", "Rye grows tall.")


@pytest.fixture
def found(tmp_path: Path) -> Iterator[Found]:
    with SqliteStore(tmp_path / "i.db") as store:
        put(store, "/rye", *TEXTS)
        yield search(store, "rye")


def texts(found: Found) -> list[str]:
    return [hit.chunk.text for hit in found.hits]


def says(chances: dict[str, float]) -> Reply:
    token = max(chances, key=lambda key: chances[key])
    logs = {key: math.log(chance) for key, chance in chances.items()}
    return Reply(token, "length", 9, 1, 0.1, (TokenLogprob(token, logs[token], logs),))


class Judge:
    """A model whose log-probability of yes goes by a word of the passage; it may be slow or fail."""

    info = ModelInfo("judge:latest", "embedded", "", 2048)

    def __init__(self, chance: Callable[[str], float], *, seconds: float = 0.0, slots: int = 1) -> None:
        self.chance, self.seconds, self.slots = chance, seconds, slots
        self.reserved = 0

    def reserve(self, tokens: int) -> None:
        self.reserved = tokens

    def generate(self, request: Request, *, on_text: OnText | None = None, cancel: threading.Event | None = None) -> Reply:
        if self.seconds and (cancel or threading.Event()).wait(self.seconds):
            return Reply("", "cancelled", 9, 0, 0.1)
        yes = self.chance(request.messages[-1].content)
        return says({"yes": yes, "no": 1 - yes})

    def count_tokens(self, text: str) -> int:
        return len(text)

    def close(self) -> None:
        """Nothing."""


def dark(prompt: str) -> float:
    return 0.9 if "dark" in prompt else 0.6 if "rain" in prompt else 0.2


# Pure


@pytest.mark.parametrize(
    ("chances", "odds"),
    [
        ({"yes": 0.5, "no": 0.25}, math.log(2)),
        ({" Yes": 0.2, "YES.": 0.2, "No": 0.1, "maybe": 0.4}, math.log(4)),
        ({"yes": 0.6, "maybe": 0.2, "a": 0.1}, math.log(6)),
        ({"no": 0.6, "maybe": 0.2, "a": 0.1}, -math.log(6)),
        ({"maybe": 0.6, "yesterday": 0.2}, None),
    ],
)
def test_log_odds(chances: dict[str, float], odds: float | None) -> None:
    found = log_odds(says(chances))
    assert found == (odds if odds is None else pytest.approx(odds))


def test_without_log_probabilities_there_are_no_odds() -> None:
    assert log_odds(Reply("yes", "length", 9, 1, 0.1)) is None


@given(st.integers(0, 12), st.data())
def test_reordering_moves_only_what_has_a_score(count: int, data: st.DataObject) -> None:
    places = data.draw(st.sets(st.integers(0, max(count - 1, 0)), max_size=count))
    scores = {place: data.draw(st.floats(-5, 5)) for place in places}
    order = reordered(count, scores)
    assert sorted(order) == list(range(count))
    assert all(order[place] == place for place in range(count) if place not in scores)
    judged = [scores[place] for place in order if place in scores]
    assert judged == sorted(judged, reverse=True)


# Models


def test_the_models_order_and_a_step_that_explains_it(found: Found) -> None:
    ranked = rerank(found, "which bread?", Judge(dark))
    assert texts(ranked)[:2] == ["Rye bread is dark.", "Rye likes rain."]
    assert sorted(texts(ranked)) == sorted(TEXTS)
    step = ranked.hits[0].steps[-1]
    assert (step.stage, step.rank, step.points) == ("rerank", 1, 0.0)
    assert step.score == pytest.approx(math.log(9))
    assert ranked.hits[0].score == next(hit.score for hit in found.hits if hit.chunk == ranked.hits[0].chunk)
    assert "rerank: ln p(yes)/p(no)   2.1972, rank   1" in "\n".join(explain(ranked))
    assert ranked.notes[-1].startswith("reranked 4 of 4 passages in ")
    assert texts(rerank(found, "which?", Judge(dark), limit=1)) == ["Rye bread is dark."]
    assert texts(rerank(found, "which?", Judge(dark), top=2)) != texts(ranked)


def test_what_the_time_does_not_suffice_for_keeps_its_place(found: Found) -> None:
    started = time.monotonic()
    ranked = rerank(found, "which?", Judge(dark, seconds=0.2), seconds=0.5)
    assert time.monotonic() - started < 0.7
    assert texts(ranked)[2:] == texts(found)[2:]
    assert [len(hit.steps) for hit in ranked.hits] == [2, 2, 1, 1]
    assert ranked.notes[-1].startswith("reranked 2 of 4 passages in 0.5 s by judge:latest: the time is over")


def test_as_many_at_once_as_the_model_has_slots() -> None:
    scores, problem = judge(Judge(dark, seconds=0.2, slots=4), "which?", TEXTS, 5.0)
    assert (len(scores), problem) == (4, "")


def test_a_model_that_fails_is_a_note(found: Found) -> None:
    def fail(prompt: str) -> float:
        raise ModelUnavailable("the daemon has gone")

    ranked = rerank(found, "which?", Judge(fail))
    assert texts(ranked) == texts(found)
    assert ranked.notes[-1].endswith("the daemon has gone")


def test_the_real_runtime_gives_the_probabilities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, merges = bpe()
    words = [*tokens, "ye", "yes", "no"], [*merges, "y e", "ye s", "n o"]
    monkeypatch.setattr("harness.search.rerank._ALTERNATIVES", 1000)  # of noise, yes and no are not among the first 20
    model = EmbeddedModel(write_tiny_gguf(tmp_path / "m.gguf", words=words), name="tiny:latest", threads=1)
    try:
        scores, problem = judge(model, "which?", TEXTS, 30.0)
        again, _ = judge(model, "which?", TEXTS, 30.0)
        top = model.generate(request("which?", TEXTS[2])).logprobs[0].top
    finally:
        model.close()
    assert (problem, len(scores), len(set(scores.values()))) == ("", 4, 4)
    assert scores[2] == pytest.approx(top["yes"] - top["no"], abs=0.02)
    assert scores == pytest.approx(again, abs=0.1)  # what is cached comes from other batches


def test_a_daemon_judges(found: Found, server: OllamaServer, model: OllamaModel) -> None:
    def answer(body: dict[str, object]) -> Iterator[str]:
        yield "Yes" if "dark" in str(body["messages"]).rpartition("Passage:")[2] else "No"

    server.answer = answer
    ranked = rerank(found, "which bread?", model, seconds=20)
    assert texts(ranked)[0] == "Rye bread is dark."
    assert ranked.hits[0].steps[-1].score == pytest.approx(1.25)
    assert {body["options"]["num_predict"] for body in server.bodies("/api/chat")} == {1}


def test_index_reranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], server: OllamaServer
) -> None:
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", server.url)
    monkeypatch.chdir(tmp_path)
    server.answer = lambda body: iter(["Yes" if "dark" in str(body["messages"]).rpartition("Passage:")[2] else "No"])
    for number, text in enumerate(TEXTS):
        (tmp_path / f"{number}.txt").write_text(text)
    assert main(["/index ."]) == 0
    assert main(["/index --find rye --limit 1 --rerank 20 --explain"]) == 0
    out = capsys.readouterr().out
    assert "Rye bread is dark." in out
    assert "rerank: ln p(yes)/p(no)   1.2500, rank   1" in out
    assert main(["/index . --rerank 2"]) == 2

"""/annotate with the bundled model in an Ollama daemon: the same annotations, and nothing lost when the daemon goes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ollama_server import OllamaServer

from harness.cli import main
from harness.config import ROOT
from harness.jobs import runner
from harness.models import ollama
from harness.models.base import Reply, Request
from harness.models.embedded import EmbeddedModel
from skills.annotate.moves import load_framework

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.skipif(
    not (ROOT / "registry" / "nanda-annotator" / "mini.gguf").exists(), reason="the bundled model is not in this checkout"
)

NAME = "nanda-annotator:mini"
NOBODY = "127.0.0.1:9"
TASK = f"/annotate {ROOT / 'data' / 'sample_papers.csv'} --limit 6"
MARKS_BEFORE = 12
"""After so many marks the daemon goes: the first sample paper has fewer sentences, all six have more."""


class Served(EmbeddedModel):
    """What the daemon of these tests generates with; it counts, and something may happen after a count."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, name="served", threads=1, slots=1)
        self.count, self.after, self.then = 0, 0, lambda: None

    def generate(self, request: Request, **how: Any) -> Reply:
        reply = super().generate(request, **how)
        self.count += 1
        if self.count == self.after:
            self.then()
        return reply


class Daemon(OllamaServer):
    """An Ollama that has the bundled model, put there by our own command."""

    served: Served

    def __init__(self) -> None:
        super().__init__(model_factory=self._open)
        self.after, self.then = 0, lambda: None

    def _open(self, path: Path) -> Served:
        self.served = Served(path)
        self.served.after, self.served.then = self.after, self.then
        return self.served

    def when(self, marks: int, then: Callable[[], None]) -> None:
        """Have something happen right after so many marks."""
        self.after, self.then = marks, then


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("OLLAMA_NUM_PARALLEL", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ollama, "BACKOFF_SECONDS", 0.005)
    monkeypatch.setattr(runner, "FIRST_DELAY", 0.005)


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Daemon]:
    with Daemon() as running:
        monkeypatch.setenv("OLLAMA_HOST", running.url)
        assert main(["models", "install", NAME]) == 0
        assert f"ollama run {NAME}" in capsys.readouterr().out
        yield running


def annotate(capsys: pytest.CaptureFixture[str]) -> tuple[int, list[dict[str, Any]], str]:
    status = main(["--json", TASK])
    out, err = capsys.readouterr()
    return status, [json.loads(line) for line in out.splitlines()], err


def test_the_daemons_annotations_are_the_embedded_ones(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, there, err = annotate(capsys)
    assert status == 0
    assert f"model: {NAME} (ollama)" in err
    assert {record["model"]["backend"] for record in there} == {"ollama"}
    bodies = daemon.bodies("/api/generate")
    assert len(bodies) == daemon.served.count > 20
    assert all(body["raw"] and body["truncate"] is False and body["top_logprobs"] == 20 for body in bodies)
    assert len({body["options"]["num_ctx"] for body in bodies}) == 1

    monkeypatch.setenv("OLLAMA_HOST", NOBODY)
    status, here, err = annotate(capsys)
    assert status == 0
    assert f"model: {NAME} (embedded)" in err
    assert "known already" not in err, "another digest is another result"
    turned = 0  # Ollama tells the 20 likeliest tokens, the embedded runtime all labels: near-ties may change places
    for one, other in zip(there, here, strict=True):
        assert one["id"] == other["id"]
        for move in load_framework().names:
            mine, yours = one["moves"][move], other["moves"][move]
            turned += bool(mine) != bool(yours)
            if mine and yours:
                assert sorted(mine["sentences"]) == sorted(yours["sentences"])
                assert mine["confidence"] == pytest.approx(yours["confidence"], abs=0.03)
    assert turned <= 1, "a cell at its very threshold"


def test_a_daemon_that_is_away_for_a_while(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.when(MARKS_BEFORE, lambda: setattr(daemon.faults, "refuse", 10**6))
    status, cut, err = annotate(capsys)
    assert status == 1
    done = [record["status"] == "ok" for record in cut]
    assert done == sorted(done, reverse=True), "the rows before the fault are there, in the input's order"
    assert 0 < sum(done) < 6
    assert all(record["error"] for record in cut if record["status"] == "error")
    assert all(not any(record["moves"].values()) for record in cut if record["status"] == "error")
    assert f"{6 - sum(done)} failed" in err
    assert 0 < 10**6 - daemon.faults.refuse <= ollama.TRIES * 4 * (runner.LOST_ROWS + 1), "it was tried, not stormed"

    daemon.faults.refuse = 0
    marks = daemon.served.count
    status, whole, err = annotate(capsys)
    assert status == 0
    assert f"{sum(done)} of them known already" in err
    assert [record["moves"] for record in whole][: sum(done)] == [record["moves"] for record in cut][: sum(done)]
    assert all(record["status"] == "ok" for record in whole)
    assert daemon.served.count > marks


def test_a_daemon_that_was_stopped_gives_way_to_the_embedded_runtime(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.when(MARKS_BEFORE, daemon.stop)
    status, cut, err = annotate(capsys)
    assert status == 1
    assert "no Ollama daemon answers" in err
    assert cut[0]["status"] == "ok"
    assert cut[-1]["status"] == "error"

    status, whole, err = annotate(capsys)
    assert status == 0
    assert f"model: {NAME} (embedded)" in err
    assert all(record["status"] == "ok" and record["model"]["backend"] == "embedded" for record in whole)

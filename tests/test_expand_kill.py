"""/expand, killed with kill -9 in the middle of a file: the same command goes on, and nothing is asked for twice."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from ollama_server import OllamaServer

from harness.config import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9"),
]

QUERIES = [f"topic{number} basics" for number in range(24)]
HELD = 4
"""Results in the journal when the agent is killed."""
PATIENCE = 120.0


def answer(body: dict[str, Any]) -> Iterator[str]:
    query = body["messages"][-1]["content"].partition("query: ")[2].split("\n")[0]
    yield json.dumps({kind: [f"{query} as {kind}"] for kind in body["format"]["properties"]})


def start(folder: Path, url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "agent.py"), "--model", "producer", "--workers", "1"]
    environment = {**os.environ, "MARGINALIA_HOME": str(folder / "home"), "OLLAMA_HOST": url}
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen([*command, "/expand q.txt save to out.jsonl"], cwd=folder, env=environment, **streams)


def journaled(folder: Path) -> int:
    address = f"file:{folder / 'home' / 'journal.db'}?mode=ro"
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(address, uri=True)) as journal:
        return int(journal.execute("SELECT count(*) FROM results").fetchone()[0])
    return 0


def test_a_killed_job_goes_on_where_it_was(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("\n".join(QUERIES), encoding="utf-8")
    with OllamaServer(answer) as server:
        server.add("producer", context=8192)
        server.faults.first_token_seconds = 0.1
        agent = start(tmp_path, server.url)
        deadline = time.monotonic() + PATIENCE
        while journaled(tmp_path) < HELD and agent.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        agent.kill()
        _, errors = agent.communicate()
        held = journaled(tmp_path)
        assert HELD <= held < len(QUERIES), errors
        assert not (tmp_path / "out.jsonl").exists()
        server.faults.first_token_seconds = 0.0
        again = start(tmp_path, server.url)
        _, errors = again.communicate(timeout=PATIENCE)
        assert again.returncode == 0, errors
        assert f"{held} of them known already".encode() in errors
        asked = len(server.bodies("/api/chat"))
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [record["query"] for record in records] == QUERIES
    assert all(record["lines"][1] == {"type": "lex", "text": f"{record['query']} as lex"} for record in records)
    assert len(QUERIES) <= asked <= len(QUERIES) + 1  # the one that was running when the agent was killed

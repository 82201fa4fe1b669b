"""A job of /annotate in processes of its own that can be killed: for the kill tests and benchmarks/kill.py. Linux only."""

from __future__ import annotations

import csv
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from harness.config import ROOT
from harness.sentences import split

PATIENCE = 120.0
"""Seconds after which a job that has not got as far as expected counts as stuck."""


def write_rows(path: Path, count: int) -> None:
    """JSONL with ``count`` short abstracts, no two alike, made from the sample papers."""
    with (ROOT / "data" / "sample_papers.csv").open(newline="", encoding="utf-8") as handle:
        papers = [paper for paper in csv.DictReader(handle) if len(paper["abstract"]) > 100]
    rows = []
    for number in range(count):
        paper = papers[number % len(papers)]
        sentences = [sentence.text for sentence in split(paper["abstract"])]
        start = number // len(papers) % max(1, len(sentences) - 1)
        text = " ".join([*sentences[start : start + 2], f"This text is number {number} of its kind."])
        rows.append({"id": f"row-{number}", "title": paper["title"], "abstract": text})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


class Job:
    """``/annotate rows.jsonl save to out.jsonl`` in a folder of its own; every ``start`` is the same command."""

    def __init__(self, folder: Path, rows: int, *options: str) -> None:
        folder.mkdir()
        self.folder, self.options = folder, options
        self.home = folder / "home"
        self.result = folder / "out.jsonl"
        write_rows(folder / "rows.jsonl", rows)

    def start(self) -> subprocess.Popen[bytes]:
        """The agent, in a data folder of its own and with no daemon in reach."""
        command = [sys.executable, str(ROOT / "agent.py"), "--yes", *self.options, "/annotate rows.jsonl save to out.jsonl"]
        environment = {**os.environ, "MARGINALIA_HOME": str(self.home), "OLLAMA_HOST": "127.0.0.1:9"}
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
        with (self.folder / "stderr").open("ab") as errors:
            return subprocess.Popen(command, cwd=self.folder, env=environment, stderr=errors, **streams)

    def finish(self, agent: subprocess.Popen[bytes] | None = None) -> int:
        """Let the job run to its end; the exit code."""
        return (agent or self.start()).wait(PATIENCE)

    def records(self) -> list[dict[str, Any]]:
        """What was saved."""
        return [json.loads(line) for line in self.result.read_text(encoding="utf-8").splitlines()]

    def errors(self) -> str:
        """All that was written to stderr."""
        return (self.folder / "stderr").read_text(encoding="utf-8", errors="replace")

    def journaled(self) -> int:
        """Rows in the journal; 0 before there is one. Read-only: the next start must find the file as the kill left it."""
        address = f"file:{self.home / 'journal.db'}?mode=ro"
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(address, uri=True)) as journal:
            return int(journal.execute("SELECT count(*) FROM results").fetchone()[0])
        return 0

    def wait_for(self, agent: subprocess.Popen[bytes], rows: int) -> None:
        """Return when the journal holds so many rows, or the agent has ended."""
        deadline = time.monotonic() + PATIENCE
        while self.journaled() < rows and agent.poll() is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.journaled()} of {rows} rows after {PATIENCE} seconds: {self.errors()}")
            time.sleep(0.01)

    def processes(self) -> dict[int, int]:
        """The living processes of the job, agents and children: process id → parent's."""
        mark = f"MARGINALIA_HOME={self.home}".encode()
        found = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with suppress(OSError):
                    if mark in (folder / "environ").read_bytes().split(b"\0"):
                        found[int(folder.name)] = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
        return found

    def kill_backend(self, agent: subprocess.Popen[bytes]) -> bool:
        """kill -9 the agent's child; False where it has none at the moment."""
        children = [pid for pid, parent in self.processes().items() if parent == agent.pid]
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(children)

    def gone(self, seconds: float = 5.0) -> bool:
        """Whether every process of the job ends within a short while."""
        deadline = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        return not left


def kill_and_resume(job: Job, rows: int, kills: int, seed: int) -> list[int]:
    """Kill the job's agent at random moments, the first while it starts, then let it finish.

    Returns how many rows the journal held after each kill. AssertionError where a row was lost on the way, a process was
    left behind, or the job does not finish.
    """
    dice = random.Random(seed)
    moments = [0, *sorted(dice.sample(range(1, rows * 9 // 10), kills - 1))]
    held = [0]
    for moment in moments:
        agent = job.start()
        job.wait_for(agent, moment)
        time.sleep(dice.uniform(0, 0.1 if moment else 1.0))
        agent.kill()
        assert agent.wait() == -signal.SIGKILL, f"ended by itself before it was killed: {job.errors()}"
        assert job.gone(), f"left behind: {job.processes()}"
        held.append(job.journaled())
        assert held[-1] >= held[-2], "a finished row was lost"
    assert job.finish() == 0, job.errors()
    return held[1:]

"""What the speed benchmarks share: the agent as a process of its own, its peer the plain loop, and the check of quotes."""

from __future__ import annotations

import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from common import ROOT

from finetune.evaluation.memory import descendants, peak_resident
from harness.models.base import Message, Options, Request
from harness.models.embedded import completion, physical_cores
from harness.models.embedded_process import Child, Load
from harness.sentences import split

PLAIN_TOKENS = 300
"""What the plain loop writes for each paper: two sentences for each of eight moves."""
INSTRUCTION = (
    "Annotate this abstract. Write one or two sentences for each of: claim, evidence, method, scope, limitation, "
    "comparison, implication, novelty."
)
_SAMPLE_SECONDS = 0.1


@dataclass
class Run:
    """One run of the agent, measured from outside."""

    seconds: float
    """Wall clock from before the process starts until it has ended."""
    peak_mb: float
    """The largest resident set of the agent plus that of its child, whenever each was; pages shared count twice."""
    rows: list[dict[str, str]]
    """The CSV it wrote."""


def run_agent(papers: Path, limit: int, model: str = "") -> Run:
    """``/annotate`` the first papers of a file in a new process, folder and data folder, with no daemon in reach."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**os.environ, "MARGINALIA_HOME": str(folder / "home"), "OLLAMA_HOST": "127.0.0.1:9"}
        options = ["--model", model] if model else []
        task = f'/annotate "{papers.resolve()}" --limit {limit} save to out.csv'
        command = [sys.executable, str(ROOT / "agent.py"), *options, task]
        with (folder / "stderr").open("w+") as errors:
            started = time.perf_counter()
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=errors)
            peak = _watch(process)
            seconds = time.perf_counter() - started
            errors.seek(0)
            if process.returncode not in (0, 1):  # 1: a row could not be annotated, and its row says so
                raise SystemExit(f"{task} ended with {process.returncode}:\n{errors.read()}")
        with (folder / "out.csv").open(newline="", encoding="utf-8") as handle:
            return Run(seconds, peak, list(csv.DictReader(handle)))


def _watch(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process; the sum of the peak resident sets of it and its descendants in MB (0 where there is no /proc)."""
    peaks: dict[int, int] = {}
    while True:
        for pid in (process.pid, *descendants(process.pid)):
            peaks[pid] = peak_resident(pid) or peaks.get(pid, 0)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_SAMPLE_SECONDS)
            return sum(peaks.values()) / 1e6


def count_verbatim(rows: Sequence[Mapping[str, str]], moves: Sequence[str]) -> tuple[int, int]:
    """Quoted sentences that stand in their abstract, and all quoted sentences, in an annotated CSV."""
    found = quoted = 0
    for row in rows:
        sentences = split(row["abstract"])
        for move in moves:
            numbers = [int(number) for number in row[f"{move}_sentences"].split(";") if number]
            quotes = [sentences[number - 1].text for number in numbers]
            quoted += len(quotes)
            if row[move] == " ".join(quotes):
                found += sum(quote in row["abstract"] for quote in quotes)
    return found, quoted


class PlainLoop:
    """The peer: the same file in the same runtime, one request after another, each a whole prose annotation.

    The model may not stop before 300 tokens. The runtime's defaults hold, so what two prompts begin with alike is kept.
    """

    def __init__(self, gguf: Path, context: int, *, chat: bool) -> None:
        self._child = Child(Load(str(gguf), context, slots=1, threads=physical_cores()))
        self._chat = chat

    def seconds(self, title: str, abstract: str) -> float:
        """Wall clock of one paper."""
        text = f"{INSTRUCTION}\n\nTitle: {title}\nAbstract: {abstract}\n"
        options = Options(max_tokens=PLAIN_TOKENS)
        request = Request(prompt=text, options=options)
        if self._chat:
            request = Request(messages=(Message("user", text),), options=options)
        op, body = completion(request, -1, stream=False)
        started = time.perf_counter()
        message = self._child.call(op, {**body, "ignore_eos": True}).wait()
        seconds = time.perf_counter() - started
        written = message.get("reply", {}).get("completion_tokens")
        if written != PLAIN_TOKENS:
            raise SystemExit(f"the plain loop got {written} tokens: {message.get('error')}")
        return seconds

    def rate(self, papers: Sequence[Mapping[str, str]]) -> float:
        """Papers per second, after one that warms it up."""
        self.seconds(papers[0]["title"], papers[0]["abstract"])
        return len(papers) / sum(self.seconds(paper["title"], paper["abstract"]) for paper in papers)

    def close(self) -> None:
        """End the runtime."""
        self._child.stop()


def median(values: Sequence[float]) -> float:
    """The middle of several measurements."""
    return float(statistics.median(values))


def span(values: Sequence[float], digits: int = 1) -> str:
    """``12.3 (11.9-12.6)``: the median, the least and the most."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"

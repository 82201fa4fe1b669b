"""Jobs in their own process: killed at random moments, interrupted, two at once on one journal."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from harness.jobs.journal import Journal

ROOT = Path(__file__).parents[1]
ROWS = 120
KEYS = 110  # the last rows repeat the first keys

# A job as a skill runs one: results reordered and written at the end; every start of work is noted as it happens.
JOB = f"""
import json, os, sys, time
from pathlib import Path
from harness.jobs.journal import Journal
from harness.jobs.runner import Cancelled, Item, run_batch

folder, workers, sleep = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
log = os.open(folder / "worked.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
journal = Journal(folder / "journal.db")

def work(item, cancel):
    state = "again" if journal.get(item.key) else "first"
    os.write(log, f"{{item.key}} {{state}}\\n".encode())
    if cancel.wait(sleep):
        raise Cancelled
    return {{"key": item.key, "square": item.payload ** 2}}

rows = {{}}
def on_done(index, outcome, cached):
    assert index not in rows
    rows[index] = outcome
    print(index, flush=True)

items = (Item(n, f"key-{{n % {KEYS}}}", n % {KEYS}) for n in range({ROWS}))
try:
    run_batch(items, work, journal=journal, workers=workers, on_done=on_done)
except KeyboardInterrupt:
    sys.exit(130)
(folder / "out.json").write_text(json.dumps([rows[n] for n in sorted(rows)]))
"""


def start(folder: Path, workers: int, sleep: float = 0.004) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", JOB, str(folder), str(workers), str(sleep)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(job: subprocess.Popen[bytes]) -> None:
    _, error = job.communicate(timeout=60)
    assert job.returncode == 0, error.decode()


def expected() -> list[dict[str, object]]:
    return [{"key": f"key-{n % KEYS}", "square": (n % KEYS) ** 2} for n in range(ROWS)]


def journaled(folder: Path) -> set[str]:
    with Journal(folder / "journal.db") as journal:
        return set(journal.get_many(f"key-{n}" for n in range(KEYS)))


@pytest.mark.parametrize("workers", [1, 3])
def test_killed_at_random_moments_then_resumed_equals_one_run(tmp_path: Path, workers: int) -> None:
    dice = random.Random(workers)
    before: set[str] = set()
    for _ in range(5):
        job = start(tmp_path, workers)
        assert job.stdout is not None
        for _ in range(dice.randrange(1, 8)):
            job.stdout.readline()
        time.sleep(dice.uniform(0, 0.03))
        job.kill()
        job.communicate()
        assert job.returncode == -signal.SIGKILL
        assert not (tmp_path / "out.json").exists()
        now = journaled(tmp_path)
        assert before <= now
        before = now
    assert 0 < len(before) < KEYS
    finish(start(tmp_path, workers))
    assert json.loads((tmp_path / "out.json").read_text()) == expected()

    starts = [line.split() for line in (tmp_path / "worked.log").read_text().splitlines()]
    assert all(state == "first" for _, state in starts), "a row was worked on after it was journaled"
    worked = Counter(key for key, _ in starts)
    assert set(worked) == {f"key-{n}" for n in range(KEYS)}
    assert sum(worked.values()) - KEYS <= 5 * workers, "more than the running rows were lost to a kill"


def test_control_c_ends_soon_and_leaves_a_resumable_job(tmp_path: Path) -> None:
    job = start(tmp_path, 2)
    assert job.stdout is not None
    told = {int(job.stdout.readline()) for _ in range(10)}
    job.send_signal(signal.SIGINT)
    started = time.monotonic()
    rest, error = job.communicate(timeout=30)
    assert (job.returncode, error) == (130, b"")
    assert time.monotonic() - started < 3
    told |= {int(line) for line in rest.split()}
    assert {f"key-{n % KEYS}" for n in told} <= journaled(tmp_path)
    assert len(journaled(tmp_path)) < KEYS
    finish(start(tmp_path, 2))
    assert json.loads((tmp_path / "out.json").read_text()) == expected()


def test_two_jobs_at_once_on_one_journal(tmp_path: Path) -> None:
    first, second = start(tmp_path, 2), start(tmp_path, 2)
    finish(first)
    finish(second)
    assert json.loads((tmp_path / "out.json").read_text()) == expected()
    assert len(journaled(tmp_path)) == KEYS

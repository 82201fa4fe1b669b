"""/annotate, its agent or its backend killed with kill -9: nothing lost, nothing doubled, nothing left behind."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from harness.config import ROOT
from tests.kill_job import Job, kill_and_resume

ROWS = 300
KILLS = 6

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.skipif(
        not (ROOT / "registry" / "nanda-annotator" / "mini.gguf").exists(),
        reason="the bundled model is not in this checkout",
    ),
]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """The job done in one run by one worker."""
    job = Job(tmp_path_factory.mktemp("kill") / "uninterrupted", ROWS, "--workers", "1")
    assert job.finish() == 0, job.errors()
    assert [record["id"] for record in job.records()] == [f"row-{number}" for number in range(ROWS)]
    assert {record["status"] for record in job.records()} == {"ok"}
    return job


def test_the_agent_killed_then_resumed_equals_one_run(uninterrupted: Job, tmp_path: Path) -> None:
    job = Job(tmp_path / "killed", ROWS, "--workers", "1")
    held = kill_and_resume(job, ROWS, KILLS, seed=1)
    assert 0 < held[-1] < ROWS
    assert job.result.read_bytes() == uninterrupted.result.read_bytes()
    assert job.journaled() == ROWS
    assert job.gone()
    assert "Traceback" not in job.errors()


def test_the_backend_killed_mid_batch_costs_no_row(uninterrupted: Job, tmp_path: Path) -> None:
    job = Job(tmp_path / "backend", 100, "--workers", "1")
    agent = job.start()
    for moment in (10, 45, 80):
        job.wait_for(agent, moment)
        assert job.kill_backend(agent)
    assert job.finish(agent) == 0, job.errors()
    assert job.records() == uninterrupted.records()[:100]
    assert job.gone()


def test_a_backend_that_keeps_dying_is_reported_and_its_rows_can_be_done_later(tmp_path: Path) -> None:
    job = Job(tmp_path / "dying", 40)
    agent = job.start()
    job.wait_for(agent, 1)
    while agent.poll() is None:
        job.kill_backend(agent)
        time.sleep(0.02)
    assert agent.returncode == 1
    records = job.records()
    assert [record["id"] for record in records] == [f"row-{number}" for number in range(40)]
    assert all("the embedded runtime" in record["error"] for record in records if record["status"] == "error")
    assert "error" in {record["status"] for record in records}
    assert "Traceback" not in job.errors()
    assert job.finish() == 0, job.errors()
    assert {record["status"] for record in job.records()} == {"ok"}

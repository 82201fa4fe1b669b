"""Progress: quiet for quick work, lines without a terminal, a bar on one."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from harness.jobs import progress
from harness.jobs.progress import Progress, Tally, duration


class Clock:
    """A monotonic clock that the test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr("harness.jobs.progress.time.monotonic", fake)
    return fake


def test_the_line_says_count_rate_rest_and_failures() -> None:
    assert Tally(445, done=123, failed=1).line("papers", 10) == "123/445 papers, 12.3/s, 26 s left, 1 failed"
    assert Tally(None, done=5).line("papers", 10) == "5 papers, 0.5/s"
    assert Tally(445).line("papers", 0) == "0/445 papers"


def test_cached_rows_do_not_flatter_the_rate() -> None:
    tally = Tally(200, done=110, cached=100)
    assert tally.rate(10) == 1
    assert tally.seconds_left(10) == 90
    assert tally.facts(10, per_minute=True) == ["60/min", "1 min 30 s left"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(26.4, "26 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_without_a_terminal_a_line_at_most_every_ten_seconds(clock: Clock) -> None:
    out = io.StringIO()
    with Progress(Console(file=out, width=20), 100) as shown:
        for n in range(50):
            clock.now += 0.5
            shown.advance(failed=n == 0)
    assert out.getvalue().splitlines() == [
        "  20/100 papers, 2.0/s, 40 s left, 1 failed",
        "  40/100 papers, 2.0/s, 30 s left, 1 failed",
    ]


def test_rows_that_are_over_together_count_together(clock: Clock) -> None:
    out = io.StringIO()
    with Progress(Console(file=out, width=20), 96) as shown:
        clock.now += 16
        shown.advance(32)
    assert out.getvalue() == "  32/96 papers, 2.0/s, 32 s left\n"


def test_quick_work_shows_nothing() -> None:
    for terminal in (False, True):
        out = io.StringIO()
        with Progress(Console(file=out, force_terminal=terminal), 3) as shown:
            for _ in range(3):
                shown.advance()
        assert out.getvalue() == ""


def test_on_a_terminal_a_bar_even_before_the_first_row_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.01)
    out = io.StringIO()
    with Progress(Console(file=out, force_terminal=True, color_system=None, width=100), 8) as shown:
        deadline = time.monotonic() + 5
        while "0/8" not in out.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "0/8 papers" in out.getvalue()
        shown.advance()
        shown.advance(failed=True)
    assert "2/8 papers" in out.getvalue()
    assert "1 failed" in out.getvalue()

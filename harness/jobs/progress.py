"""Progress of a batch on stderr: a bar on a terminal, a line now and then elsewhere, nothing for quick work."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console
    from rich.progress import Progress as Bar

QUIET_SECONDS = 1.0
"""Work that is over sooner shows nothing."""
LINE_SECONDS = 10.0
"""At most one line in this time where stderr is no terminal."""


@dataclass
class Tally:
    """Counts of a batch so far, and what follows from them."""

    total: int | None
    """Rows in all; None where it is not known."""
    done: int = 0
    """Rows that are over, the failed and cached ones included."""
    failed: int = 0
    cached: int = 0

    def rate(self, seconds: float) -> float:
        """Rows worked on per second; rows from the journal would only flatter it."""
        return (self.done - self.cached) / seconds if seconds > 0 else 0.0

    def seconds_left(self, seconds: float) -> float | None:
        """Estimate for the rows that remain; None where nothing can be said yet."""
        rate = self.rate(seconds)
        if self.total is None or rate == 0:
            return None
        return max(0, self.total - self.done) / rate

    def facts(self, seconds: float, *, per_minute: bool) -> list[str]:
        """Rate, time left and failures after ``seconds`` of work, each where there is something to say."""
        facts = []
        if rate := self.rate(seconds):
            facts.append(f"{60 * rate:.0f}/min" if per_minute else f"{rate:.1f}/s")
        if left := self.seconds_left(seconds):
            facts.append(f"{duration(left)} left")
        if self.failed:
            facts.append(f"{self.failed} failed")
        return facts

    def line(self, noun: str, seconds: float) -> str:
        """``120/445 papers, 12.3/s, 26 s left, 1 failed``."""
        count = f"{self.done}" if self.total is None else f"{self.done}/{self.total}"
        return ", ".join([f"{count} {noun}", *self.facts(seconds, per_minute=False)])


def duration(seconds: float) -> str:
    """``26 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """Context manager: ``with Progress(console, total) as progress: … progress.advance()``. Thread-safe.

    ``console`` writes to stderr.
    """

    def __init__(self, console: Console, total: int | None, noun: str = "papers") -> None:
        self._console = console
        self._noun = noun
        self._tally = Tally(total)
        self._lock = threading.Lock()
        self._bar: Bar | None = None
        self._timer: threading.Timer | None = None
        self._over = False
        self._started = self._last_line = time.monotonic()

    def __enter__(self) -> Progress:
        self._started = self._last_line = time.monotonic()
        if self._console.is_terminal:
            # A timer, because the first row alone may take long and the bar should show meanwhile.
            self._timer = threading.Timer(QUIET_SECONDS, self._show_bar)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._over = True
            if self._bar is not None:
                self._bar.stop()

    def advance(self, count: int = 1, *, failed: bool = False, cached: bool = False) -> None:
        """One row is over, or ``count`` of them at once."""
        with self._lock:
            self._tally.done += count
            self._tally.failed += count * failed
            self._tally.cached += count * cached
            if self._bar is not None:
                self._update(self._bar)
            elif not self._console.is_terminal:
                self._print_line()

    def _print_line(self) -> None:
        now = time.monotonic()
        if now - self._last_line >= LINE_SECONDS:
            self._last_line = now
            line = self._tally.line(self._noun, now - self._started)
            self._console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)

    def _show_bar(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        with self._lock:
            if self._over:
                return
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
            self._bar = Bar(*columns, console=self._console, transient=True)
            self._bar.add_task(self._noun, total=self._tally.total)
            self._update(self._bar)
            self._bar.start()

    def _update(self, bar: Bar) -> None:
        facts = self._tally.facts(time.monotonic() - self._started, per_minute=True)
        description = " · ".join([self._noun, *facts])
        bar.update(bar.task_ids[0], completed=self._tally.done, description=description)

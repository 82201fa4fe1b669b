"""A progress bar on stderr for steps of the road that take more than a moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def counting(total: int | None, noun: str) -> Iterator[Callable[[], None]]:
    """A function to call after each piece of work; the bar has an estimate of the time left where ``total`` is known."""
    from rich.console import Console

    from harness.jobs.progress import Progress

    with Progress(Console(stderr=True), total, noun) as progress:
        yield progress.advance

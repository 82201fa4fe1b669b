"""Shows an answer on stderr while it is written; the finished one goes to stdout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from harness.models.base import OnText

FRAMES_PER_SECOND = 6
LINES = 12
"""The last lines of the growing answer that are shown."""


@contextmanager
def streaming(console: Console, wanted: bool) -> Iterator[OnText | None]:
    """The function that takes the pieces of the answer; None where nobody would see them."""
    if not wanted or not console.is_terminal:
        yield None
        return
    from rich.live import Live

    pieces: list[str] = []
    with Live(console=console, transient=True, refresh_per_second=FRAMES_PER_SECOND) as live:

        def on_text(piece: str) -> None:
            pieces.append(piece)
            live.update(_tail("".join(pieces), console.width))

        yield on_text


def _tail(text: str, width: int) -> Text:
    """The end of a text, as many lines as are shown, without what could move the cursor."""
    from rich.text import Text

    from harness.console import clean

    return Text(clean(text)[-LINES * max(20, width) :], style="dim")

"""Shows a chat reply while it comes, and once, whole, as Markdown when it is there.

On a terminal the growing reply is a transient ``rich.Live`` (no prompt is up meanwhile: the two must never meet);
where the output is a file or a pipe the pieces are written as plain text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from rich.live import Live
from rich.markdown import Markdown
from rich.segment import Segment

from harness.console import clean

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from harness.models.base import OnText
    from harness.skills import Outcome

FRAMES_PER_SECOND = 6
"""Each frame lays the whole reply out again; more would take the cores from the model."""


class _Tail:
    """The last lines of the reply so far, as many as the terminal holds."""

    def __init__(self, pieces: list[str]) -> None:
        self._pieces = pieces

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        reply = Markdown(clean("".join(self._pieces)), hyperlinks=False)
        lines = console.render_lines(reply, options.update(no_wrap=False, overflow=None), pad=False)
        for line in lines[-max(1, console.height - 1) :]:
            yield from line
            yield Segment.line()


def show_reply(out: Console, ask: Callable[[OnText], Outcome]) -> Outcome:
    """Run ``ask`` with the function that takes the pieces of its reply, and show the reply.

    What has come is shown even when ``ask`` raises (an error, KeyboardInterrupt); the exception goes on.
    """
    pieces: list[str] = []
    whole = ""
    try:
        if out.is_terminal:
            with Live(_Tail(pieces), console=out, transient=True, refresh_per_second=FRAMES_PER_SECOND):
                outcome = ask(pieces.append)
        else:
            outcome = ask(lambda piece: _write(out, pieces, piece))
        whole = outcome.text
    finally:
        text = whole or "".join(pieces)
        if text and out.is_terminal:
            out.print(Markdown(clean(text), hyperlinks=False), soft_wrap=False)
        elif text:
            out.file.write("\n" if pieces else clean(text) + "\n")
            out.file.flush()
    return outcome


def _write(out: Console, pieces: list[str], piece: str) -> None:
    pieces.append(piece)
    out.file.write(clean(piece))
    out.file.flush()

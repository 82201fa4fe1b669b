from __future__ import annotations

import io

import pytest
from rich.console import Console

from harness.errors import InputError
from harness.models.base import OnText
from harness.repl_reply import show_reply
from harness.skills import Outcome


def stream(out: Console, *pieces: str) -> None:
    def ask(on_text: OnText) -> Outcome:
        for piece in pieces:
            on_text(piece)
        return Outcome(text="".join(pieces))

    show_reply(out, ask)


def test_a_piped_reply_is_plain_text_without_escape_codes() -> None:
    out = Console(file=io.StringIO())
    stream(out, "a **bo", "ld** claim\x1b", "[31m")
    assert out.file.getvalue() == "a **bold** claim[31m\n"  # type: ignore[attr-defined]


def test_a_reply_on_a_terminal_ends_as_markdown() -> None:
    out = Console(file=io.StringIO(), force_terminal=True, width=60, height=10, color_system=None)
    stream(out, *(f"- item {number}\n" for number in range(40)), "a **bold** \x1b]0;title\x07claim")
    shown = out.file.getvalue()  # type: ignore[attr-defined]
    end = shown[shown.rindex("item 0") :]
    assert "item 39" in end
    assert "a bold claim" in end
    assert "title" not in shown


def test_a_reply_that_fails_shows_what_has_come() -> None:
    def ask(on_text: OnText) -> Outcome:
        on_text("so far")
        raise InputError("the daemon is gone")

    out = Console(file=io.StringIO())
    with pytest.raises(InputError):
        show_reply(out, ask)
    assert out.file.getvalue() == "so far\n"  # type: ignore[attr-defined]


def test_the_whole_reply_counts_where_pieces_came_twice() -> None:
    def ask(on_text: OnText) -> Outcome:
        on_text("a rep")  # the connection broke here and the request was sent again
        on_text("a reply")
        return Outcome(text="a reply")

    out = Console(file=io.StringIO(), force_terminal=True, width=60, color_system=None)
    show_reply(out, ask)
    last = out.file.getvalue().rsplit("\x1b", 1)[-1]  # type: ignore[attr-defined]
    assert "a reply" in last
    assert "a repa" not in last

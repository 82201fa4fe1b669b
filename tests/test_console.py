"""What reaches stdout and the terminal, and what is read from standard input."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from harness import console
from harness.errors import InputError
from harness.skills import Outcome


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("dirty", "plain"),
    [
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("a\x1b]0;title\x07b\x1b]52;c;ZXZpbA==\x1b\\c", "abc"),
        ("\x9b31mx\x9d0;t\x9cy", "xy"),
        ("\x1bcreset", "reset"),
        ("tab\tline\r\nnext\rover\x08\x7f\x00", "tab\tline\nnextover"),
        ("user\u202etxt.exe\u2066", "usertxt.exe"),
        ("\x1b]unterminated text", "unterminated text"),
        ("naïve 中文 😀 a\u200db", "naïve 中文 😀 a\u200db"),
    ],
)
def test_clean(dirty: str, plain: str) -> None:
    assert console.clean(dirty) == plain


def test_clean_takes_linear_time() -> None:
    assert len(console.clean("\x1b]" * 200_000)) <= 200_000


def test_json_line_is_lossless_and_harmless() -> None:
    record = {"text": "\x1b[2J\x9b1m\u202e\x7fé\n"}
    line = console.json_line(record)
    assert console.clean(line) == line
    assert "é" in line
    assert json.loads(line) == record


def test_piped_text_is_raw_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_outcome(Outcome(text="# Title\n\n**bold**\x1b[2J\n"), as_json=False)
    assert capsys.readouterr() == ("# Title\n\n**bold**\n", "")


def test_terminal_text_is_rendered_and_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    console.show_outcome(Outcome(text="**bold** \x1b]0;owned\x07 text"), as_json=False)
    assert "bold" in terminal.getvalue()
    assert "**" not in terminal.getvalue()
    assert "owned" not in terminal.getvalue()


def test_saved_files_leave_stdout_to_json(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Outcome(text="table", records=[{"a": 1}, {"a": 2}], saved=["out.csv"])
    console.show_outcome(outcome, as_json=False)
    assert capsys.readouterr().out == ""
    console.show_outcome(outcome, as_json=True)
    assert capsys.readouterr().out == '{"a": 1}\n{"a": 2}\n'


def test_messages_are_data_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    console.stderr_console().print("[bold]a[/b] :smile: \x1b]0;t\x07" + "long " * 60)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("[bold]a[/b] :smile: long long")
    assert err.count("\n") == 1


def test_table_for_programs_and_for_people(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    console.show_table(("id", "task"), [("1", "a\tb\nc\x1b[2J")])
    assert capsys.readouterr().out == "id\ttask\n1\ta b c\n"
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    console.show_table(("id", "task"), [("1", "[red]x\x1b[2J")])
    assert "[red]x" in terminal.getvalue()
    assert "\x1b[2J" not in terminal.getvalue()


def stdin_of(data: bytes, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    file = folder / "stdin"
    file.write_bytes(data)
    monkeypatch.setattr(sys, "stdin", open(file, encoding="utf-8"))  # noqa: SIM115


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"caf\xc3\xa9", "café"),
        (b"\xef\xbb\xbfx", "x"),
        (b"caf\xe9", "café"),
        ("né".encode("utf-16"), "né"),
        (b"", None),
        (b" \n", None),
    ],
)
def test_stdin_is_decoded(data: bytes, text: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stdin_of(data, monkeypatch, tmp_path)
    assert console.read_stdin() == text


def test_stdin_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stdin_of(b"x" * 1001, monkeypatch, tmp_path)
    with pytest.raises(InputError, match="standard input"):
        console.read_stdin(limit=1000)


def test_no_stdin_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("typed"))
    assert console.read_stdin() is None

"""The REPL in a real terminal: tmux types with send-keys and reads the screen back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = """
import time
from harness.config import Settings
from harness.console import stderr_console
from harness.repl import run_repl
from harness.skills import Outcome
from harness.task import parse_task

class Skill:
    name, description, triggers, flags, example = "annotate", "Eight moves of an abstract.", (), (), ""

class Session:
    settings, skills = Settings(), (Skill(),)
    def run(self, text, *, stdin=None, interactive=True):
        return Outcome(text=f"ran {text!r}")
    def chat(self, text, on_text, cancel):
        stderr_console().print("model: tiny, the only one")
        words = (f"- **word{number}**\\n" for number in range(10_000 if text == "forever" else 60))
        for word in words:
            on_text(word)
            if cancel.wait(0.02):
                break
        return Outcome()
    def parse(self, text):
        return parse_task(text, self.skills)
    def status(self):
        return {"model": "tiny", "backend": "embedded", "context_used": 10, "context": 2048}
    def clear(self):
        pass

print("left with", int(run_repl(Session(), lambda: time.sleep(3600))))
"""


class Terminal:
    """A tmux session of 80 × 24 that runs one command."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self._socket = tempfile.TemporaryDirectory()  # short: a socket's path holds about 100 characters
        self._tmux = ["tmux", "-S", f"{self._socket.name}/tmux", "-f", os.devnull]
        settings = [part for name, value in environment.items() for part in ("-e", f"{name}={value}")]
        size = ["-x", "80", "-y", "24"]
        self._run("new-session", "-d", "-s", "repl", *size, "-c", str(folder), *settings, *command)
        self._run("set-option", "-g", "remain-on-exit", "on")

    def _run(self, *arguments: str, text: str | None = None) -> str:
        command = [*self._tmux, *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, timeout=20, check=True).stdout

    def keys(self, *keys: str) -> None:
        """Press keys by tmux's names for them; anything else is typed."""
        self._run("send-keys", "-t", "repl", *keys)

    def paste(self, text: str) -> None:
        """A bracketed paste."""
        self._run("load-buffer", "-", text=text)
        self._run("paste-buffer", "-p", "-t", "repl")

    def screen(self, scrollback: int = 0) -> str:
        return self._run("capture-pane", "-p", "-t", "repl", "-S", str(-scrollback))

    def wait_for(self, text: str, seconds: float = 30) -> str:
        """The screen as soon as it holds ``text``."""
        deadline = time.monotonic() + seconds
        while text not in (screen := self.screen()):
            assert time.monotonic() < deadline, f"{text!r} never came:\n{screen}"
            time.sleep(0.1)
        return screen

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], capture_output=True, timeout=20, check=False)
        self._socket.cleanup()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed")
    script = tmp_path / "session.py"
    script.write_text(SCRIPT, encoding="utf-8")
    environment = {"PYTHONPATH": str(ROOT), "MARGINALIA_HOME": str(tmp_path / "home"), "LC_ALL": "C.UTF-8"}
    terminal = Terminal([sys.executable, str(script)], tmp_path, environment)
    yield terminal
    terminal.close()


def test_a_session_in_a_real_terminal(terminal: Terminal) -> None:
    terminal.wait_for("tiny · embedded · context 10 of 2,048 · ready")
    terminal.keys("/an")
    terminal.wait_for("Eight moves of an abstract.")
    terminal.keys("Tab")
    terminal.wait_for("› /annotate")
    terminal.keys(" a.csv", "M-Enter", "b.csv", "Enter")
    assert "'/annotate a.csv\\nb.csv'" in terminal.wait_for("/annotate done after")
    terminal.paste("/annotate one\ntwo")
    terminal.wait_for("two")
    terminal.keys("Enter")
    terminal.wait_for(r"ran '/annotate one\ntwo'")

    terminal.keys("hello", "Enter")
    terminal.wait_for("reply done after")
    everything = terminal.screen(scrollback=200)
    assert [everything.count(f"• word{number}\n") for number in (0, 30, 59)] == [1, 1, 1]
    assert "**" not in everything
    assert everything.count("model: tiny, the only one\n") == 1

    terminal.keys("forever", "Enter")
    terminal.wait_for("• word7")
    terminal.keys("C-c")
    terminal.wait_for("Stopped.")
    terminal.wait_for("reply stopped after")

    terminal.keys("/cl")
    terminal.wait_for("forget the conversation")
    terminal.keys("Tab", "Enter", "er")  # this Enter takes the choice from the menu
    terminal.wait_for("› /clearer")
    terminal.keys("C-c")

    terminal.keys("/model ", "Tab", "Enter")  # the daemon of this session never answers; the prompt does
    terminal.wait_for("chosen for each task", seconds=10)
    terminal.keys("some text", "C-c", "C-c")
    terminal.wait_for("Ctrl-C once more leaves.")
    terminal.keys("C-c")
    terminal.wait_for("left with 0")

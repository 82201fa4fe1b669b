from __future__ import annotations

import signal
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from harness.config import Settings
from harness.errors import Exit, InputError
from harness.models.base import OnText
from harness.repl import open_history, run_repl, toolbar
from harness.skills import Outcome
from harness.task import Flag, Task, parse_task

ENTER, ALT_ENTER, CTRL_C, CTRL_D, TAB = "\r", "\x1b\r", "\x03", "\x04", "\t"


@dataclass
class StubSkill:
    name: str
    description: str
    flags: tuple[Flag, ...] = ()
    triggers: tuple[str, ...] = ()
    example: str = "/annotate papers.csv save to out.csv"


@dataclass
class StubSession:
    """A session without a model: it notes what it is asked and answers as told."""

    settings: Settings = field(default_factory=Settings)
    work: Callable[[str], Outcome] = lambda text: Outcome(text=f"did {text}")
    reply: Callable[[str, OnText, threading.Event], Outcome] = lambda text, on_text, cancel: Outcome(text="well")
    asked: list[str] = field(default_factory=list)
    cleared: int = 0
    skills: tuple[StubSkill, ...] = (
        StubSkill(
            "annotate",
            "Eight moves of an abstract.",
            (Flag("style", "how the moves are written", "STYLE", ("quote", "prose")),),
            ("annotate these",),
        ),
        StubSkill("ask", "Questions about papers."),
    )

    def run(self, text: str, *, stdin: str | None = None, interactive: bool = True) -> Outcome:
        self.asked.append(f"run {text}")
        return self.work(text)

    def chat(self, text: str, on_text: OnText, cancel: threading.Event) -> Outcome:
        self.asked.append(f"chat {text}")
        return self.reply(text, on_text, cancel)

    def parse(self, text: str) -> Task:
        return parse_task(text, self.skills)

    def status(self) -> dict[str, Any]:
        return {"model": "qwen3:8b", "backend": "ollama", "context_used": 1234, "context": 8192}

    def clear(self) -> None:
        self.cleared += 1


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def type_keys() -> Iterator[Callable[[StubSession, str], int]]:
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):

        def run(session: StubSession, text: str) -> int:
            keys.send_text(text)
            return run_repl(session, lambda: {"qwen3:8b": "ollama, 8B", "llama3.2:3b": "ollama"})

        yield run


Type = Callable[[StubSession, str], int]


# --- leaving ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [CTRL_D, CTRL_C + CTRL_C, "/quit" + ENTER, "/exit" + ENTER])
def test_leaving(type_keys: Type, keys: str) -> None:
    session = StubSession()
    assert type_keys(session, keys) == 0
    assert session.asked == []


def test_ctrl_c_clears_the_line_and_then_takes_two_to_leave(type_keys: Type) -> None:
    session = StubSession()
    assert type_keys(session, CTRL_C + "/ask x" + CTRL_C + CTRL_C + "/ask y" + ENTER + CTRL_C + CTRL_C) == 0
    assert session.asked == ["run /ask y"]


# --- input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        f"/ask one{ALT_ENTER}two{ENTER}",
        f"/ask one\\{ENTER}two{ENTER}",
        f"\x1b[200~/ask one\ntwo\x1b[201~{ENTER}",
    ],
)
def test_multi_line_input_is_one_input(type_keys: Type, keys: str) -> None:
    session = StubSession()
    type_keys(session, keys + CTRL_D)
    assert session.asked == ["run /ask one\ntwo"]


def test_a_paste_of_many_lines_waits_for_enter(type_keys: Type) -> None:
    session = StubSession()
    type_keys(session, "\x1b[200~an abstract\nof two lines\n\x1b[201~" + CTRL_C + CTRL_D)
    assert session.asked == []


def test_nothing_is_done_for_an_empty_line(type_keys: Type) -> None:
    session = StubSession()
    type_keys(session, ENTER + "   " + ENTER + CTRL_D)
    assert session.asked == []


def test_bytes_that_are_not_utf_8_do_no_harm() -> None:
    session = StubSession()
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_bytes(b"/ask caf\xe9\r/ask two\r\x04")
        assert run_repl(session, dict) == 0
    assert session.asked == ["run /ask caf?", "run /ask two"]


# --- what the input is for -------------------------------------------------------------------------------------------


def test_skills_run_and_plain_text_goes_to_the_chat_model(type_keys: Type, capsys: pytest.CaptureFixture[str]) -> None:
    session = StubSession()
    lines = ["/annotate a.csv", "annotate these papers: a.csv", "what is a claim?", "papers/ask/x.csv"]
    type_keys(session, ENTER.join(lines) + ENTER + CTRL_D)
    assert session.asked == [
        "run /annotate a.csv",
        "run annotate these papers: a.csv",
        "chat what is a claim?",
        "chat papers/ask/x.csv",
    ]
    out = capsys.readouterr().out
    assert "did /annotate a.csv\n" in out
    assert out.count("well") == 2


def test_an_unknown_command_names_the_nearest(type_keys: Type, capsys: pytest.CaptureFixture[str]) -> None:
    session = StubSession()
    type_keys(session, f"/anotate x{ENTER}/modles{ENTER}/zzz{ENTER}{CTRL_D}")
    assert session.asked == []
    err = capsys.readouterr().err
    assert "error: unknown command /anotate; did you mean /annotate?" in err
    assert "/models" in err
    assert "error: unknown command /zzz; /help lists them all" in err


def test_json_prints_the_records_of_skills_and_replies(type_keys: Type, capsys: pytest.CaptureFixture[str]) -> None:
    session = StubSession(
        settings=Settings(json=True),
        work=lambda text: Outcome(text="for people", records=[{"id": "1"}]),
        reply=lambda text, on_text, cancel: Outcome(text="hi", records=[{"text": "hi"}]),
    )
    type_keys(session, f"/ask x{ENTER}hello{ENTER}{CTRL_D}")
    assert capsys.readouterr().out == '{"id": "1"}\n{"text": "hi"}\n'


# --- stopping and failing --------------------------------------------------------------------------------------------


def test_ctrl_c_stops_the_reply_only(type_keys: Type, capsys: pytest.CaptureFixture[str]) -> None:
    def reply(text: str, on_text: OnText, cancel: threading.Event) -> Outcome:
        on_text("half a")
        if text == "stop":
            signal.raise_signal(signal.SIGINT)
            assert cancel.wait(5)
        return Outcome(text="half a")

    session = StubSession(reply=reply)
    assert type_keys(session, f"stop{ENTER}go on{ENTER}{CTRL_D}") == 0
    assert session.asked == ["chat stop", "chat go on"]
    shown = capsys.readouterr()
    assert shown.out == "half a\nhalf a\n"
    assert shown.err.count("Stopped.") == 1


def test_a_second_ctrl_c_breaks_off_a_reply_that_does_not_end(type_keys: Type, capsys: pytest.CaptureFixture[str]) -> None:
    def reply(text: str, on_text: OnText, cancel: threading.Event) -> Outcome:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not reached")

    handler = signal.getsignal(signal.SIGINT)
    assert type_keys(StubSession(reply=reply), f"stop{ENTER}{CTRL_D}") == 0
    assert "Stopped." in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_stops_a_skill(type_keys: Type, capsys: pytest.CaptureFixture[str]) -> None:
    def work(text: str) -> Outcome:
        if text == "/ask one":
            signal.raise_signal(signal.SIGINT)
        return Outcome(text="went through")

    assert type_keys(StubSession(work=work), f"/ask one{ENTER}/ask two{ENTER}{CTRL_D}") == 0
    shown = capsys.readouterr()
    assert shown.err.count("Stopped.") == 1
    assert shown.out == "went through\n"


def test_an_error_is_one_line_and_the_session_goes_on(
    type_keys: Type, capsys: pytest.CaptureFixture[str], data_folder: Path
) -> None:
    def work(text: str) -> Outcome:
        if text == "/ask one":
            raise InputError("a.csv: row 3 has no \x1b[31mabstract", "name the column")
        return Outcome(text="fine")

    session = StubSession(work=work)
    type_keys(session, f"/ask one{ENTER}/ask two{ENTER}{CTRL_D}")
    shown = capsys.readouterr()
    assert "error: a.csv: row 3 has no abstract; name the column\n" in shown.err
    assert shown.out == "fine\n"
    assert not (data_folder / "crash.log").exists()


def test_a_bug_is_one_line_and_a_crash_log(type_keys: Type, capsys: pytest.CaptureFixture[str], data_folder: Path) -> None:
    def work(text: str) -> Outcome:
        raise RuntimeError("boom\nin two lines")

    session = StubSession(work=work)
    assert type_keys(session, f"/ask one{ENTER}/ask two{ENTER}{CTRL_D}") == 0
    assert len(session.asked) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "this is a bug in marginalia (RuntimeError: boom in two lines); please report it" in err
    assert str(data_folder / "crash.log") in err
    assert "RuntimeError: boom" in (data_folder / "crash.log").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("work", "end"),
    [
        (lambda text: Outcome(), "done"),
        (lambda text: Outcome(exit=Exit.FAILED), "done in part"),
        (lambda text: Outcome(exit=Exit.INTERRUPTED), "stopped"),
        (lambda text: signal.raise_signal(signal.SIGINT), "stopped"),
        (lambda text: [][0], "failed"),
    ],
)
def test_the_toolbar_says_how_the_last_job_ended(
    type_keys: Type, monkeypatch: pytest.MonkeyPatch, work: Callable[[str], Outcome], end: str
) -> None:
    jobs: list[str] = []

    def note(status: dict[str, Any], job: str) -> str:
        jobs.append(job)
        return job

    monkeypatch.setattr("harness.repl.toolbar", note)
    type_keys(StubSession(work=work), f"/ask one{ENTER}{CTRL_D}")
    assert jobs[0] == "ready"
    assert jobs[1].startswith(f"/ask {end} after ")


# --- built-in commands -----------------------------------------------------------------------------------------------


def shown_for(type_keys: Type, capsys: pytest.CaptureFixture[str], *lines: str, session: StubSession) -> str:
    type_keys(session, "".join(line + ENTER for line in lines) + CTRL_D)
    return capsys.readouterr().out


def test_help_names_commands_and_skills(type_keys: Type, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown_for(type_keys, capsys, "/help", session=StubSession())
    for part in ("/help [SKILL]", "/model NAME", "/history [N]", "/quit", "/annotate", "Eight moves of an abstract."):
        assert part in out


def test_help_of_a_skill_shows_its_flags(type_keys: Type, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown_for(type_keys, capsys, "/help annotate", "/help /annotate", session=StubSession())
    assert out.count("Eight moves of an abstract.") == 2
    assert "--style quote|prose" in out
    assert "how the moves are written" in out
    assert "example: /annotate papers.csv save to out.csv" in out


def test_help_of_nothing_known(type_keys: Type, capsys: pytest.CaptureFixture[str]) -> None:
    type_keys(StubSession(), f"/help anotate{ENTER}{CTRL_D}")
    assert "did you mean /annotate?" in capsys.readouterr().err


def test_skills_lists_them(type_keys: Type, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown_for(type_keys, capsys, "/skills", session=StubSession())
    assert "/annotate" in out
    assert "Questions about papers." in out


def test_model_is_set_for_tasks_and_chat(type_keys: Type, capsys: pytest.CaptureFixture[str]) -> None:
    session = StubSession()
    out = shown_for(type_keys, capsys, "/model llama3.2:3b", "/models", "/model", session=session)
    assert (session.settings.model, session.settings.chat_model) == ("llama3.2:3b", "llama3.2:3b")
    assert "in use" in next(line for line in out.splitlines() if line.startswith("llama3.2:3b"))
    shown_for(type_keys, capsys, "/model auto", session=session)
    assert session.settings.model == ""


def test_a_model_that_is_not_here_is_said(type_keys: Type, capsys: pytest.CaptureFixture[str]) -> None:
    session = StubSession()
    out = shown_for(type_keys, capsys, "/model qwen3:9b", session=session)
    assert "not among the models here; did you mean qwen3:8b?" in " ".join(out.split())
    assert session.settings.model == "qwen3:9b"


def test_history_shows_the_last_inputs_of_all_sessions(type_keys: Type, capsys: pytest.CaptureFixture[str]) -> None:
    session = StubSession()
    shown_for(type_keys, capsys, "/ask one", "/ask two", session=session)
    out = shown_for(type_keys, capsys, "/history 2", session=session)
    assert [line.rstrip().split(None, 1) for line in out.splitlines()] == [["2", "/ask two"], ["3", "/history 2"]]
    type_keys(session, f"/history x{ENTER}{CTRL_D}")
    assert "error: /history x: not a number" in capsys.readouterr().err


def test_clear_forgets_the_conversation(type_keys: Type) -> None:
    session = StubSession()
    type_keys(session, f"/clear{ENTER}{CTRL_D}")
    assert session.cleared == 1


# --- history file and toolbar ----------------------------------------------------------------------------------------


def test_the_history_is_kept_for_the_user_alone(type_keys: Type, data_folder: Path) -> None:
    type_keys(StubSession(), f"/ask one{ALT_ENTER}two{ENTER}{CTRL_D}")
    path = data_folder / "history"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(open_history(path).load_history_strings()) == ["/ask one\ntwo"]


def test_the_history_keeps_no_passwords(type_keys: Type, data_folder: Path) -> None:
    type_keys(StubSession(), f"/ask --password swordfish why?{ENTER}{CTRL_D}")
    assert list(open_history(data_folder / "history").load_history_strings()) == ["/ask --password *** why?"]


def test_a_history_that_cannot_be_written_is_kept_in_memory(
    type_keys: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "file" / "below"))
    session = StubSession()
    type_keys(session, f"/ask one{ENTER}{CTRL_D}")
    assert session.asked == ["run /ask one"]


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (
            {"model": "qwen3:8b", "backend": "ollama", "context_used": 1234, "context": 8192},
            " qwen3:8b · ollama · context 1,234 of 8,192 · /ask done after 0.1 s",
        ),
        ({"model": "", "backend": "", "context_used": 0, "context": 0}, " no model yet · /ask done after 0.1 s"),
        ({"model": "x\x1b[31m", "backend": None}, " x · /ask done after 0.1 s"),
    ],
)
def test_toolbar(status: dict[str, Any], line: str) -> None:
    assert toolbar(status, "/ask done after 0.1 s") == line

"""A session: tasks, the conversation, skills without code, standard input, the log."""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path

import pytest
from ollama_server import OllamaServer

from harness import log
from harness.chat import Chat, notes
from harness.config import Settings
from harness.errors import ContextOverflow, Exit, InputError, MarginaliaError, NoModelError, UsageError
from harness.models.base import Message, ModelInfo, OnText, Reply, Request
from harness.session import Session
from harness.trust import trust


class Echo:
    """A model that answers with the number of messages it got and counts words as tokens."""

    slots = 1

    def __init__(self, context: int = 0) -> None:
        self.info = ModelInfo("echo:latest", "ollama", "sha256:0", context)
        self.requests: list[Request] = []
        self.reserved: list[int] = []
        self.closed = False

    def reserve(self, tokens: int) -> None:
        self.reserved.append(tokens)

    def generate(self, request: Request, *, on_text: OnText | None = None, cancel: threading.Event | None = None) -> Reply:
        self.requests.append(request)
        text = f"{len(request.messages)} messages"
        if on_text:
            on_text(text)
        return Reply(text, "length" if "long" in request.messages[-1].content else "stop", 5, 2, 0.1)

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def close(self) -> None:
        self.closed = True


SKILL = "---\nname: {name}\ndescription: Does. Use it.\n{more}---\n{body}\n"
CODE = """from harness.errors import InputError
from harness.skills import Outcome
from harness.task import Flag
FLAGS = (Flag("mode", "how", choices=("stdin", "fail", "stop", "other")),)
def run(task, context):
    mode = task.flags.get("mode")
    if mode == "fail":
        raise InputError("papers.csv: row 3 is empty", "fill it")
    if mode == "stop":
        raise KeyboardInterrupt
    if mode == "other":
        return context.skill("kind").run(task, context)
    context.console.print("working [on] it")
    piped = context.stdin if mode == "stdin" else ""
    return Outcome(text=f"{task.text}|{piped}|{context.interactive}", records=[{"text": task.text}], exit=1)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a skill that has code (trusted) and one that is an instruction."""
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name, more, code in (("kind", "", ""), ("test", "metadata:\n  marginalia-triggers: 'test *'\n", CODE)):
        folder = tmp_path / "home/skills" / name
        folder.mkdir(parents=True)
        (folder / "SKILL.md").write_text(SKILL.format(name=name, more=more, body="Be kind."))
        if code:
            (folder / "skill.py").write_text(code)
            trust(folder, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> Echo:
    model = Echo()
    monkeypatch.setattr(Session, "open_model", lambda self, task, *, general=False: model)
    return model


def unreadable() -> str | None:
    raise AssertionError("standard input was read though nobody asked for it")


def test_task_runs_its_skill_and_is_logged(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = Session(Settings()).run("/test a.csv", stdin=unreadable, interactive=False)
    assert (outcome.text, outcome.exit) == ("a.csv||False", 1)
    (entry,) = log.read(home, 9)
    assert (entry.task, entry.skill, entry.exit) == ("/test a.csv", "test", 1)
    assert capsys.readouterr() == ("", "working [on] it\n")


def test_stdin_is_read_when_the_skill_looks(home: Path) -> None:
    session = Session(Settings(log=False))
    assert session.run("/test --mode stdin x", stdin=lambda: "piped").text == "x|piped|True"
    assert session.run("/test --mode stdin x", stdin="text").text == "x|text|True"
    assert session.run("/test --mode stdin x").text == "x|None|True"
    assert log.read(home, 9) == []


def test_failures_and_interrupts_are_logged_with_their_exit(home: Path) -> None:
    session = Session(Settings())
    with pytest.raises(InputError):
        session.run("/test --mode fail")
    with pytest.raises(KeyboardInterrupt):
        session.run("/test --mode stop")
    with pytest.raises(UsageError):
        session.run("/nothing")
    assert [entry.exit for entry in log.read(home, 9)] == [1, 130, 2]
    assert log.get(home, 1).details == {"error": "papers.csv: row 3 is empty; fill it"}


def test_trigger_says_why(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Session(Settings(log=False)).run("Test this").text == "this||True"
    assert capsys.readouterr().err.startswith('/test: the task begins like "test *"\n')


def test_untrusted_code_is_refused_before_its_flags_matter(home: Path) -> None:
    (home / "trust.json").unlink()
    with pytest.raises(UsageError, match="not trusted"):
        Session(Settings(log=False)).run("/test --mode stdin x")


def test_a_broken_log_is_told_once_and_stops_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / log.FILE).write_bytes(b"damaged" * 999)
    session = Session(Settings())
    assert session.run("/test a").text == session.run("/test a").text == "a||True"
    assert capsys.readouterr().err.count("warning: this run is not logged") == 1


def test_skill_without_code_is_a_system_instruction(home: Path, echo: Echo) -> None:
    outcome = Session(Settings()).run("/kind hello", stdin="piped")
    (request,) = echo.requests
    assert request.messages == (
        Message("system", '<skill_content name="kind">\nBe kind.\n</skill_content>'),
        Message("user", "hello\n\npiped"),
    )
    assert outcome.text == "2 messages"
    entry = log.get(home, 1)
    assert (entry.skill, entry.model, entry.backend, entry.digest) == ("kind", "echo:latest", "ollama", "sha256:0")
    assert (entry.prompt_tokens, entry.completion_tokens, entry.context_used) == (5, 2, 7)


def test_a_run_that_failed_names_its_model_in_the_log(home: Path, server: OllamaServer) -> None:
    with pytest.raises(ContextOverflow):
        Session(Settings(ollama_host=server.url)).run(f"/kind {'word ' * 5000}")
    entry = log.get(home, 1)
    assert (entry.model, entry.backend, entry.exit) == ("tiny:latest", "ollama", 1)
    assert entry.digest.startswith("sha256:")


def test_verbose_tells_model_tokens_and_time(home: Path, echo: Echo, capsys: pytest.CaptureFixture[str]) -> None:
    Session(Settings(verbose=True)).run("/kind hello")
    err = " ".join(capsys.readouterr().err.split())
    assert "echo:latest (sha256:0): 5 tokens read, 2 written, largest request 7 tokens, 0." in err


def test_skill_without_code_saves_markdown_and_nothing_else(home: Path, echo: Echo) -> None:
    session = Session(Settings(log=False))
    assert session.run("/kind hello save to out.md").saved == ["out.md"]
    assert Path("out.md").read_text() == "2 messages\n"
    for wrong in ("/kind hello save to out.md", "/kind hello save to out.csv", "/kind", "/kind x save to ../x.md"):
        with pytest.raises(UsageError):
            session.run(wrong)
    assert len(echo.requests) == 1


def test_one_skill_calls_another(home: Path, echo: Echo) -> None:
    assert Session(Settings(log=False)).run("/test --mode other x").text == "2 messages"


def test_conversation_goes_on_until_cleared(home: Path, echo: Echo, capsys: pytest.CaptureFixture[str]) -> None:
    session = Session(Settings())
    pieces: list[str] = []
    assert session.chat("one", pieces.append).text == "1 messages"
    assert session.run("a long two", stdin="with input").text == "3 messages"
    assert echo.requests[-1].messages[-1].content == "a long two\n\nwith input"
    assert "the reply was stopped at 2 tokens" in capsys.readouterr().err
    assert pieces == ["1 messages"]
    assert session.status() == {"model": "echo:latest", "backend": "ollama", "context_used": 7, "context": 0}
    session.clear()
    assert session.chat("three").text == "1 messages"
    assert [entry.task for entry in log.read(home, 9)] == ["one", "a long two", "three"]


def test_old_turns_are_dropped_whole_and_told() -> None:
    model, chat = Echo(context=3000), Chat("system")
    filler = "word " * 300
    assert chat.ask(model, filler).details["dropped_turns"] == 0
    assert chat.ask(model, filler).details["dropped_turns"] == 0
    outcome = chat.ask(model, filler)
    assert (outcome.details["dropped_turns"], outcome.text) == (1, "4 messages")
    assert model.requests[-1].messages[0] == Message("system", "system")
    assert notes(outcome) == ["the oldest 1 turns of this conversation no longer fit and were dropped"]
    assert set(model.reserved) == {3000}


def test_a_text_that_is_too_long_is_an_error_and_nothing_is_sent() -> None:
    model = Echo(context=1000)
    with pytest.raises(ContextOverflow, match="holds 1000"):
        Chat().ask(model, "word " * 900)
    assert model.requests == []
    assert Chat().ask(model, "word " * 700).text
    assert model.requests[0].options.max_tokens == 1000 - 708


def test_no_chat_model_names_what_works_and_what_to_do(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    with pytest.raises(NoModelError, match="ollama pull qwen3:4b") as caught:
        Session(Settings(ollama_host="127.0.0.1:9")).run("What is a move?")
    assert caught.value.exit == Exit.NO_MODEL
    assert json.loads(json.dumps(log.get(home, 1).details))["error"] == str(caught.value)


def test_chat_with_a_daemon(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with OllamaServer() as server:
        server.add("qwen3:4b")
        session = Session(Settings(ollama_host=server.url))
        pieces: list[str] = []
        try:
            assert session.chat("hello there", pieces.append).text == "echo: hello there"
            assert session.run("/kind go").text == "echo: go"
            assert session.open_model("chat") is session.open_model("annotate", general=True)
        finally:
            session.close()
        assert len(server.bodies("/api/chat")) == 2
    assert "".join(pieces) == "echo: hello there"
    assert capsys.readouterr().err == "model: qwen3:4b (ollama), the first chat model that Ollama has\n"
    assert [entry.model for entry in log.read(home, 9)] == ["qwen3:4b", "qwen3:4b"]


def test_changed_settings_close_the_models(home: Path) -> None:
    session, model = Session(Settings()), Echo()
    session._opened["x"] = model
    session._last = model.info
    session.settings = Settings(model="other")
    assert model.closed
    assert session.settings.model == "other"
    assert session.status() == {"model": "other"}


def test_a_fault_of_a_third_party_skill_is_its_own(home: Path) -> None:
    """Named: the skill, its folder, and where the traceback is. A fault of ours would go on as a bug."""
    folder = next(home.rglob("skill.py")).parent
    (folder / "skill.py").write_text("FLAGS = ()\n\n\ndef run(task, context):\n    raise KeyError('depth')\n")
    trust(folder, home)
    session = Session(Settings())
    with pytest.raises(MarginaliaError) as caught:
        session.run(f"/{folder.name} x")
    assert f"the skill {folder.name} in {folder}" in str(caught.value)
    assert "KeyError: 'depth'" in str(caught.value)
    assert str(home / "crash.log") in str(caught.value)
    assert "marginalia" not in caught.value.message.replace(str(home), "").replace(str(folder), "")
    assert "skill.py" in (home / "crash.log").read_text(encoding="utf-8")

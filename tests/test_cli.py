"""The front door: exit codes, streams, start-up; as a process of its own where that is what counts."""

from __future__ import annotations

import json
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness import cli
from harness.completion import skill_names
from harness.config import ROOT
from harness.trust import trust

CODE = """import time, sys
from harness.skills import Outcome
from harness.task import Flag
FLAGS = (Flag("mode", "how", metavar="M"),)
def run(task, context):
    mode = task.flags.get("mode")
    if mode == "bug":
        raise ZeroDivisionError("a \\x1b[2J bug")
    if mode == "wait":
        context.console.print("waiting")
        time.sleep(60)
    if mode == "much":
        return Outcome(text="line\\n" * 2_000_000)
    if mode == "stdin":
        return Outcome(text=f"{task.text}:{context.stdin}")
    return Outcome(text=f"**{task.text}**", records=[{"text": task.text}, {"yes": context.settings.yes}])
"""


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment with a data folder that holds one trusted skill, /try."""
    home = tmp_path / "home"
    folder = home / "skills" / "try"
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text("---\nname: try\ndescription: Tries. Use to try.\n---\n")
    (folder / "skill.py").write_text(CODE)
    trust(folder, home)
    values = {"MARGINALIA_HOME": str(home), "HOME": str(tmp_path), "OLLAMA_HOST": "127.0.0.1:9"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # with it Python drops what a broken pipe did not take
    return {**os.environ, **values}


def agent(
    *words: str, env: Mapping[str, str], stdin: str | bytes = b"", cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    data = stdin.encode() if isinstance(stdin, str) else stdin
    command = [sys.executable, str(ROOT / "agent.py"), *words]
    return subprocess.run(command, input=data, capture_output=True, env=dict(env), cwd=cwd, timeout=60, check=False)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; before = set(sys.modules); sys.argv = ['agent.py', '--help']\n"
        "from harness.cli import main; assert main() == 0\n"
        "sys.stderr.write('\\n'.join(sorted(set(sys.modules) - before)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    ours = {name for name in loaded if name.startswith("harness")}
    assert ours == {"harness", "harness.cli", "harness.arguments", "harness.errors", "harness.crash"}
    heavy = {"typing", "dataclasses", "inspect", "tomllib", "shutil", "json", "pathlib", "sqlite3", "asyncio", "socket"}
    heavy |= {"rich", "prompt_toolkit", "numpy", "ollama", "httpx", "yaml", "gguf", "xllamacpp", "pandas", "logging"}
    assert not heavy & loaded
    assert "argparse" in loaded
    for command, function in cli.COMMANDS.items():
        assert (f"marginalia {command}" in done.stdout) == bool(function)


def cpu_seconds(*command: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_takes_at_most_three_times_as_long_as_python_itself() -> None:
    pairs = [(cpu_seconds("agent.py", "--help"), cpu_seconds("-c", "pass")) for _ in range(12)]
    ours, bare = (min(column) for column in zip(*pairs, strict=True))
    assert ours <= 3 * bare, f"{ours * 1000:.0f} ms against {bare * 1000:.0f} ms"


def test_results_on_stdout_everything_else_on_stderr(env: dict[str, str]) -> None:
    done = agent("/try hello", env=env)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"**hello**\n", b"")
    done = agent("--json", "/try hello", env=env)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{"text": "hello"}, {"yes": False}]


def test_bare_words_and_options_behind_the_task(env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["/try", "my paper.csv", "--mode", "x", "--json", "--yes"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"text": "my paper.csv"},
        {"yes": True},
    ]
    assert cli.main(["--json", "/try a --yes"]) == 0
    assert '{"yes": true}' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "task"),
    [
        ([], ""),
        (["  /a b  "], "/a b"),
        (["/a", "b c", "save", "to", "d"], '/a "b c" save to d'),
        (["/a", 'say "b"'], "/a 'say \"b\"'"),
        (["what", "is", "this"], "what is this"),
    ],
)
def test_join_words(words: list[str], task: str) -> None:
    assert cli.join_words(words) == task


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["/tri x"], 2, "error: unknown command /tri; did you mean /try?"),
        (["--bogus", "/try x"], 2, "error: unrecognized arguments: --bogus; see: marginalia --help"),
        (["/try x --bogus"], 2, "error: /try has no flag --bogus; did you mean --out?"),
        (["--workers", "many", "/try x"], 2, "error: argument --workers: invalid int value: 'many'"),
        (["--workers", "0", "/try x"], 2, "error: --workers 0: not a number of requests; give 1 or more"),
        (["web"], 2, "error: web: this version of marginalia does not have it yet"),
        (["mcp"], 2, "error: mcp: this version of marginalia does not have it yet"),
        (["log", "dance"], 2, "error: argument"),
        (["doctr"], 2, "error: unknown command doctr; did you mean doctor?; put a question for the chat model in quotes"),
        (["corpsu", "search", "x"], 2, "error: unknown command corpsu; did you mean corpus?"),
        (["completion", "tcsh"], 2, "error: completion tcsh: names no shell known here; one of bash, zsh, fish"),
        (["what is a move?"], 3, "error: no general chat model is here (what works without: /annotate, /ask, "),
        ([], 2, "error: no task; give one"),
    ],
)
def test_wrong_usage_is_one_line_and_its_code(env: dict[str, str], argv: list[str], code: int, message: str) -> None:
    done = agent(*argv, env=env)
    assert done.returncode == code
    assert done.stdout == b""
    assert done.stderr.decode().startswith(message)
    assert done.stderr.count(b"\n") == 1


def test_wrong_settings_file_is_named(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "marginalia.toml").write_text("colour = 1\n")
    done = agent("skills", env=env, cwd=tmp_path)
    assert done.returncode == 2
    assert b"marginalia.toml: unknown setting 'colour'" in done.stderr


def test_stdin_is_the_input_or_the_task(env: dict[str, str]) -> None:
    assert agent("/try --mode stdin x", env=env, stdin="piped é").stdout.decode() == "x:piped é\n"
    assert agent("/try --mode stdin x", env=env, stdin=b"latin \xe9").stdout.decode() == "x:latin é\n"
    assert agent(env=env, stdin=" /try hello\n").stdout == b"**hello**\n"
    done = agent(env=env, stdin="an abstract")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert b"the piped input is no task" in done.stderr


def test_idle_pipe_does_not_stop_a_task_that_needs_no_input(env: dict[str, str]) -> None:
    reader, writer = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, str(ROOT / "agent.py"), "/try hello"],
            stdin=reader, capture_output=True, env=env, timeout=30, check=False,
        )  # fmt: skip
    finally:
        os.close(reader)
        os.close(writer)
    assert done.stdout == b"**hello**\n"


def test_a_fault_of_a_skill_is_one_line_and_a_file(env: dict[str, str]) -> None:
    done = agent("/try --mode bug", env=env)
    crash = Path(env["MARGINALIA_HOME"]) / "crash.log"
    assert done.returncode == 1
    assert done.stderr.decode() == (
        f"error: the skill try in {crash.parent / 'skills' / 'try'} has a fault (ZeroDivisionError: a bug); "
        f"the traceback is in {crash}; tell its author\n"
    )
    agent("/try --mode bug", env=env)
    assert crash.read_text().count("Traceback") == 2
    assert crash.stat().st_mode & 0o777 == 0o600
    assert "Traceback" in agent("-v", "/try --mode bug", env=env).stderr.decode()


def test_interrupt_keeps_quiet_and_says_that_state_is_kept(env: dict[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "agent.py"), "/try --mode wait"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline() == b"waiting\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == b""
    assert err == b"interrupted; what was finished is kept, the same command goes on from there\n"


def test_reader_that_leaves_is_no_error_message(env: dict[str, str]) -> None:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "agent.py"), "/try --mode much"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=30) == 1


def test_full_disk_and_closed_output_are_no_bugs(env: dict[str, str]) -> None:
    command = [sys.executable, str(ROOT / "agent.py"), "/try hello"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, env=env, check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert done.stderr.startswith(b"error: the disk is full")
    shell = " ".join(f"'{word}'" for word in command) + " >&-"
    done = subprocess.run(["sh", "-c", shell], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_task_that_is_no_utf8_is_logged_all_the_same(env: dict[str, str]) -> None:
    command = [sys.executable.encode(), str(ROOT / "agent.py").encode(), b"/try caf\xe9"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=env, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"caf" in agent("log", env=env).stdout


def test_markdown_is_rendered_on_a_terminal(env: dict[str, str]) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "agent.py"), "/try hello"],
        stdin=subprocess.DEVNULL, stdout=slave, env={**env, "NO_COLOR": "1", "TERM": "xterm"},
    )  # fmt: skip
    os.close(slave)
    assert process.wait(timeout=30) == 0
    shown = os.read(master, 10_000)
    os.close(master)
    assert b"hello" in shown
    assert b"**" not in shown


def test_log_command_and_no_log(env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--no-log", "/try one"]) == 0
    assert cli.main(["/try two"]) == 0
    capsys.readouterr()
    assert cli.main(["log", "--json"]) == 0
    (entry,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert (entry["task"], entry["skill"], entry["exit"]) == ("/try two", "try", 0)
    assert entry["seconds"] < 60
    assert abs(time.time() - time.mktime(time.strptime(entry["time"][:19], "%Y-%m-%dT%H:%M:%S"))) < 86_400


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(env: dict[str, str], shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    unsafe = Path(env["MARGINALIA_HOME"]) / "skills" / "x$(touch owned)"
    unsafe.mkdir()
    (unsafe / "SKILL.md").write_text("---\n---\n")
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "/try" in script
    assert "--offline" in script
    assert "owned" not in script
    assert "try" in skill_names(Path(env["MARGINALIA_HOME"]))


def test_bash_completes(env: dict[str, str]) -> None:
    script = agent("completion", "bash", env=env).stdout.decode()
    script += 'COMP_WORDS=(marginalia doc); COMP_CWORD=1; _marginalia; echo "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout == "doctor\n"


@pytest.mark.parametrize("command", [name for name, there in cli.COMMANDS.items() if there and name != "completion"])
def test_help_of_a_command_shows_an_example(command: str, env: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert re.search(rf"^examples?:\s+{command} ", shown, re.MULTILINE)

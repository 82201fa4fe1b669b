"""What a careless or hostile world does to the whole program: each ends in a result or in one clear line."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, cast

import pytest
from tiny_gguf import write_tiny_gguf

from harness.cli import main
from harness.config import ROOT
from harness.console import read_stdin
from harness.errors import InputError, ModelError, UsageError
from harness.jobs.journal import Journal
from harness.models.base import Model, ModelInfo, Options
from harness.models.embedded import MAX_SLOTS, EmbeddedModel
from harness.readers.locate import locate
from skills.annotate.annotator import make_annotator
from skills.annotate.moves import load_framework

SAMPLE = ROOT / "data" / "sample_papers.csv"
ABSTRACT = "Long documents do not fit on phones. We present PocketCache, a new cache. It gains 4.1 points over two others."
HOSTILE = {
    "escapes": "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x1b[0m \x9b2J \u202egnp.exe \x00 \r end",
    "html": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "half a pair": "\ud800",
    "../../etc/passwd": "RTL עברית العربية 👩‍🔬 🧪",
}

needs_model = pytest.mark.skipif(
    not (ROOT / "registry" / "nanda-annotator" / "mini.gguf").exists(), reason="the bundled model is not in this checkout"
)
posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals, pipes and devices")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and a data folder of its own, and no daemon."""
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(*argv: str, stdout: int | IO[Any] = subprocess.PIPE) -> subprocess.Popen[str]:
    """The program in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(ROOT / "agent.py"), *argv],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def one_line(err: str) -> str:
    """The only line of an error: no traceback, no bug report."""
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert "bug" not in line
    return line


# Without a model


def test_a_damaged_result_in_the_journal_is_worked_out_again(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal:
        for key in ("cut", "null", "list", "good"):
            journal.put(key, {"moves": {}}, kind="annotate", seconds=1)
        for key, value in (("cut", '{"moves": {'), ("null", "null"), ("list", "[]")):
            journal._connection.execute("UPDATE results SET value = ? WHERE key = ?", (value, key))
        assert journal.get_many(["cut", "null", "list", "good"]) == {"good": {"moves": {}}}


@pytest.mark.parametrize("text", ['"We present a cache that is', '"', '"new" in "agents'])
def test_an_open_quote_is_never_searched_for_online(text: str) -> None:
    with pytest.raises(UsageError, match="is not closed"):
        locate(text, has_stdin=False)
    assert locate('"graphs" and "agents"', has_stdin=False).kind == "topic"


def test_a_pattern_without_files_is_no_topic() -> None:
    with pytest.raises(InputError, match="no file that can be read matches"):
        locate("*.nothing", has_stdin=False)


@pytest.mark.parametrize("data", [bytes(range(256)) * 20, b"\x00\x00\x00", b"\x7fELF" + bytes(60)])
def test_binary_standard_input_is_refused(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    with pytest.raises(InputError, match="binary"):
        read_stdin()


def test_text_with_a_stray_control_character_is_still_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{ABSTRACT} \x00\x0c".encode())))
    assert read_stdin() == f"{ABSTRACT} \x00\x0c"


def test_a_thousand_workers_are_as_many_as_the_runtime_takes(tmp_path: Path) -> None:
    model = EmbeddedModel(write_tiny_gguf(tmp_path / "tiny.gguf"), name="tiny", slots=1000)
    assert model.slots == MAX_SLOTS


def test_a_contract_of_another_version_is_not_guessed_at() -> None:
    model = cast(Model, SimpleNamespace(info=ModelInfo("x:1", "embedded", "", 2048, "annotate/mark@2")))
    with pytest.raises(ModelError, match="annotate/mark@2, which is not known"):
        make_annotator(model, load_framework(), prose=False, serving={}, options=Options())


@posix_only
def test_a_working_folder_that_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    code = f"import os, sys; os.chdir({str(folder)!r}); os.rmdir({str(folder)!r}); sys.path.insert(0, {str(ROOT)!r})\n"
    code += "from harness.cli import main; sys.argv = ['marginalia', 'doctor']; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "working folder is gone" in one_line(done.stderr)


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert main([f"/annotate {SAMPLE}"]) == 1
    assert "package rich.console is not installed; pip install" in one_line(capsys.readouterr().err)


@posix_only
@pytest.mark.parametrize("command", ["skills", "models"])
def test_a_full_disk_behind_stdout(command: str) -> None:
    with open("/dev/full", "w") as full:
        run = start(command, stdout=full)
        _, err = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "disk is full" in one_line(err)


@pytest.mark.parametrize("command", [["log"], ["corpus", "list"], ["registry", "list"]])
def test_a_data_folder_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path / "file"))
    run = start(*command)
    _, err = run.communicate(timeout=60)
    assert (run.returncode, err) == (0, "") or "MARGINALIA_HOME" in one_line(err)


@pytest.mark.parametrize(
    ("task", "says", "code"),
    [
        ("/annotate x.csv save to", "names no file", 2),
        ("/annotate x.csv save to ../out.csv", "leaves the working folder", 2),
        ("/annotate x.csv save to /etc/passwd", "cannot write", 2),
        ("/annotate x.csv save to out.exe", "cannot write .exe", 2),
        (f"/annotate x.csv save to {'n' * 300}.csv", "is not a usable path", 2),
        ("/annotate x.csv --limit -1", "not a number", 2),
        ("/annotate x.csv --bogus", "has no flag", 2),
        ("/annotatte x.csv", "did you mean /annotate", 2),
        ("/annotate x.csv", "there is no file", 1),
        ("/annotate '", "is a topic", 1),
        ("/annotate .", "holds no file that can be read", 1),
        ("/annotate https://example.org/x.csv", "not a paper on arXiv", 1),
        ("/annotate 2402.11651", "needs the network", 1),
        ("/annotate a survey of caches", "is a topic", 1),
    ],
)
def test_odd_tasks_end_in_one_line(capsys: pytest.CaptureFixture[str], task: str, says: str, code: int) -> None:
    assert main(["--offline", task]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert says in one_line(err)


# With the bundled model


@needs_model
@pytest.mark.parametrize("suffix", ["", "md", "csv", "html"])
def test_hostile_titles_and_ids_stay_data(place: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    rows = [{"id": name, "title": title, "abstract": f"{ABSTRACT} {title}"} for name, title in HOSTILE.items()]
    (place / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main([f"/annotate in.jsonl{suffix and f' save to out.{suffix}'}"]) == 0
    out, err = capsys.readouterr()
    assert not {"\x1b", "\x9b", "\x07", "\x00", "\u202e"} & {*out, *err}
    assert {path.name for path in place.iterdir()} == {"home", "in.jsonl"} | ({f"out.{suffix}"} if suffix else set())
    if suffix == "html":
        page = (place / "out.html").read_text(encoding="utf-8")
        assert "<script>alert" not in page
        assert "<img src=x" not in page


@needs_model
@posix_only
def test_control_c_in_the_middle_then_the_same_command(place: Path) -> None:
    task = f"/annotate {SAMPLE} --limit 10 save to out.csv"
    run = start("--workers", "1", task)
    journal = place / "home" / "journal.db"
    while run.poll() is None and rows_in(journal) < 3:
        time.sleep(0.01)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    if run.returncode == 130:  # else it was faster than the signal
        assert "the same command goes on" in err
        assert not (place / "out.csv").exists()
        assert main(["--workers", "1", task]) == 0
    os.rename(place / "out.csv", place / "resumed.csv")
    assert main(["--workers", "1", f"{task} --fresh"]) == 0
    assert (place / "resumed.csv").read_bytes() == (place / "out.csv").read_bytes()
    assert "Traceback" not in err


def rows_in(journal: Path) -> int:
    if not journal.exists():
        return 0
    import sqlite3

    try:
        with sqlite3.connect(f"file:{journal}?mode=ro", uri=True) as connection:
            return int(connection.execute("SELECT count(*) FROM results").fetchone()[0])
    except sqlite3.OperationalError:  # it is being made
        return 0


@needs_model
@posix_only
def test_two_agents_at_once_on_one_target(place: Path) -> None:
    runs = [start(f"/annotate {SAMPLE} --limit 6 save to out.csv") for _ in range(2)]
    errors = [run.communicate(timeout=120)[1] for run in runs]
    assert sorted(run.returncode for run in runs) in ([0, 1], [0, 2])
    assert sum("saved out.csv" in err for err in errors) == 1
    assert sum("out.csv: appeared" in err or "out.csv: exists" in err for err in errors) == 1
    assert len((place / "out.csv").read_text(encoding="utf-8").splitlines()) >= 7
    assert not list(place.glob(".marginalia-*"))


@needs_model
@posix_only
def test_a_reader_that_leaves() -> None:
    run = start("--json", f"/annotate {SAMPLE} --limit 3")
    assert run.stdout is not None
    assert run.stderr is not None
    run.stdout.close()
    err = run.stderr.read()
    assert run.wait(60) == 1
    assert "Traceback" not in err
    assert "bug" not in err

"""The embedded backend when things go wrong: its process dies, its file is damaged, its package is missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest

from harness.config import ROOT
from harness.errors import ContextOverflow, ModelError, ModelUnavailable
from harness.models import embedded, embedded_process
from harness.models.embedded import EmbeddedModel, file_digest
from harness.models.gguf_header import trained_context
from tests.embedded_helpers import LONG, alive, chat, child_pid, eventually, raw
from tests.tiny_gguf import Shape, write_tiny_gguf

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf")


@pytest.fixture
def fresh(gguf: Path) -> Iterator[EmbeddedModel]:
    """A model whose child may be killed."""
    model = EmbeddedModel(gguf, name="tiny:latest", threads=1)
    yield model
    model.close()


# When the process dies


def test_kill_of_the_child_is_reported_at_once_and_mended(fresh: EmbeddedModel) -> None:
    expected = fresh.generate(raw("the")).text
    begun = threading.Barrier(3)

    def run() -> None:
        pieces: list[str] = []

        def on_text(piece: str) -> None:
            if not pieces:
                begun.wait(10)
            pieces.append(piece)

        fresh.generate(replace(raw("the"), options=LONG), on_text=on_text)

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(run) for _ in range(2)]
        begun.wait(10)
        pid, killed = child_pid(fresh), time.monotonic()
        os.kill(pid, signal.SIGKILL)
        for future in running:
            with pytest.raises(ModelUnavailable, match="signal 9"):
                future.result(5)
    assert time.monotonic() - killed < 2
    assert fresh.generate(raw("the")).text == expected
    assert child_pid(fresh) != pid


def test_a_child_that_keeps_dying_is_given_up(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_process, "child_command", lambda *_: [sys.executable, "-c", "raise SystemExit(7)"])
    model = EmbeddedModel(gguf, name="tiny:latest")
    for _ in range(embedded.MAX_RESTARTS + 1):
        with pytest.raises(ModelUnavailable, match="exit code 7"):
            model.generate(raw("the"))
    with pytest.raises(ModelError, match="died 4 times in a row") as caught:
        model.generate(raw("the"))
    assert not isinstance(caught.value, ModelUnavailable)


@linux_only
def test_the_child_outlives_the_thread_that_asked_first_but_not_the_process(gguf: Path) -> None:
    script = f"""
import sys, threading, time
from pathlib import Path
from typing import Any
from harness.models.base import Options, Request
from harness.models.embedded import EmbeddedModel
model = EmbeddedModel(Path({str(gguf)!r}), name="tiny", threads=1)
ask = lambda: model.generate(Request(prompt="the", options=Options(max_tokens=4)))
thread = threading.Thread(target=ask)
thread.start(); thread.join(); time.sleep(0.1)
pid = model._child.pid
ask()
assert model._child.pid == pid
print(pid, flush=True)
while True: model.generate(Request(prompt="the", options=Options(max_tokens=1900)))
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.kill()
    assert eventually(lambda: not alive(pid), 3)


@linux_only
def test_signals_for_the_terminal_leave_the_child_alone(fresh: EmbeddedModel) -> None:
    fresh.generate(raw("the"))
    pid = child_pid(fresh)
    os.kill(pid, signal.SIGINT)
    assert os.getsid(pid) != os.getsid(0)
    assert fresh.generate(raw("the")).text
    assert child_pid(fresh) == pid


# What it does not do


def test_nothing_is_printed(gguf: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = EmbeddedModel(gguf, name="tiny", threads=1, context=256)
    model.generate(chat("the"), on_text=lambda _: None)
    with pytest.raises(ContextOverflow):
        model.generate(raw("the " * 400))
    model.close()
    assert capfd.readouterr() == ("", "")


def test_a_stopped_child_leaves_no_pipe_open(gguf: Path) -> None:
    model = EmbeddedModel(gguf, name="tiny", threads=1)
    model.generate(raw("the"))
    child = model._child
    assert child is not None
    process = child._process
    model.close()
    assert process is not None
    pipes = (process.stdin, process.stdout, process.stderr)
    assert eventually(lambda: all(pipe is not None and pipe.closed for pipe in pipes), 3)


def test_modules_in_the_working_folder_are_not_run(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json.py", "xllamacpp.py"):
        (tmp_path / name).write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    model = EmbeddedModel(gguf, name="tiny", threads=1)
    assert model.generate(raw("the")).text
    model.close()


@linux_only
def test_its_http_server_is_local_and_locked(fresh: EmbeddedModel) -> None:
    fresh.generate(raw("the"))
    links = [os.readlink(link) for link in Path(f"/proc/{child_pid(fresh)}/fd").iterdir()]
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [row[1] for row in rows if row[9] in inodes and row[3] == "0A"]
    assert [address.split(":")[0] for address in listening] == ["0100007F"]
    connection = HTTPConnection("127.0.0.1", int(listening[0].split(":")[1], 16), timeout=5)
    connection.request("POST", "/completions", json.dumps({"prompt": "the"}), {"Origin": "http://page.example"})
    answer = connection.getresponse()
    assert answer.status == 401
    assert answer.getheader("Access-Control-Allow-Origin") != "http://page.example"
    connection.close()


# Files that are not what they should be


def test_sha256_is_compared_before_loading(gguf: Path, tmp_path: Path) -> None:
    good = EmbeddedModel(gguf, name="tiny", sha256=file_digest(gguf), threads=1)
    assert good.generate(raw("the")).text
    good.close()
    bad = EmbeddedModel(gguf, name="tiny:latest", sha256="0" * 64, threads=1)
    with pytest.raises(ModelError, match=r"tiny\.gguf: .*sha256 is not the one of tiny:latest.*again"):
        bad.generate(raw("the"))
    assert bad._child is None
    file = tmp_path / "file"
    file.write_bytes(b"one")
    before = file_digest(file)
    file.write_bytes(b"three")
    assert file_digest(file) != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"cannot be read \(No such file"),
        (b"", "cut short"),
        (b"a plain text file, nothing else\n", "not a GGUF file"),
        (b"GGUF\x03\0\0\0" + b"\0" * 8 + b"\1" + b"\0" * 7 + b"\xff" * 20, "cut short or damaged"),
        (b"GGUF\x03\0\0\0" + b"\0" * 16, "does not say how long"),
        (b"GGUF\x09\0\0\0" + b"\0" * 16, "version 9"),
    ],
)
def test_files_that_are_no_models(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"model\.gguf: .*{message}"):
        EmbeddedModel(path, name="tiny")


def test_damaged_models_name_the_cause(gguf: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, path = gguf.read_bytes(), tmp_path / "model.gguf"
    for damaged in (data[: len(data) // 2], data[:3000], data[:4000] + os.urandom(9000)):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"model\.gguf: .*(llama\.cpp cannot load it \((?!Failed to init)|damaged)"):
            EmbeddedModel(path, name="tiny", threads=1).generate(raw("the"))
    assert capfd.readouterr() == ("", "")


def test_the_header_can_be_cut_anywhere(gguf: Path, tmp_path: Path) -> None:
    data, path = gguf.read_bytes(), tmp_path / "model.gguf"
    assert trained_context(gguf) == Shape().context
    for size in range(0, 180, 7):
        path.write_bytes(data[:size])
        with pytest.raises(ModelError, match=r"model\.gguf"):
            trained_context(path)


# What is installed


def test_runtime_info() -> None:
    embedded.check()
    info = embedded.runtime_info()
    assert info["package"] == "xllamacpp"
    assert info["version"]
    assert isinstance(info["gpu"], bool)
    assert info["devices"]


def test_a_runtime_that_does_not_load(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "xllamacpp.py").write_text("raise ImportError('libgomp.so.1 is missing')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    for module in (embedded, embedded_process):
        monkeypatch.setattr(module, "child_environment", lambda: environment)
    with pytest.raises(ModelError, match=r"libgomp\.so\.1 is missing.*; install the package xllamacpp"):
        EmbeddedModel(gguf, name="tiny").generate(raw("the"))
    with pytest.raises(ModelError, match="does not load; install"):
        embedded.runtime_info()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="not installed"):
        embedded.check()

"""The log of runs, against real SQLite."""

from __future__ import annotations

import json
import os
import threading
from datetime import date
from pathlib import Path

import pytest

from harness import log
from harness.config import Settings
from harness.errors import InputError, UsageError
from harness.log import Entry


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MARGINALIA_HOME", str(tmp_path))
    return tmp_path


def entry(task: str, time: str = "2026-01-05T10:00:00+00:00") -> Entry:
    return Entry(
        time, task, "annotate", "nanda:mini", "embedded", "sha256:1", 10, 20, 1.5, 30, 1, {"failed": 2, "why": "é"}
    )


def test_entries_come_back_whole_and_in_order(home: Path) -> None:
    first = log.write(home, entry("one"))
    log.write(home, entry("two\nlines"))
    log.write(home, entry("three"))
    assert [found.task for found in log.read(home, 2)] == ["two\nlines", "three"]
    assert log.get(home, first) == Entry(**{**entry("one").record(), "id": first})
    with pytest.raises(UsageError, match="no run 99"):
        log.get(home, 99)


def test_a_password_of_a_task_never_reaches_the_log(home: Path) -> None:
    log.write(home, log.Entry(log.now(), "/index papers --password=hush --password 'two words' --limit 2"))
    assert log.read(home, 1)[0].task == "/index papers --password=*** --password *** --limit 2"
    assert b"hush" not in b"".join(path.read_bytes() for path in home.iterdir() if path.is_file())


def test_threads_write_at_once(home: Path) -> None:
    threads = [threading.Thread(target=log.write, args=(home, entry(str(number)))) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found.task for found in log.read(home, 100)) == [str(number) for number in range(8)]


def test_clear_deletes_for_good_and_ids_go_on(home: Path) -> None:
    log.write(home, entry("the secret", "2026-01-01T12:00:00+00:00"))
    log.write(home, entry("kept", "2026-01-10T12:00:00+00:00"))
    assert log.clear(home, date(2026, 1, 5)) == 1
    assert [found.task for found in log.read(home, 9)] == ["kept"]
    assert b"the secret" not in b"".join(path.read_bytes() for path in home.glob("log.db*"))
    assert log.write(home, entry("new")) == 3


def test_damaged_and_unusable_logs_are_input_errors(home: Path) -> None:
    (home / log.FILE).write_bytes(b"no database at all, but long enough to be looked at" * 50)
    with pytest.raises(InputError, match=r"log\.db"):
        log.write(home, entry("x"))
    with pytest.raises(InputError):
        log.write(home / log.FILE / "below-a-file", entry("x"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(home: Path) -> None:
    home.chmod(0o500)
    with pytest.raises(InputError):
        log.write(home, entry("x"))


def test_command_as_table_and_json(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.write(home, entry("a long task " * 20))
    log.write(home, entry("esc\x1b[2J"))
    assert log.main([], Settings()) == 0
    heading, first, second = capsys.readouterr().out.splitlines()
    assert heading.split("\t") == ["id", "time", "task", "model", "tokens", "s", "exit"]
    assert len(first.split("\t")[2]) == 60
    assert "\x1b" not in second
    assert log.main(["--json", "--limit", "1"], Settings()) == 0
    assert json.loads(capsys.readouterr().out) == entry("esc\x1b[2J").record() | {"id": 2}
    assert log.main(["show", "2"], Settings(json=True)) == 0
    assert json.loads(capsys.readouterr().out)["details"] == {"failed": 2, "why": "é"}
    assert log.main(["show", "1"], Settings()) == 0
    assert "digest\tsha256:1" in capsys.readouterr().out


def test_command_clears(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.write(home, entry("old"))
    assert log.main(["clear", "--before", "2026-02-01"], Settings()) == 0
    assert capsys.readouterr().err == "1 runs deleted\n"
    with pytest.raises(UsageError, match="not a date"):
        log.main(["clear", "--before", "yesterday"], Settings())
    with pytest.raises(UsageError, match="--limit 0"):
        log.main(["--limit", "0"], Settings())
    with pytest.raises(UsageError, match="--before"):
        log.main(["clear"], Settings())


def test_clear_as_json_is_one_object(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.write(home, entry("old"))
    assert log.main(["clear", "--before", "2999-01-01"], Settings(json=True)) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ({"deleted": 1, "before": "2999-01-01"}, "")

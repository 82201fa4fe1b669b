"""The journal: what was put is there, after anything."""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.jobs.journal import Journal, key_of

ROOT = Path(__file__).parents[1]


def test_put_get_and_the_last_one_counts(tmp_path: Path) -> None:
    with Journal(tmp_path / "deep" / "journal.db") as journal:
        assert journal.get("k") is None
        journal.put("k", {"text": "nai\u0308ve \ud800 \x00"}, kind="annotate", seconds=0.5)
        journal.put("k", {"text": "second"}, kind="annotate", seconds=0.5)
        journal.put("other", {"moves": {"claim": None}}, kind="annotate", seconds=0.1)
    with Journal(tmp_path / "deep" / "journal.db") as journal:
        assert journal.get("k") == {"text": "second"}
        assert journal.get_many(["k", "absent", "other"]) == {
            "k": {"text": "second"},
            "other": {"moves": {"claim": None}},
        }


def test_a_lone_surrogate_survives(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal:
        journal.put("k", {"text": "\ud800\x00"}, kind="annotate", seconds=0)
        assert journal.get("k") == {"text": "\ud800\x00"}


def test_get_many_of_more_keys_than_sqlite_takes_at_once(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal:
        for n in range(0, 1200, 100):
            journal.put(str(n), {"n": n}, kind="test", seconds=0)
        found = journal.get_many(str(n) for n in range(1200))
    assert sorted(value["n"] for value in found.values()) == list(range(0, 1200, 100))


@dataclass(frozen=True)
class _Options:
    temperature: float = 0.0
    stop: tuple[str, ...] = ("x",)


def test_key_of_depends_on_every_part_and_on_nothing_else() -> None:
    base = key_of("text", "annotate/mark@1", _Options(), {"a": 1, "b": 2})
    assert base == key_of("text", "annotate/mark@1", _Options(), {"b": 2, "a": 1})
    assert len(base) == 64
    others = [
        key_of("text", "annotate/mark@2", _Options(), {"a": 1, "b": 2}),
        key_of("text", "annotate/mark@1", _Options(temperature=0.1), {"a": 1, "b": 2}),
        key_of("texta", "nnotate/mark@1", _Options(), {"a": 1, "b": 2}),
        key_of("text", "annotate/mark@1", _Options(), {"a": 1}),
    ]
    assert len({base, *others}) == 5
    with pytest.raises(TypeError, match="cannot be part of a key"):
        key_of(object())


@pytest.mark.parametrize(
    "content", [b"this is no database at all, only text" * 100, b"SQLite format 3\x00" + b"\xff" * 8000]
)
def test_a_damaged_file_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        Journal(path)
    assert str(path) in str(caught.value)
    assert "move it away" in str(caught.value)
    assert path.read_bytes() == content


def test_damage_found_later_is_the_same_error(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with Journal(path) as journal:
        for n in range(300):
            journal.put(str(n), {"text": "x" * 500}, kind="test", seconds=0)
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xee" * (len(content) - 4096)
    path.write_bytes(content)
    with Journal(path) as journal, pytest.raises(InputError, match="move it away"):
        journal.get("7")


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "journal.db"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE results (key TEXT)")
    other.execute("PRAGMA user_version=99")
    other.close()
    with pytest.raises(InputError, match="schema version 99"):
        Journal(path)


def test_a_folder_in_the_way_and_a_read_only_place_are_clear_errors(tmp_path: Path) -> None:
    (tmp_path / "journal.db").mkdir()
    with pytest.raises(InputError, match=r"journal\.db"):
        Journal(tmp_path / "journal.db")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        Journal(tmp_path / "file" / "journal.db")


def test_many_threads_share_one_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.db") as journal:

        def write(worker: int) -> None:
            for n in range(50):
                journal.put(f"{worker}-{n}", {"n": n}, kind="test", seconds=0)
                assert journal.get(f"{worker}-{n}") == {"n": n}

        threads = [threading.Thread(target=write, args=(worker,)) for worker in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(journal.get_many(f"{worker}-{n}" for worker in range(6) for n in range(50))) == 300


WRITER = """
import sys
from pathlib import Path
from harness.jobs.journal import Journal
name = sys.argv[2]
with Journal(Path(sys.argv[1])) as journal:
    for n in range(100):
        journal.put(f"{name}-{n}", {"n": n}, kind="test", seconds=0)
"""


def test_processes_that_start_at_once_share_one_new_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], cwd=ROOT, stderr=subprocess.PIPE)
        for name in "abcd"
    ]
    for writer in writers:
        _, error = writer.communicate(timeout=60)
        assert writer.returncode == 0, error.decode()
    with Journal(path) as journal:
        assert len(journal.get_many(f"{name}-{n}" for name in "abcd" for n in range(100))) == 400

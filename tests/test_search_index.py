"""Keeping the index up to date: only what changed is read, what is gone goes, one bad file stops nothing."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pdf_maker import block, make_pdf
from search_helpers import embedder

from harness.errors import InputError
from harness.search.bm25 import parse
from harness.search.index import Options, Result, embed, find_files, update
from harness.search.sqlite_store import SqliteStore
from harness.search.store import Scope


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore(tmp_path / "index" / "index.db") as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    papers = tmp_path / "papers"
    (papers / "deep").mkdir(parents=True)
    (papers / "a.txt").write_text("On wheat\n\nWheat grows in fields.\n")
    (papers / "deep" / "b.md").write_text("# On barley\n\nBarley grows by the sea.\n")
    make_pdf(papers / "c.pdf", block(60, 700, ["Rye is sown in autumn and it is cut in summer."]))
    (papers / "bad.pdf").write_bytes(b"")
    (papers / ".hidden.txt").write_text("Oats.")
    (papers / "image.png").write_bytes(b"\x89PNG")
    return papers


def statuses(results: list[Result]) -> dict[str, str]:
    return {Path(result.file.path).name: result.status for result in results}


def found(store: SqliteStore, text: str) -> list[str]:
    ids = [chunk for chunk, _ in store.lexical(parse(text), 10, Scope())]
    return [Path(chunk.file).name for chunk in store.chunks(ids)]


def test_a_folder_is_indexed_and_one_bad_file_stops_nothing(store: SqliteStore, folder: Path) -> None:
    told: list[str] = []
    results = update(store, [folder], Options(workers=2), lambda result: told.append(result.status))
    assert statuses(results) == {"a.txt": "new", "bad.pdf": "failed", "c.pdf": "new", "b.md": "new"}
    assert len(told) == 4
    assert [result.file.error for result in results if result.status == "failed"] == [f"{folder / 'bad.pdf'} is empty"]
    assert found(store, "barley rye") == ["c.pdf", "b.md"] or found(store, "barley rye") == ["b.md", "c.pdf"]
    assert found(store, "oats") == []


def test_unchanged_files_are_not_opened(store: SqliteStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update(store, [folder], Options())
    before = store.files()

    def refuse(*_: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr(Path, "open", refuse)
    results = update(store, [folder], Options())
    assert statuses(results) == {"a.txt": "unchanged", "bad.pdf": "failed", "c.pdf": "unchanged", "b.md": "unchanged"}
    assert store.files() == before


def test_changed_new_and_deleted_files(store: SqliteStore, folder: Path) -> None:
    update(store, [folder], Options())
    (folder / "a.txt").write_text("On maize\n\nMaize grows high.\n")
    (folder / "deep" / "b.md").unlink()
    (folder / "d.html").write_text("<p>Millet grows in the south.")
    os.utime(folder / "c.pdf", ns=(1, 1))
    results = update(store, [folder], Options())
    assert statuses(results) == {
        "b.md": "removed", "a.txt": "changed", "bad.pdf": "failed", "c.pdf": "unchanged", "d.html": "new",
    }  # fmt: skip
    assert found(store, "wheat barley") == []
    assert found(store, "maize") == ["a.txt"]
    assert statuses(update(store, [folder], Options()))["c.pdf"] == "unchanged"


def test_files_elsewhere_are_left_alone(store: SqliteStore, folder: Path) -> None:
    update(store, [folder], Options())
    update(store, [folder / "deep"], Options())
    (folder / "a.txt").unlink()
    update(store, [folder / "deep"], Options())
    assert found(store, "wheat") == ["a.txt"]
    assert statuses(update(store, [folder], Options()))["a.txt"] == "removed"
    with pytest.raises(InputError, match=r"there is no file .*a\.txt"):
        update(store, [folder / "a.txt"], Options())


def test_the_same_content_is_indexed_once_and_outlives_its_twin(store: SqliteStore, folder: Path) -> None:
    shutil.copy(folder / "a.txt", folder / "z.txt")
    results = update(store, [folder], Options())
    assert statuses(results)["z.txt"] == "same"
    assert found(store, "wheat") == ["a.txt"]
    (folder / "a.txt").unlink()
    assert statuses(update(store, [folder], Options()))["z.txt"] == "changed"
    assert found(store, "wheat") == ["z.txt"]
    shutil.copy(folder / "z.txt", folder / "zz.txt")
    update(store, [folder], Options())
    (folder / "z.txt").write_text("Something else, about rice.\n")
    update(store, [folder / "z.txt"], Options())  # the twin is not among the files given
    assert (found(store, "wheat"), found(store, "rice")) == (["zz.txt"], ["z.txt"])


def test_other_options_read_anew(store: SqliteStore, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("id,abstract,body\n1,About wheat.,About rye.\n")
    update(store, [table], Options())
    assert statuses(update(store, [table], Options())) == {"t.csv": "unchanged"}
    assert statuses(update(store, [table], Options(columns={"abstract": "body"}))) == {"t.csv": "changed"}
    assert (found(store, "rye"), found(store, "wheat")) == (["t.csv"], [])
    assert statuses(update(store, [table], Options(columns={"abstract": "body"}, fresh=True))) == {"t.csv": "changed"}
    results = update(store, [table], Options(columns={"abstract": "none"}))
    assert "has no column 'none'" in results[0].file.error
    assert found(store, "rye wheat") == []


def test_a_chunk_that_comes_back_is_not_embedded_again(store: SqliteStore, folder: Path) -> None:
    update(store, [folder], Options())
    batches: list[int] = []
    assert embed(store, embedder(), batches.append) == sum(batches) == 3
    (folder / "a.txt").rename(folder / "renamed.txt")
    update(store, [folder], Options())
    assert embed(store, embedder()) == 0


def test_many_pdfs_come_out_in_order(store: SqliteStore, tmp_path: Path) -> None:
    for number in range(7):
        make_pdf(
            tmp_path / f"{number}.pdf", block(60, 700, [f"Paper {number} is about wheat number {number} and no other."])
        )
    results = update(store, [tmp_path], Options(workers=3))
    assert [Path(result.file.path).stem for result in results] == list("0123456")
    assert [result.file.chunks for result in results] == [1] * 7


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a named pipe")
def test_stopping_does_not_wait_for_a_pdf_that_is_being_read(store: SqliteStore, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Oats are sown early.\n")
    os.mkfifo(tmp_path / "b.pdf")  # its reader hangs: nobody writes

    def interrupt(result: Result) -> None:
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        update(store, [tmp_path / "a.txt", tmp_path / "b.pdf"], Options(), interrupt)
    assert time.monotonic() - started < 15
    assert found(store, "oats") == ["a.txt"]


def test_links_and_names(store: SqliteStore, folder: Path) -> None:
    (folder / "link.txt").symlink_to(folder / "a.txt")
    assert [path.name for path in find_files([folder, folder / "a.txt"])] == [
        "a.txt",
        "bad.pdf",
        "c.pdf",
        "b.md",
        "link.txt",
    ]
    strange = folder / os.fsdecode(b"caf\xe9.txt")
    try:
        strange.write_text("On rice\n\nRice grows in water.\n")
    except OSError:
        pytest.skip("this file system takes no such name")
    results = update(store, [folder], Options())
    assert statuses(results)["link.txt"] == "same"
    assert "is not valid Unicode; rename it" in next(r.file.error for r in results if "caf" in r.file.path)

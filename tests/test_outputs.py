"""Where results may be written, that they are written whole, and what stands in each format."""

from __future__ import annotations

import csv
import errno
import importlib.util
import io
import json
import os
import resource
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError, UsageError
from harness.outputs import WRITERS, atomic_write, check_target, write_records

MOVES = ["claim", "limitation", "big picture"]
FORMULA = '=HYPERLINK("http://x", "y")'


def move(text: str, sentences: list[int], **more: Any) -> dict[str, Any]:
    return {"text": text, "sentences": sentences, "spans": [[0, len(text)]], **more}


@pytest.fixture
def records() -> list[dict[str, Any]]:
    model = {"digest": "sha256:1", "backend": "embedded", "name": "nanda-annotator:mini"}
    return [
        {
            "status": "ok",
            "id": "2402.11651",
            "title": "Größe, 𝑥 and\nNA",
            "absent": {"limitation": 0.93},
            "moves": {"limitation": None, "claim": move(FORMULA, [5, 7], confidence=0.87654)},
            "style": "quote",
            "model": model,
            "error": None,
        },
        {"id": "b", "title": "", "status": "error", "moves": {}, "model": None, "error": "row 2: no abstract"},
        {
            "id": "c",
            "title": "C",
            "status": "partial",
            "moves": {"claim": move("a\x1b[31m \x00\ud800b\r\nc", [1]), "big picture": move("Big.", [2])},
            "model": model,
            "error": "row 3: cut",
        },
    ]


ROWS = [
    {"id": "2402.11651", "claim": "theirs", "note": "  NA "},
    {"id": "b", "claim": "", "note": 'a "quote", and\na line'},
    {"id": "c", "claim": "-1", "note": "x" * 60_000},
]
FIELDS = ["id", "note", "claim"]


# ---- check_target ----


def refused(path: Path | str, cwd: Path, *, yes: bool = False) -> str:
    with pytest.raises(UsageError) as caught:
        check_target(Path(path), yes=yes, cwd=cwd)
    return str(caught.value)


def test_a_new_file_below_the_working_folder_is_fine_and_nothing_is_made(tmp_path: Path) -> None:
    check_target(Path("out.csv"), yes=False, cwd=tmp_path)
    check_target(Path("new/er/OUT.CSV"), yes=False, cwd=tmp_path)
    check_target(tmp_path / "a" / ".." / "out.md", yes=False, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.txt", "out", ".csv", "out.csv.gz", ""])
def test_an_unknown_suffix_names_the_known_ones(name: str, tmp_path: Path) -> None:
    assert all(suffix in refused(name, tmp_path, yes=True) for suffix in WRITERS)


def test_leaving_the_working_folder_needs_yes(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(tmp_path)
    (inside / "link.csv").symlink_to(tmp_path / "not-there-yet.csv")
    for path in ("../out.csv", str(tmp_path / "out.csv"), "link/out.csv", "link.csv"):
        assert "leaves the working folder" in refused(path, inside)
        check_target(Path(path), yes=True, cwd=inside)
    assert "does not exist" in refused("../missing/out.csv", inside, yes=True)


def test_what_exists_is_replaced_only_with_yes(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("out.csv")
    for name in ("out.csv", "link.csv"):
        assert "exists already" in refused(name, tmp_path)
        check_target(Path(name), yes=True, cwd=tmp_path)


def test_targets_that_can_never_be_files(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop.csv").symlink_to("loop.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    assert "is a folder" in refused("folder.csv", tmp_path, yes=True)
    assert "not a regular file" in refused("pipe.csv", tmp_path, yes=True)
    assert "no file can be made" in refused("file/out.csv", tmp_path, yes=True)
    for name in ("x" * 300 + ".csv", "loop.csv", "a\0b.csv"):
        assert "not a usable path" in refused(name, tmp_path, yes=True)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder here that nobody may write to")
def test_a_folder_that_takes_no_files(tmp_path: Path) -> None:
    assert "no file can be made in /proc" in refused("/proc/out.csv", tmp_path, yes=True)


def test_parquet_without_pyarrow_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: list[dict[str, Any]]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "marginalia[tables]" in refused("out.parquet", tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match="pyarrow"):
        write_records(tmp_path / "out.parquet", records, moves=MOVES)
    assert list(tmp_path.iterdir()) == []


# ---- atomic_write ----


def test_atomic_write_makes_folders_keeps_permissions_and_follows_links(tmp_path: Path) -> None:
    target = tmp_path / "new" / "out.txt"
    with atomic_write(target) as handle:
        handle.write("é\r\n")
        assert not target.exists()
    assert target.read_bytes() == "é\r\n".encode()
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask
    target.chmod(0o640)
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    with atomic_write(link, binary=True) as handle:
        handle.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert [path.name for path in target.parent.iterdir()] == ["out.txt"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError, SystemExit])
def test_a_failure_leaves_the_old_file_and_nothing_else(failure: type[BaseException], tmp_path: Path) -> None:
    target = tmp_path / "out.txt"
    target.write_text("old")

    def fail() -> None:
        with atomic_write(target) as handle:
            handle.write("half")
            raise failure

    with pytest.raises(failure):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"out\.csv: could not be written .*No space.*free some space"):
        write_records(tmp_path / "out.csv", [], moves=MOVES)
    assert list(tmp_path.iterdir()) == []


@contextmanager
def small_files() -> Iterator[None]:
    """No file may grow beyond 4 KiB inside: the writes themselves fail, as on a full disk. No fixture: pytest's own report
    may go into a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_fails_whole(suffix: str, tmp_path: Path, records: list[dict[str, Any]]) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    many = [{**records[0], "id": os.urandom(16).hex()} for _ in range(400)]
    with pytest.raises(InputError, match="free some space"), small_files():
        write_records(tmp_path / f"out{suffix}", many, moves=MOVES)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_appeared_meanwhile_is_kept_unless_it_may_be_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out.csv"

    def late() -> None:
        with atomic_write(target, overwrite=False):
            target.write_text("theirs")

    with pytest.raises(InputError, match="appeared"):
        late()
    assert target.read_text() == "theirs"
    write_records(target, [], moves=[], overwrite=True)
    assert target.read_text().startswith("id,title,annotation_status")


# ---- formats ----


def read_csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))


def test_csv_layout_collisions_and_verbatim_cells(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    csv.field_size_limit(1_000_000)
    write_records(tmp_path / "out.csv", records, moves=MOVES, rows=ROWS, fieldnames=FIELDS)
    first, failed, partial = read_csv(tmp_path / "out.csv")
    assert list(first) == [
        *("id", "note", "claim", "claim_2", "limitation", "big picture"),
        *("claim_sentences", "limitation_sentences", "big picture_sentences"),
        *("claim_confidence", "limitation_confidence", "big picture_confidence"),
        *("annotation_status", "annotation_error", "annotation_model"),
    ]
    assert first["claim"] == "theirs"
    assert first["claim_2"] == FORMULA
    assert first["claim_sentences"] == "5;7"
    assert first["claim_confidence"] == "0.8765"
    assert first["limitation"] == first["limitation_sentences"] == first["big picture_confidence"] == ""
    assert first["limitation_confidence"] == "0.93"  # how sure it is that none is stated
    assert first["annotation_model"] == "nanda-annotator:mini"
    assert (failed["annotation_status"], failed["annotation_error"]) == ("error", "row 2: no abstract")
    assert failed["note"] == ROWS[1]["note"]
    assert partial["claim_2"] == "a[31m b\nc"
    assert partial["note"] == ROWS[2]["note"]


def test_csv_in_pandas_has_the_same_values(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    pandas = pytest.importorskip("pandas")
    write_records(tmp_path / "out.csv", records, moves=MOVES, rows=ROWS, fieldnames=FIELDS)
    frame = pandas.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    assert frame[FIELDS].to_dict("records") == [{name: row[name] for name in FIELDS} for row in ROWS]
    assert frame["claim_2"].tolist() == [FORMULA, "", "a[31m b\nc"]


def test_csv_without_input_columns_or_confidence(tmp_path: Path) -> None:
    record = {"id": "x", "title": "X", "status": "ok", "moves": {"claim": move("C.", [1])}, "model": "m", "error": None}
    write_records(tmp_path / "out.csv", [record], moves=["claim"])
    assert (tmp_path / "out.csv").read_text() == (
        "id,title,claim,claim_sentences,annotation_status,annotation_error,annotation_model\nx,X,C.,1,ok,,m\n"
    )


def test_annotating_an_annotated_table_loses_nothing(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    rows: list[dict[str, str]] = [{"annotation_status": "mine", "claim": "1", "claim_2": "2"}]
    write_records(tmp_path / "out.csv", records[:1], moves=["claim"], rows=rows)
    (row,) = read_csv(tmp_path / "out.csv")
    assert (row["claim"], row["claim_2"], row["claim_3"]) == ("1", "2", FORMULA)
    assert (row["annotation_status"], row["annotation_status_2"]) == ("mine", "ok")


def test_rows_must_match_records(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    with pytest.raises(ValueError, match="2 input rows for 3 records"):
        write_records(tmp_path / "out.csv", records, moves=MOVES, rows=ROWS[:2])
    assert list(tmp_path.iterdir()) == []


def test_json_and_jsonl_hold_the_records_in_one_key_order(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    shuffled = [dict(reversed(record.items())) for record in records]
    for name, order in (("a", records), ("b", shuffled)):
        for suffix in ("json", "jsonl"):
            write_records(tmp_path / f"{name}.{suffix}", order, moves=MOVES, rows=ROWS)
    text = (tmp_path / "a.jsonl").read_text(encoding="utf-8")
    assert text == (tmp_path / "b.jsonl").read_text(encoding="utf-8")
    assert "Größe, 𝑥" in text
    lines = [json.loads(line) for line in text.split("\n")[:-1]]
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == lines
    assert lines[:2] == records[:2]
    assert list(lines[0]) == ["id", "title", "status", "moves", "absent", "style", "model", "error"]
    assert list(lines[0]["moves"]) == ["claim", "limitation"]
    assert list(lines[0]["model"]) == ["name", "backend", "digest"]
    assert lines[2]["moves"]["claim"]["text"] == "a\x1b[31m \x00\ufffdb\r\nc"  # as long as it was: spans hold
    write_records(tmp_path / "none.json", [], moves=MOVES)
    assert json.loads((tmp_path / "none.json").read_text()) == []


def test_json_has_no_raw_controls_and_round_trips(tmp_path: Path) -> None:
    record = {"id": "a\x1b[2J\x9b2J\x7f\u2028b", "title": "", "status": "ok", "moves": {}}
    write_records(tmp_path / "out.jsonl", [record], moves=[])
    text = (tmp_path / "out.jsonl").read_text(encoding="utf-8")
    assert len(text.splitlines()) == 1
    assert text.rstrip("\n").isprintable()
    assert json.loads(text) == record


def test_markdown_shows_foreign_text_as_text(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    records[0]["title"] = "# A | <script>alert(1)</script> [x](javascript:y)\n\n## B `c` \x1b[2J"
    write_records(tmp_path / "out.md", records, moves=MOVES, title="My *papers*")
    text = (tmp_path / "out.md").read_text(encoding="utf-8")
    assert "# My \\*papers\\*\n\n3 papers, 1 failed; model nanda-annotator:mini." in text
    assert "| claim | 2 of 2 | 100% |" in text
    assert "| big picture | 1 of 2 | 50% |" in text
    assert '- **claim** =HYPERLINK("http://x", "y") (sentences 5, 7; confidence 0.88)' in text
    assert "- **limitation** *not stated* (confidence 0.93)\n" in text
    assert "- **big picture** *not stated*\n" in text
    assert "**error:** row 2: no abstract" in text
    assert [line for line in text.splitlines() if line.startswith("## ")][1:] == ["## b", "## C"]
    assert not set(text) & {"<", "\x1b", "\r"}


def test_markdown_renders_back_to_the_text(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    markdown_it = pytest.importorskip("markdown_it")
    hostile = "a *b* _c_ `d` ~~e~~ $f$ <i>g</i> &lt; [h](i) ![j](k) | \\ # l"
    records[0]["title"] = hostile
    write_records(tmp_path / "out.md", records[:1], moves=MOVES)
    tokens = markdown_it.MarkdownIt("gfm-like", {"linkify": False}).parse((tmp_path / "out.md").read_text("utf-8"))
    inline = [token for token in tokens if token.type == "inline" and token.content.startswith("a ")]
    assert {child.type for child in inline[0].children} <= {"text", "text_special"}
    assert "".join(child.content for child in inline[0].children) == hostile


def test_parquet_is_typed(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_records(tmp_path / "out.parquet", records, moves=MOVES, rows=ROWS, fieldnames=FIELDS)
    table = parquet.read_table(tmp_path / "out.parquet").to_pydict()
    assert table["claim"] == ["theirs", "", "-1"]
    assert table["claim_2"] == [FORMULA, None, "a[31m b\nc"]
    assert table["claim_sentences"] == [[5, 7], [], [1]]
    assert table["claim_confidence"] == [pytest.approx(0.87654), None, None]
    assert (table["limitation"], table["limitation_confidence"]) == ([None] * 3, [pytest.approx(0.93), None, None])
    assert table["annotation_status"] == ["ok", "error", "partial"]
    write_records(tmp_path / "none.parquet", [], moves=MOVES)
    assert parquet.read_table(tmp_path / "none.parquet").num_rows == 0


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_is_deterministic_and_bears_odd_records(suffix: str, tmp_path: Path) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    nothing: dict[str, Any] = {"id": None, "status": "error", "moves": None, "error": None}
    odd = [nothing, {"id": "\ud800", "title": "\ud83d", "moves": {}, "absent": [1]}]
    for name in "ab":
        write_records(tmp_path / f"{name}{suffix}", odd, moves=["m"])
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_markdown_of_one_paper_is_that_paper(tmp_path: Path, records: list[dict[str, Any]]) -> None:
    write_records(tmp_path / "one.md", [records[2] | {"title": "", "status": "ok"}], moves=["big picture"])
    assert (tmp_path / "one.md").read_text("utf-8") == "## c\n\n- **big picture** Big. (sentence 2)\n"

"""How fast /index reads PDFs, what a second run over an unchanged folder costs, and what becomes of difficult files.

    python benchmarks/index_speed.py [--copies 10] [--json index.json]

First each PDF of the project's data by itself: pages, chunks, seconds, or why it cannot be read. Then the command that a
user types, start of Python and all, on a folder with several copies of the readable ones (each copy ends with a comment
of its own, or the index would take them for one file), twice. Text only: nothing is embedded. Peak memory is the
operating system's figure for the largest process, readers included. Asked: 50 pages a second, the second run under one
second, no file over 20 seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from common import DATA, ROOT, need, report

from harness.search.index import Options, Result, update
from harness.search.sqlite_store import SqliteStore


class Run(NamedTuple):
    """What one command took: seconds on the clock, CPU seconds of all its processes, megabytes of the largest."""

    wall: float
    cpu: float
    peak_mb: float
    records: list[dict[str, Any]]


def one_by_one(pdfs: Sequence[Path], store: SqliteStore) -> list[tuple[Result, float]]:
    """Each file into the store by itself, and its seconds, the start of a reader included."""
    done = []
    for path in pdfs:
        started = time.perf_counter()
        (result,) = update(store, [path], Options())
        done.append((result, time.perf_counter() - started))
    return done


def multiplied(pdfs: Sequence[Path], folder: Path, copies: int) -> None:
    """Copies of files that differ in their bytes and not in what they say."""
    folder.mkdir()
    for path in pdfs:
        data = path.read_bytes()
        for copy in range(copies):
            (folder / f"{path.stem}-{copy}.pdf").write_bytes(data + b"\n%% copy %d\n" % copy)


def command(folder: Path, home: Path) -> Run:
    """``/index FOLDER`` in a process of its own."""
    environment = {**os.environ, "MARGINALIA_HOME": str(home)}
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        arguments = [sys.executable, str(ROOT / "agent.py"), "--json", f"/index {folder}"]
        process = subprocess.Popen(arguments, env=environment, stdout=output, stderr=subprocess.DEVNULL, cwd=folder.parent)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"/index ended with {process.returncode}")
        output.seek(0)
        records = [json.loads(line) for line in output]
    return Run(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, records)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=DATA / "pdf", help="other PDFs than the project's")
    parser.add_argument("--json", type=Path, help="write the figures")
    args = parser.parse_args()

    pdfs = sorted(need(args.folder).glob("*.pdf"))
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        with SqliteStore(place / "index.db") as store:
            done = one_by_one(pdfs, store)
        multiplied(
            [path for path, (result, _) in zip(pdfs, done, strict=True) if result.file.pages], place / "many", args.copies
        )
        first, second = (command(place / "many", place / "home") for _ in range(2))

    rows = [
        [
            Path(one.file.path).name,
            one.file.pages,
            one.file.chunks,
            f"{seconds:.2f}",
            one.file.error or "; ".join(one.notes),
        ]
        for one, seconds in done
    ]
    pages = sum(record["pages"] for record in first.records)
    result = {
        "files": len(first.records),
        "pages": pages,
        "pages_per_second": round(pages / first.wall, 1),
        "pages_per_cpu_second": round(pages / first.cpu, 1),
        "first_run_s": round(first.wall, 2),
        "second_run_s": round(second.wall, 2),
        "second_run_cpu_s": round(second.cpu, 2),
        "second_run_unchanged": all(record["status"] == "unchanged" for record in second.records),
        "peak_mb": round(first.peak_mb),
        "slowest_file_s": round(max(seconds for _, seconds in done), 2),
        "readable": sum(not one.file.error for one, _ in done),
        "refused": sum(bool(one.file.error) for one, _ in done),
    }
    report("PDFs one by one", ["file", "pages", "chunks", "s", "remark"], rows, {})
    report("/index on a folder", ["figure", "value"], [[key, value] for key, value in result.items()], result)
    if args.json:
        args.json.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()

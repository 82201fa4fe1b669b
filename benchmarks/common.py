"""What the benchmarks share: where the data lies, the machine in words, a table and one JSON line."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"
sys.path.insert(0, str(ROOT))


def need(path: Path) -> Path:
    """The path, or an exit that says what is missing."""
    if not path.exists():
        raise SystemExit(f"{path} is not there: this benchmark needs the project's data beside the checkout")
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file."""
    return [json.loads(line) for line in need(path).read_text(encoding="utf-8").split("\n") if line.strip()]


def machine() -> str:
    """Processor and cores, as far as the system says."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        name = models[0] if models else name
    return f"{name}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"


def report(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]], result: Mapping[str, Any]) -> None:
    """A table for people, then one JSON line for machines."""
    print(f"\n{title}\n{machine()}, {time.strftime('%Y-%m-%d')}")
    table = [list(map(str, header)), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    print(json.dumps({"benchmark": title, "machine": machine(), **result}))

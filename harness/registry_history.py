"""Who was served when: one JSON line in ``history.jsonl`` of a registry for each promotion and rollback."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

FILE = "history.jsonl"


def note(registry: Path, did: str, active: str, retired: Sequence[str], score: float | None) -> None:
    """Add a line; the registry's lock is held by the caller."""
    entry = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "did": did,
        "active": active,
        "retired": list(retired),
        "score": score,
    }
    with (registry / FILE).open("a", encoding="utf-8") as handle:
        handle.write(json.dumps(entry) + "\n")


def read(folders: Iterable[Path]) -> list[dict[str, Any]]:
    """All lines of some registries, the oldest first; a line that a kill cut short is left out."""
    found = []
    for folder in folders:
        path = folder / FILE
        for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
            try:
                found.append({**json.loads(line), "registry": str(folder)})
            except ValueError:
                continue
    return sorted(found, key=lambda entry: str(entry.get("time", "")))


def is_of(line: Mapping[str, Any], name: str) -> bool:
    """Whether a line tells of a model, with or without its tag.

    >>> is_of({"active": "a:2", "retired": ["b:1"]}, "b"), is_of({"active": "a:2"}, "a:1")
    (True, False)
    """
    names = [str(line.get("active", "")), *map(str, line.get("retired") or [])]
    return any(name in (one, one.rpartition(":")[0]) for one in names)

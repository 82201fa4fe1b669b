"""Peak memory of the process that runs a model, as the system counts it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from harness.models.base import Model
from harness.models.ollama_daemon import OllamaDaemon


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and theirs; empty where there is no /proc."""
    found: set[int] = set()
    with suppress(OSError):
        for listing in Path(f"/proc/{pid}/task").glob("*/children"):
            found |= {int(child) for child in listing.read_text().split()}
    return found.union(*(descendants(child) for child in found))


def peak_resident(pid: int) -> int:
    """Bytes that a process has held at most (``VmHWM``); 0 where the system does not say."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def peak_of(model: Model, before: set[int], host: str) -> int | None:
    """Bytes that running ``model`` has taken at most; None where nobody can say.

    A model of a daemon: what the daemon says it holds for it, in main and graphics memory together. Else the peaks of the
    processes of ours that were not there ``before`` the model was opened, pages of the model file included.
    """
    if model.info.backend == "remote":
        return None
    if model.info.backend == "ollama":
        daemon = OllamaDaemon(host)
        try:
            with daemon.translated(model.info.name):
                loaded = daemon.client.ps().models
        finally:
            daemon.close()
        return next((int(entry.size) for entry in loaded if entry.model == model.info.name and entry.size), None)
    total = sum(map(peak_resident, descendants(os.getpid()) - before))
    return total or None

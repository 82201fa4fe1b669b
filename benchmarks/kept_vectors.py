"""Vectors kept between the runs of benchmarks: a corpus is embedded once, in minutes, and measured often."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import ROOT
from rich.console import Console

from harness.config import load_settings
from harness.search.embedders import open_embedder
from harness.search.vectors import Embedder, Matrix

KEPT = ROOT / "finetune_output" / "vectors.db"


class Kept:
    """``Embed`` that asks another one only for texts it has not seen. One thread at a time."""

    def __init__(self, embedder: Embedder, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._embedder = embedder
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("CREATE TABLE IF NOT EXISTS vectors (key TEXT PRIMARY KEY, vector BLOB) WITHOUT ROWID")

    def __call__(self, texts: Sequence[str]) -> Matrix:
        """A row for each text."""
        keys = [hashlib.sha256(f"{self._embedder.name}\0{text}".encode()).hexdigest() for text in texts]
        found = {key: self._row(key) for key in keys}
        new = {key: text for key, text in zip(keys, texts, strict=True) if found[key] is None}
        if new:
            rows = np.asarray(self._embedder.embed(list(new.values())), dtype=np.float32)
            for key, row in zip(new, rows, strict=True):
                self._db.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?)", (key, row.tobytes()))
                found[key] = row
        return np.array([found[key] for key in keys], dtype=np.float32)

    def _row(self, key: str) -> Matrix | None:
        row = self._db.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone()
        return None if row is None else np.frombuffer(row[0], dtype=np.float32)

    def close(self) -> None:
        """Let go of both."""
        self._db.close()
        self._embedder.close()


def open_kept(name: str, path: Path = KEPT) -> Embedder:
    """The embedding model ``name`` (of Ollama, or a .gguf file), with a memory. Raises as ``open_embedder``."""
    embedder = open_embedder(name, load_settings(), Console(stderr=True))
    kept = Kept(embedder, path)
    return replace(embedder, embed=kept, close=kept.close)
